"""What both the terminal and a notebook need of an evening: what is to be done, and keeping what was."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from course_lib.interview.memory import Memory, Review, remember
from course_lib.interview.schedule import WEAK, Schedule
from course_lib.interview.tasks import Task, items_of, tasks_for

MINUTES = 60
"""Of an evening, unless something else is asked for."""
LEVELS = ("junior", "mid", "senior")
LATEST, KNOWN = 5, 4
"""A level is known well enough when four of the five of it that were asked last were."""


def now() -> datetime:
    """The moment, in the time zone of this computer."""
    return datetime.now().astimezone()


def tonight(topic: str | None = None, level: str | None = None, minutes: int | None = None) -> list[Task]:
    """What is due and what is new, as far as ``minutes`` go; by default what is left of today's hour.

    Whoever names minutes when there is nothing more planned for today gets what was planned for later.

    Raises:
        CourseError: there is nothing of that topic and level, or the memory cannot be read.
    """
    memory, today = Memory.load(), now().date()
    tasks = rising(tasks_for(topic, level), memory)
    schedule = Schedule(items_of(tasks), memory)
    if minutes is None:
        chosen = schedule.evening(today, MINUTES, schedule.spent(today))
    else:
        chosen = schedule.evening(today, minutes) or schedule.evening(today, minutes, planned=False)
    by_id = {task.id: task for task in tasks}
    return [by_id[item.id] for item in chosen]


def rising(tasks: Sequence[Task], memory: Memory) -> list[Task]:
    """First the lowest level that is not known well enough, and the ones above it; then what is left below."""
    level_of = {task.id: task.level for task in tasks}
    latest = dict[str, Review]()
    for review in sorted(memory.reviews, key=lambda review: review.at):
        latest.pop(review.id, None)
        latest[review.id] = review  # the one that came last stands last

    def is_known(level: str) -> bool:
        grades = [review.grade for id, review in latest.items() if level_of.get(id) == level][-LATEST:]
        return sum(grade not in WEAK for grade in grades) >= KNOWN

    at = next((place for place, level in enumerate(LEVELS[:-1]) if not is_known(level)), len(LEVELS) - 1)
    order = [*LEVELS[at:], *LEVELS[:at]]
    return sorted(tasks, key=lambda task: order.index(task.level))


def keep(task: Task, review: Review) -> tuple[date, str]:
    """Remember a review. Returns the day on which the task comes again, and a remark on the file if there is one.

    Raises:
        CourseError: it cannot be written.
    """
    remark = remember(review)
    (item,) = items_of([task])
    due = Schedule([item], Memory.load()).due_on(item, now().date())
    assert due is not None, "it has just been met"
    return due, remark


def day(moment: date) -> str:
    """``Monday, 14 December``."""
    return f"{moment:%A}, {moment.day} {moment:%B}"


def again(due: date) -> str:
    """``on Monday, 14 December``, or ``after the interview``."""
    until = Memory.load().until
    return "after the interview" if until and now().date() < until <= due else f"on {day(due)}"


def countdown() -> str:
    """``13 days until the interview on Monday, 14 December.``, or nothing where no date is set."""
    until = Memory.load().until
    days = (until - now().date()).days if until else 0
    return f"{days} day{'s' * (days != 1)} until the interview on {day(until)}." if until and days > 0 else ""
