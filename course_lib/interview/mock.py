"""A mock interview: a plan that fits the minutes, and a file that holds whatever was answered so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from course_lib.errors import CourseError
from course_lib.files import answering_for, write_whole
from course_lib.interview.memory import Kept, Memory, folder
from course_lib.interview.opinion import Opinion
from course_lib.interview.schema import Design, Level
from course_lib.interview.tasks import Task, tasks_for
from course_lib.judging.exercise import Drill

LATELY = timedelta(days=14)
SHORTEST, LONGEST = 15, 180  # minutes
DRILL_FROM, TWO_DRILLS_FROM, DESIGN_FROM = 25, 75, 45
LONG = 10  # minutes; a question that takes them
BELOW: dict[Level, Level] = {"mid": "junior", "senior": "mid"}
"""The level of the question that one is let in with."""
Kind = Literal["question", "drill", "design"]


class Part(Kept):
    """One part: what is asked, and once it was answered, what and in how many seconds.

    ``ticked`` are the numbers of the points that the answer had, from 1; None as long as nobody has looked.
    Of a drill ``answer`` is the code, and ``passed`` and ``verdict`` what the judge said of it.
    """

    kind: Kind
    id: str
    minutes: int
    answer: str | None = None
    seconds: float = 0.0
    ticked: tuple[int, ...] | None = None
    passed: bool | None = None
    verdict: str = ""
    hints: int = 0
    saw_solution: bool = False
    opinion: Opinion | None = None
    """What a model thought of the answer to a design question; it counts for nothing."""


class Interview(Kept):
    """An interview, in the order of its parts. ``finished`` when its report is written."""

    started: AwareDatetime
    level: Level
    minutes: int
    parts: tuple[Part, ...] = Field(min_length=1)
    finished: bool = False

    @property
    def file(self) -> Path:
        return folder() / f"{self.started:%Y-%m-%d_%H-%M-%S}.json"

    def with_part(self, place: int, part: Part) -> Interview:
        """The same with another part at ``place``, which is on disk when this returns.

        Raises:
            CourseError: it cannot be written.
        """
        parts = (*self.parts[:place], part, *self.parts[place + 1 :])
        return self.model_copy(update={"parts": parts}).kept()

    def kept(self) -> Interview:
        """Itself, once it is on disk. Raises as ``with_part`` does."""
        with answering_for(folder(), "COURSE_WORK"):
            write_whole(self.file, self.model_dump_json(indent=1))
        return self


def plan(level: Level, minutes: int, now: datetime, chance: Random, memory: Memory) -> Interview:
    """An interview of ``minutes``: one question of the level below, then questions, drills and a design question.

    What was asked in the last two weeks comes only where nothing else is left, and nothing is asked about twice.

    Raises:
        CourseError: it is too short or too long.
    """
    if not SHORTEST <= minutes <= LONGEST:
        raise CourseError(f"A mock interview takes {SHORTEST} to {LONGEST} minutes.", "Choose with --minutes.")
    lately = {review.id for review in memory.reviews if review.at > now - LATELY}
    left, chosen = float(minutes), list[Task]()

    def take(tasks: Iterable[Task], fits: Callable[[Task], bool], most: int) -> list[Task]:
        nonlocal left
        taken: list[Task] = []
        for task in _shuffled(tasks, lately, chance):
            new = not any(is_near(task, other) for other in chosen)
            new = new and (task.id not in lately or left >= LONG)  # the last minutes may stay free
            if len(taken) < most and fits(task) and task.minutes <= left and new:
                taken.append(task)
                chosen.append(task)
                left -= task.minutes
        return taken

    own = tasks_for(level=level)
    design = take(own, _is_design, int(minutes >= DESIGN_FROM and level != "junior"))
    drills = take(own, _is_drill, (minutes >= DRILL_FROM) + (minutes >= TWO_DRILLS_FROM))
    first = take(tasks_for(level=BELOW[level]), _is_spoken, 1) if level in BELOW else []
    spoken = take(own, _is_spoken, len(own))
    half = (len(spoken) + 1) // 2
    ordered = [*first, *spoken[:half], *drills[:1], *spoken[half:], *drills[1:], *design]
    return Interview(started=now, level=level, minutes=minutes, parts=tuple(map(_part, ordered)))


def _shuffled(tasks: Iterable[Task], lately: set[str], chance: Random) -> list[Task]:
    """By chance, those of lately last, and one topic after the other."""
    mixed = list(tasks)
    chance.shuffle(mixed)
    met = dict[str, int]()
    places = {}
    for task in mixed:
        met[task.topics[0]] = met.get(task.topics[0], 0) + 1
        places[task.id] = (task.id in lately, met[task.topics[0]])
    return sorted(mixed, key=lambda task: places[task.id])


def is_near(one: Task, other: Task) -> bool:
    """Whether two ask about the same: one section teaches them, the same exercises prove them, or both are long.

    A long question is a design question in other clothes, and one of these is enough.
    """
    if one.id == other.id:
        return True
    if isinstance(one, Drill) or isinstance(other, Drill) or not (_is_design(one) or _is_design(other)):
        return False
    taught = (one.lesson, one.section) == (other.lesson, other.section)
    return taught or len({*one.proof} & {*other.proof}) > 1 or min(one.minutes, other.minutes) >= LONG


def _is_design(task: Task) -> bool:
    return isinstance(task, Design)


def _is_drill(task: Task) -> bool:
    return isinstance(task, Drill)


def _is_spoken(task: Task) -> bool:
    return not (_is_drill(task) or _is_design(task))


def _part(task: Task) -> Part:
    kind: Kind = "drill" if _is_drill(task) else "design" if _is_design(task) else "question"
    return Part(kind=kind, id=task.id, minutes=task.minutes)


def unfinished() -> Interview | None:
    """The last interview that was left before its report; None where there is none.

    Raises:
        CourseError: the folder cannot be read.
    """
    with answering_for(folder(), "COURSE_WORK"):
        files = sorted(folder().glob("[0-9]*.json"), reverse=True) if folder().is_dir() else []
        for file in files:
            try:
                interview = Interview.model_validate_json(file.read_bytes())
            except ValidationError:
                continue  # somebody else's file, or one that was edited
            if not interview.finished:
                return interview
    return None
