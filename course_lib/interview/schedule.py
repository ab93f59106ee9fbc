"""When to meet a question or a drill again. The intervals are those of FSRS, by the package ``fsrs``.

FSRS plans for ever: an item is due on the day on which nine in ten would still know it. An interview has a date, of
which it knows nothing. ``Schedule`` plans towards that: what is due after it is known well enough on it and may stay
there, what is weak comes once more before it whatever its interval, the days until then share what is new, and the last
one is light: half of the minutes, for what is weak. So that these suffice, the day before takes on the weak, too, and
half as much that is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from math import ceil

from fsrs import Card, Rating, Scheduler

from course_lib.interview.memory import Grade, Memory, Review

RATINGS: dict[Grade, Rating] = {
    "again": Rating.Again, "hard": Rating.Hard, "good": Rating.Good, "easy": Rating.Easy
}  # fmt: skip
WEAK: tuple[Grade, ...] = ("again", "hard")
DAY = timedelta(days=1)
LIGHT = 0.5  # of the minutes, on the day before the interview
SCHEDULER = Scheduler(learning_steps=(), relearning_steps=(), enable_fuzzing=False)
"""No steps within a day, since nothing is asked twice in an evening; no chance, so that a plan can be told."""


@dataclass(frozen=True)
class Item:
    """A question or a drill: how it is called, and how long it takes."""

    id: str
    minutes: int


@dataclass
class Met:
    """An item that was asked before: its card after the last review, that review, and how many there were."""

    card: Card
    last: Review
    times: int

    @property
    def weak(self) -> bool:
        return self.last.grade in WEAK


@dataclass(frozen=True)
class Schedule:
    """What to do on an evening.

    ``items`` are to be learned, in the order in which new ones are taken; ``memory`` is what was asked before.
    """

    items: Sequence[Item]
    memory: Memory = field(default_factory=Memory)

    def evening(self, today: date, minutes: float, spent: float = 0, planned: bool = True) -> list[Item]:
        """What fits into ``minutes``, of which ``spent`` are gone: what is due, weakest first, then new items.

        An item longer than all of the minutes comes alone. On the day before the interview, half of the minutes count.
        Where it is not ``planned``, everything new may come, as on a day without a date.
        """
        days, light = self._days_left(today) if planned else None, minutes * LIGHT
        left = (light if days == 1 else minutes) - spent
        chosen: list[Item] = []

        def take(items: Sequence[Item]) -> None:
            nonlocal left
            for item in items:
                if item.minutes <= left or not (chosen or spent):
                    chosen.append(item)
                    left -= item.minutes

        take(self._due(today))
        if days == 2:
            left = min(left, light)
        take(self._new_today(today, days))
        return chosen

    def spent(self, today: date) -> int:
        """The minutes of what was asked today already."""
        return sum(item.minutes for item in self.items if self._met_today(item, today))

    def due_on(self, item: Item, today: date) -> date | None:
        """The day on which an item comes again; None for one that was never asked."""
        met = self._met.get(item.id)
        if met is None:
            return None
        due = met.card.due.date()
        until = self.memory.until
        if until is None or today >= until or not met.weak or met.last.at.date() >= until - DAY:
            return due
        return min(due, until - DAY)

    @cached_property
    def _met(self) -> dict[str, Met]:
        met: dict[str, Met] = {}
        for review in sorted(self.memory.reviews, key=lambda review: review.at):
            before = met.get(review.id)
            card = before.card if before else Card(card_id=len(met))
            card, _ = SCHEDULER.review_card(card, RATINGS[review.grade], review_datetime=_noon(review.at.date()))
            met[review.id] = Met(card, review, 1 + (before.times if before else 0))
        return met

    def _due(self, today: date) -> list[Item]:
        """Asked before, not today, and due by today: those that are most likely forgotten first.

        Two days before the interview what is weak is due as well, and comes first: the last day has little room.
        """
        late = self._days_left(today) == 2
        due = [
            item
            for item in self.items
            if (on := self.due_on(item, today)) is not None
            if on <= today or (late and self._met[item.id].weak)
        ]
        due = [item for item in due if not self._met_today(item, today)]
        if self._days_left(today) == 1:
            due = [item for item in due if self._met[item.id].weak]
        recall = {item.id: SCHEDULER.get_card_retrievability(self._met[item.id].card, _noon(today)) for item in due}
        return sorted(due, key=lambda item: (late and not self._met[item.id].weak, recall[item.id]))

    def _new_today(self, today: date, days: int | None) -> list[Item]:
        """New items, in their order: with a date, an equal share of them for each day but the last."""
        new = [item for item in self.items if item.id not in self._met]
        if days is None:
            return new
        begun = sum(self._met_today(item, today) and self._met[item.id].times == 1 for item in self.items)
        return new[: max(0, ceil((len(new) + begun) / (days - 1)) - begun)] if days > 1 else []

    def _met_today(self, item: Item, today: date) -> bool:
        met = self._met.get(item.id)
        return met is not None and met.last.at.date() == today

    def _days_left(self, today: date) -> int | None:
        until = self.memory.until
        return (until - today).days if until is not None and until > today else None


def _noon(day: date) -> datetime:
    """FSRS counts whole days between two moments, and 23 hours, from one evening to the next, would be none."""
    return datetime.combine(day, time(12), UTC)
