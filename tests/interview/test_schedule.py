"""What an evening brings, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from course_lib.interview.memory import Grade, Memory, Review
from course_lib.interview.schedule import DAY, Item, Schedule

HOME = ZoneInfo("Pacific/Auckland")  # far from UTC: its evening is another day there
FIRST = datetime(2026, 12, 7, 19, 30, tzinfo=HOME)
ITEMS = [Item(f"item-{number:02}", 5) for number in range(40)]

Answering = Callable[[Item, int], Grade]


def live(evenings: int, answering: Answering, until: date | None = None, minutes: int = 60) -> list[list[str]]:
    """What each evening brought, from the first on, for somebody who answers like that at the n-th time."""
    memory, brought, times = Memory(until=until), [], dict[str, int]()
    for number in range(evenings):
        now = FIRST + number * DAY
        chosen = Schedule(ITEMS, memory).evening(now.date(), minutes)
        brought.append([item.id for item in chosen])
        for place, item in enumerate(chosen):
            times[item.id] = times.get(item.id, 0) + 1
            review = Review(
                id=item.id, at=now + timedelta(minutes=5 * place), grade=answering(item, times[item.id]), seconds=99
            )
            memory = memory.model_copy(update={"reviews": (*memory.reviews, review)})
    return brought


def good(item: Item, time: int) -> Grade:
    return "good"


def first_fails(item: Item, time: int) -> Grade:
    return "again" if time == 1 else "good"


def test_an_evening_fits_its_minutes_and_repeats_nothing() -> None:
    for answering in (good, first_fails):
        for ids in live(7, answering):
            assert sum(5 for _ in ids) <= 60
            assert len(set(ids)) == len(ids)


def test_what_went_wrong_comes_tomorrow_and_first() -> None:
    first, second, *_ = live(2, lambda item, time: "again" if item.id == "item-03" and time == 1 else "good")
    assert second[0] == "item-03"
    assert not set(second[1:]) & set(first)


def test_what_is_known_comes_at_growing_intervals() -> None:
    evenings = live(60, good, minutes=500)
    days = [number for number, ids in enumerate(evenings) if "item-00" in ids]
    gaps = [later - earlier for earlier, later in pairwise(days)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 2
    assert gaps[-1] > 7


def test_before_an_interview_everything_is_met_and_the_last_day_brings_only_what_is_weak() -> None:
    until = FIRST.date() + 7 * DAY
    evenings = live(7, first_fails, until, minutes=120)
    assert {id for ids in evenings[:6] for id in ids} == {item.id for item in ITEMS}
    new = [
        len([id for id in ids if not any(id in before for before in evenings[:number])])
        for number, ids in enumerate(evenings)
    ]
    assert new == [7, 7, 7, 7, 6, 6, 0]
    met_in_the_end = set(evenings[5])
    assert set(evenings[6]) <= met_in_the_end, "only what failed on the evening before"
    assert len(evenings[6]) * 5 <= 60, "half of the minutes"


def test_everything_weak_is_met_again_before_the_interview() -> None:
    until = FIRST.date() + 4 * DAY

    memory = Memory(until=until, reviews=(Review(id="item-00", at=FIRST, grade="easy", seconds=1),))
    known = Schedule(ITEMS, memory).due_on(ITEMS[0], FIRST.date())
    assert known is not None and known >= until, "known well enough on that day"
    easily = [Review(id="item-00", at=FIRST - 20 * ago * DAY, grade="easy", seconds=1) for ago in (3, 2, 1)]
    reviews = (*easily, Review(id="item-00", at=FIRST, grade="hard", seconds=1))
    by_itself = Schedule(ITEMS, Memory(reviews=reviews)).due_on(ITEMS[0], FIRST.date())
    assert by_itself is not None and by_itself > until
    assert Schedule(ITEMS, Memory(until=until, reviews=reviews)).due_on(ITEMS[0], FIRST.date()) == until - DAY


def test_a_date_that_is_past_plans_nothing() -> None:
    memory = Memory(until=FIRST.date())
    assert Schedule(ITEMS, memory).evening(FIRST.date(), 60) == ITEMS[:12]


def test_what_was_asked_today_is_spent_and_its_share_taken() -> None:
    memory = Memory(until=FIRST.date() + 5 * DAY)
    asked = Schedule(ITEMS, memory).evening(FIRST.date(), 60)
    assert len(asked) == 10
    reviews = tuple(Review(id=item.id, at=FIRST, grade="good", seconds=9) for item in asked)
    later = Schedule(ITEMS, memory.model_copy(update={"reviews": reviews}))
    assert later.spent(FIRST.date()) == 50
    assert later.spent(FIRST.date() + DAY) == 0
    assert later.evening(FIRST.date(), 60) == []


def test_an_item_longer_than_the_evening_comes_alone() -> None:
    long = [Item("long", 20), Item("short", 5)]
    assert Schedule(long).evening(FIRST.date(), 10) == long[:1]


def test_what_is_left_of_an_hour_is_too_little_for_another_item() -> None:
    asked = Schedule(ITEMS).evening(FIRST.date(), 58)
    assert len(asked) == 11
    assert Schedule(ITEMS).evening(FIRST.date(), 58, spent=55) == []
    assert Schedule(ITEMS).evening(FIRST.date(), 58, spent=53) == ITEMS[:1]


def test_seven_evenings_of_somebody_with_mixed_answers() -> None:
    grades: tuple[Grade, ...] = ("good", "again", "easy", "hard", "again", "good", "hard")
    until = FIRST.date() + 7 * DAY
    given: dict[str, Grade] = {}

    def mixed(item: Item, time: int) -> Grade:
        given[item.id] = grades[(int(item.id[-2:]) + 3 * time) % len(grades)]
        return given[item.id]

    def weak_after(evenings: int) -> set[str]:
        given.clear()
        live(evenings, mixed, until)
        return {id for id, grade in given.items() if grade in ("again", "hard")}

    brought = live(7, mixed, until)
    assert all(len(ids) == len(set(ids)) for ids in brought)
    assert len(weak_after(5)) > 6, "more than the last evening holds"
    assert weak_after(5) <= {*brought[5], *brought[6]}
    assert brought[6] and {*brought[6]} <= weak_after(6)
    assert 5 * len(brought[6]) <= 30


def test_the_last_evening_stays_light_when_it_is_asked_for_twice() -> None:
    until = FIRST.date() + DAY
    reviews = tuple(Review(id=item.id, at=FIRST - 3 * DAY, grade="again", seconds=1) for item in ITEMS)
    schedule = Schedule(ITEMS, Memory(until=until, reviews=reviews))
    assert len(schedule.evening(FIRST.date(), 60)) == 6
    assert schedule.evening(FIRST.date(), 60, spent=30) == []


def test_what_is_weak_on_the_last_evening_does_not_come_on_it_again() -> None:
    until = FIRST.date() + DAY
    reviews = (Review(id="item-00", at=FIRST, grade="again", seconds=1),)
    due = Schedule(ITEMS, Memory(until=until, reviews=reviews)).due_on(ITEMS[0], FIRST.date())
    assert due is not None and due > FIRST.date()


def test_who_wants_more_than_was_planned_gets_something_new() -> None:
    memory = Memory(until=FIRST.date() + 5 * DAY)
    asked = Schedule(ITEMS, memory).evening(FIRST.date(), 60)
    reviews = tuple(Review(id=item.id, at=FIRST, grade="good", seconds=9) for item in asked)
    later = Schedule(ITEMS, memory.model_copy(update={"reviews": reviews}))
    assert later.evening(FIRST.date(), 20) == []
    assert later.evening(FIRST.date(), 20, planned=False) == ITEMS[10:14]
