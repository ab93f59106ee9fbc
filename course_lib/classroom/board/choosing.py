"""Which exercises are the columns of a board."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.exercises import drills, manifest
from course_lib.judging.exercise import Exercise
from course_lib.masking import short

MOST = 30  # columns that can be told apart from the back of a room
DRILLS = "drills"
LESSONS = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?", re.ASCII)


def all_exercises() -> dict[str, Exercise]:
    """Exercises of the lessons in order, then drills, by id."""
    return {exercise.id: exercise for exercise in [*manifest(), *drills()]}


def chosen_lessons(text: str) -> list[str]:
    """The lessons that ``03-05,08`` or ``drills`` names: ``["03", "04", "05", "08"]``.

    Raises:
        CourseError: it names none, or one that has no exercises.
    """
    known = {_lesson(exercise) for exercise in all_exercises().values()}
    found: list[str] = []
    for part in text.replace(" ", "").split(","):
        if part == DRILLS:
            found.append(DRILLS)
        elif match := LESSONS.fullmatch(part):
            found += [f"{number:02}" for number in range(int(match[1]), int(match[2] or match[1]) + 1)]
        else:
            found = []
            break
    missing = [lesson for lesson in found if lesson not in known]
    if not found or missing:
        what = f"There are no exercises of lesson {missing[0]}." if missing else f"{short(text)!r} names no lessons."
        raise CourseError(what, f"Write them like this: {command('classroom board --lessons 03-05,08')}, or drills")
    return list(dict.fromkeys(found))


def columns(lessons: Sequence[str] | None, tried: Collection[str]) -> list[Exercise]:
    """The exercises to show: of these lessons, or without any named of the latest in which something was tried.

    Args:
        lessons: as ``chosen_lessons`` gives them.
        tried: ids of exercises of which there was a verdict lately.

    Returns:
        At most ``MOST``: without named lessons the latest lessons that fit, else the first of what was named.
    """
    exercises = all_exercises()
    if lessons is not None:
        return [exercise for exercise in exercises.values() if _lesson(exercise) in lessons][:MOST]
    by_lesson: dict[str, list[Exercise]] = {}
    for exercise in exercises.values():
        by_lesson.setdefault(_lesson(exercise), []).append(exercise)
    busy = [lesson for lesson, of in by_lesson.items() if any(exercise.id in tried for exercise in of)]
    found: list[Exercise] = []
    for lesson in reversed(busy or [next(iter(by_lesson))]):
        if len(found) + len(by_lesson[lesson]) > MOST:
            break
        found = by_lesson[lesson] + found
    return found


def _lesson(exercise: Exercise) -> str:
    return exercise.lesson if exercise.lesson.isdigit() else DRILLS
