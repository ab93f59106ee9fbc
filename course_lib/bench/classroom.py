"""A class on one server: what opening and checking cost when one learner works, ten, thirty, sixty."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from course_lib.bench.learners import Seen, class_folder, make_class, watch_class
from course_lib.bench.report import seconds_text, write_table
from course_lib.errors import CourseError

SIZES = (1, 10, 30, 60)
SECONDS = 120.0
PAUSE = 10.0  # between two deeds of a learner; people take longer
QUICK = (1, 4)
HEAD = [
    "learners", "databases", "first opening", "p95", "opening", "p95", "check", "p95", "checks", "wrong",
    "clients", "of one", "memory",
]  # fmt: skip
NOTES = (
    "Learners are processes on the machine of the server, so they take from its processors what a class with machines "
    "of its own does not. Four in five of what they do are checks.",
    "First opening: all at the same moment, each building a template of its own (or what a lent database is filled "
    "from). Clients: the most connections of the class at once, and of one learner. Memory: of all the server's "
    "processes, what they share counted once.",
)


@dataclass(frozen=True)
class Room:
    """A class of ``learners``; seconds are medians, and of the slowest twentieth the fastest.

    ``made``: whether learners make their databases, or are lent them.
    """

    learners: int
    made: bool
    first: tuple[float, float]
    opening: tuple[float, float]
    check: tuple[float, float]
    checks: int
    wrong: dict[str, int]
    clients: int
    of_one: int
    memory: int

    @classmethod
    def of(cls, learners: int, made: bool, seen: Seen) -> Room:
        wrong = dict(seen.wrong) | ({"learners who ended without a word": seen.missing} if seen.missing else {})
        times = [_half_and_most(seen.seconds(what)) for what in ("first", "open", "check")]
        counts = len(seen.seconds("check")), wrong, seen.clients, seen.of_one, seen.memory
        return cls(learners, made, times[0], times[1], times[2], *counts)

    @property
    def row(self) -> list[str]:
        times = [seconds_text(value) for pair in (self.first, self.opening, self.check) for value in pair]
        counts = [str(value) for value in (self.checks, sum(self.wrong.values()), self.clients, self.of_one)]
        return [str(self.learners), "made" if self.made else "lent", *times, *counts, f"{self.memory / 1e6:,.0f} MB"]


def _half_and_most(seconds: Sequence[float]) -> tuple[float, float]:
    """The middle one, and the one that 95 of 100 do not pass."""
    if not seconds:
        return math.nan, math.nan
    return seconds[len(seconds) // 2], seconds[max(0, math.ceil(0.95 * len(seconds)) - 1)]


def measure(quick: bool) -> None:
    """Print and write ``bench-results/classroom``."""
    sizes, seconds, pause = (QUICK, 20.0, 3.0) if quick else (SIZES, SECONDS, PAUSE)
    rooms, refused = [], []
    for made in (True, False):
        for count in sizes:
            try:
                rooms.append(asyncio.run(_room(count, made, seconds, pause)))
            except CourseError as error:  # the server is too small for so many
                refused.append(f"{count} learners: {error.sentence}")
    wrong = [f"{room.learners} learners, {count} times: {what}" for room in rooms for what, count in room.wrong.items()]
    content = {"rooms": [asdict(room) for room in rooms], "refused": refused}
    title = "A class on one server"
    notes = [f"Each learner works for {seconds:.0f} s and waits {pause:.0f} s between two deeds on average.", *NOTES]
    write_table("classroom", title, HEAD, [room.row for room in rooms], content, [*notes, *refused, *wrong])


async def _room(count: int, made: bool, seconds: float, pause: float) -> Room:
    with class_folder() as folder:
        lines = await make_class("bench", count, made)
        return Room.of(count, made, await watch_class(folder, "bench", lines, seconds, pause))
