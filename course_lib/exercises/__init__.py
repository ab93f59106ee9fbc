"""Exercises: the learner writes code, and within a second knows whether it is right and what gives it away if not."""

from course_lib.exercises.check import check, hint, judge_answer, progress, solution
from course_lib.exercises.exercise import Exercise, find_exercise, manifest
from course_lib.exercises.verdict import CheckFailed, Verdict

__all__ = [
    "CheckFailed",
    "Exercise",
    "Verdict",
    "check",
    "find_exercise",
    "hint",
    "judge_answer",
    "manifest",
    "progress",
    "solution",
]
