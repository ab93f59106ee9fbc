"""Exercises: the learner writes code, and within a second knows whether it is right and what gives it away if not."""

from course_lib.exercises.check import check, hint, progress, solution
from course_lib.exercises.manifest import drills, find_exercise, manifest
from course_lib.judging.exercise import Exercise
from course_lib.judging.judge import judge_answer
from course_lib.judging.verdict import CheckFailed, Verdict

__all__ = [
    "CheckFailed",
    "Exercise",
    "Verdict",
    "check",
    "drills",
    "find_exercise",
    "hint",
    "judge_answer",
    "manifest",
    "progress",
    "solution",
]
