"""The board as it is read off: learners by exercises, who is stuck, and which mistakes are made now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from course_lib.classroom.board.saying import Said, what_to_say
from course_lib.judging.exercise import Exercise
from course_lib.judging.verdict import State

MANY_TRIES = 4
NOW = timedelta(minutes=15)  # so long a mistake is one that is made now
GONE = timedelta(minutes=45)  # who has not tried for so long is at a break, or elsewhere

Look = Literal["right", "tried", "stuck", "seen"]


@dataclass(frozen=True)
class Standing:
    """One learner and one exercise: ``seen_at`` is of the latest verdict, ``first_try`` of the first on an answer."""

    state: State
    mistake: str
    tries: int
    first_try: datetime | None
    seen_at: datetime


@dataclass(frozen=True)
class Learner:
    role: str
    name: str
    shown: bool = True
    """Whether they wish to be on the board."""


@dataclass(frozen=True)
class Stuck:
    """A learner who has tried for long, or often, and goes on trying."""

    learner: Learner
    exercise: Exercise
    tries: int
    minutes: int
    """Since the first try."""
    quiet: int
    """Minutes since the latest."""
    mistake: str


@dataclass(frozen=True)
class Mistake:
    """A mistake that was the latest verdict of so many learners a moment ago."""

    exercise: Exercise
    learners: int
    said: Said


@dataclass(frozen=True)
class Board:
    """Everything that is shown, at one moment.

    Attributes:
        exercises: the columns.
        standings: by role and exercise, those of other exercises too.
    """

    class_name: str
    at: datetime
    learners: Sequence[Learner]
    exercises: Sequence[Exercise]
    standings: Mapping[tuple[str, str], Standing]
    known: Mapping[str, Exercise] = field(repr=False)
    """All exercises there are, by id."""

    def look(self, learner: Learner, exercise: Exercise) -> Look | None:
        """How a cell of the grid looks; None where nothing is known."""
        standing = self.standings.get((learner.role, exercise.id))
        if standing is None:
            return None
        if standing.state == "right":
            return "right"
        if not standing.tries:
            return "seen"
        return "stuck" if self._is_long(standing, exercise) and not self._went_on(learner, standing) else "tried"

    def tries(self, learner: Learner, exercise: Exercise) -> int:
        standing = self.standings.get((learner.role, exercise.id))
        return standing.tries if standing else 0

    def right(self, exercise: Exercise) -> int:
        """How many learners have solved it."""
        return sum(self.look(learner, exercise) == "right" for learner in self.learners)

    def solved(self, learner: Learner) -> int:
        """How many of the columns."""
        return sum(self.look(learner, exercise) == "right" for exercise in self.exercises)

    def quiet(self, learner: Learner) -> int | None:
        """Minutes since their latest verdict; None before the first."""
        seen = self._latest.get(learner.role)
        return self._minutes(seen) if seen else None

    def stuck(self) -> list[Stuck]:
        """Who is stuck, the longest first, at the one exercise that they tried last."""
        here, found = {learner.role: learner for learner in self.learners}, []
        for (role, id), standing in self.standings.items():
            learner, exercise = here.get(role), self.known.get(id)
            if learner and exercise and self.look(learner, exercise) == "stuck":
                mistake = what_to_say(exercise, standing.mistake).name
                minutes = self._minutes(standing.first_try or standing.seen_at)
                found.append(
                    Stuck(learner, exercise, standing.tries, minutes, self._minutes(standing.seen_at), mistake)
                )
        return sorted(found, key=lambda one: (-one.minutes, -one.tries, one.learner.name))

    def mistakes(self) -> list[Mistake]:
        """Those made in the last quarter of an hour and not mended since, the most frequent first."""
        here = {learner.role for learner in self.learners}
        count: dict[tuple[str, str], int] = {}
        for (role, id), standing in self.standings.items():
            if role in here and id in self.known and standing.state == "wrong" and self.at - standing.seen_at <= NOW:
                name = what_to_say(self.known[id], standing.mistake).name
                count[id, name] = count.get((id, name), 0) + 1
        order = {id: place for place, id in enumerate(self.known)}
        found = [
            Mistake(self.known[id], number, what_to_say(self.known[id], name)) for (id, name), number in count.items()
        ]
        return sorted(found, key=lambda one: (-one.learners, order[one.exercise.id], one.said.name))

    def _is_long(self, standing: Standing, exercise: Exercise) -> bool:
        """Tried often, or for longer than the exercise takes; and not long ago."""
        if standing.first_try is None or self.at - standing.seen_at > GONE:
            return False
        late = self.at - standing.first_try > timedelta(minutes=exercise.minutes)
        return late or standing.tries >= MANY_TRIES

    def _went_on(self, learner: Learner, standing: Standing) -> bool:
        """Whether they have tried another exercise since."""
        return standing.seen_at < self._latest_try[learner.role]

    @cached_property
    def _latest(self) -> dict[str, datetime]:
        """When the latest verdict of each role was."""
        return _latest_of((role, standing.seen_at) for (role, _), standing in self.standings.items())

    @cached_property
    def _latest_try(self) -> dict[str, datetime]:
        """The same of verdicts on an answer."""
        return _latest_of((role, standing.seen_at) for (role, _), standing in self.standings.items() if standing.tries)

    def _minutes(self, since: datetime) -> int:
        return max(0, int((self.at - since).total_seconds() // 60))


def _latest_of(moments: Iterable[tuple[str, datetime]]) -> dict[str, datetime]:
    latest: dict[str, datetime] = {}
    for role, at in moments:
        latest[role] = max(at, latest.get(role, at))
    return latest
