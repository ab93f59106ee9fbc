"""All exercises in order, and finding one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from course_lib.errors import CourseError
from course_lib.judging.exercise import Exercise
from course_lib.masking import short


def lesson_exercises(lesson: str) -> list[Exercise]:
    """The exercises of one lesson in order; none for a lesson without."""
    name = f"course_lib.exercises.lesson_{lesson}"
    if find_spec(name) is None:
        return []
    exercises: list[Exercise] = [kind() for kind in import_module(name).EXERCISES]
    return exercises


def manifest() -> list[Exercise]:
    """All exercises of the course in order."""
    return [exercise for number in range(20) for exercise in lesson_exercises(f"{number:02}")]


def find_exercise(id: str) -> Exercise:
    """The exercise called ``"2.3"``.

    Raises:
        CourseError: there is none of that name; the mend lists those of the lesson.
    """
    lesson = str(id).strip().partition(".")[0]
    known = lesson_exercises(lesson.zfill(2)) if lesson.isdigit() else []
    for exercise in known:
        if exercise.id == str(id).strip():
            return exercise
    names = ", ".join(exercise.id for exercise in known or manifest())
    raise CourseError(f"There is no exercise {short(repr(id))}.", f"Choose one of: {names}")
