"""All exercises in order, and finding one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from course_lib.errors import CourseError
from course_lib.judging.exercise import DRILL, Drill, Exercise
from course_lib.masking import short


def lesson_exercises(lesson: str) -> list[Exercise]:
    """The exercises of one lesson in order; none for a lesson without."""
    name = f"course_lib.exercises.lesson_{lesson}"
    if find_spec(name) is None:
        return []
    exercises: list[Exercise] = [kind() for kind in import_module(name).EXERCISES]
    return exercises


def manifest() -> list[Exercise]:
    """All exercises of the lessons in order."""
    return [exercise for number in range(20) for exercise in lesson_exercises(f"{number:02}")]


def drills() -> list[Drill]:
    """All repair drills, juniors' first."""
    from course_lib.exercises.interview import DRILLS

    return [kind() for kind in DRILLS]


def find_exercise(id: str) -> Exercise:
    """The exercise called ``"2.3"``, or the drill called ``"M4"``.

    Raises:
        CourseError: there is none of that name; the mend lists those of the lesson. Or it is no text: ``1.10`` is the
            number 1.1.
    """
    if not isinstance(id, str):
        raise _no_name(id)
    wanted = id.strip().upper()
    known = _beside(wanted)
    for exercise in known:
        if exercise.id == wanted:
            return exercise
    names = ", ".join(exercise.id for exercise in known or manifest())
    raise CourseError(f"There is no exercise {short(repr(id))}.", f"Choose one of: {names}")


def _beside(id: str) -> list[Exercise]:
    """The exercises of the lesson that ``id`` begins with, or the drills where it begins like one."""
    if DRILL.fullmatch(id):
        return [*drills()]
    lesson = id.partition(".")[0]
    return lesson_exercises(lesson.zfill(2)) if lesson.isdigit() else []


def _no_name(id: object) -> CourseError:
    if not isinstance(id, float):
        return CourseError(f"An exercise has a name in quotes; {short(repr(id))} is none.", 'Write it like this: "1.3"')
    meant = [name for name in (f"{id}", f"{id}0") if any(exercise.id == name for exercise in _beside(name))]
    names = " or ".join(f'"{name}"' for name in meant or ["1.3"])
    return CourseError(
        f"An exercise has a name in quotes; without them it is a number, here {id}.", f"Put quotes around it: {names}"
    )
