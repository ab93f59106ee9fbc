"""``course drill``: an evening's questions and drills in the terminal, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date

from course_lib.cli.drilling import repair
from course_lib.cli.opinions import offered
from course_lib.cli.screen import show
from course_lib.cli.speaking import Left, answer, go_on
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.exercises import drills
from course_lib.interview.evening import again, countdown, day, keep, now, tonight
from course_lib.interview.lookup import bank
from course_lib.interview.memory import Memory, Review, set_date
from course_lib.interview.schedule import Schedule
from course_lib.interview.tasks import Task, all_tasks, find_task, items_of, tasks_for, title_of
from course_lib.judging.exercise import Drill


def run_drill(
    ids: Sequence[str],
    topic: str | None,
    level: str | None,
    minutes: int | None,
    until: str | None,
    listed: bool,
    editor: bool,
) -> None:
    """Set the day if one is given; then list, or ask what is to be asked.

    Raises:
        CourseError: there is nothing of that name, the date is none, or nobody can answer.
    """
    if until is not None:
        _plan_towards(until)
    if listed:
        _list(topic, level)
        return
    tasks = [find_task(id) for id in ids] or tonight(topic, level, minutes)
    if not sys.stdin.isatty():
        raise CourseError(
            "This asks and reads answers, and its input is not a terminal.",
            f"Type it in a terminal. What there is: {command('drill --list')}",
        )
    if tasks:
        _evening(tasks, editor)
    else:
        show(f"Nothing for today. {countdown()}".strip(), [("next", f"{command('drill --minutes 20')} brings more.")])


def _plan_towards(until: str) -> None:
    if until.strip().lower() == "none":
        set_date(None)
        return
    try:
        interview = date.fromisoformat(until.strip())
    except ValueError as error:
        raise CourseError(
            f"{until[:20]!r} is no date.", f"Write it like this: {command('drill --until 2027-01-31')}"
        ) from error
    if interview <= now().date():
        raise CourseError(f"{interview} is not ahead.", "Name the day of the interview; `none` plans towards no date.")
    set_date(interview)


def _list(topic: str | None, level: str | None) -> None:
    schedule, today = Schedule(items_of(all_tasks()), Memory.load()), now().date()
    for task in tasks_for(topic, level):
        due = schedule.due_on(items_of([task])[0], today)
        when = "new" if due is None else "due" if due <= today else day(due)
        kind = "drill" if isinstance(task, Drill) else ", ".join(task.topics)
        show(f"{task.id} · {task.level} · {task.minutes} min · {kind} · {when}", [("", title_of(task))])
    total = sum(task.minutes for task in all_tasks())
    show(f"{len(bank())} questions and {len(drills())} drills, {total} minutes in all. {countdown()}".strip(), [])


def _evening(tasks: Sequence[Task], editor: bool) -> None:
    minutes = sum(task.minutes for task in tasks)
    things = f"{len(tasks)} to do" if len(tasks) > 1 else "One to do"
    show(
        f"{day(now().date())} · {things}, about {minutes} minutes. {countdown()}".strip(),
        [("", "Ctrl-C leaves at any time; what you have written or rated stays.")],
    )
    try:
        for number, task in enumerate(tasks, 1):
            _one(task, f"{number} of {len(tasks)}", editor)
    except (Left, KeyboardInterrupt):
        show("Left. What had been rated is kept.", [])


def _one(task: Task, place: str, editor: bool) -> None:
    if isinstance(task, Drill):
        review = repair(task, place)
        if review is not None:
            _keep(task, review)
        return
    answered = answer(task, place, editor)
    if answered is None:
        return
    review, said = answered
    try:
        offered(task, said)
        go_on(task)
    finally:  # it is rated, whether or not its follow-ups are waited for
        _keep(task, review)


def _keep(task: Task, review: Review) -> None:
    due, remark = keep(task, review)
    points = "" if isinstance(task, Drill) else f"{review.points} of {len(task.points)} points. "
    show(
        f"{points}Kept as {review.grade}.", [("", f"It comes again {again(due)}."), *([("", remark)] if remark else [])]
    )
