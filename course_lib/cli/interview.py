"""``course interview``: a mock interview in the terminal, its report, and a sheet to print."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import cast

from course_lib.cli.drilling import repair_for
from course_lib.cli.opinions import offered
from course_lib.cli.screen import show
from course_lib.cli.speaking import Left, ask, clock, ticked, written
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import answering_for, write_whole
from course_lib.interview.drafts import drop_draft
from course_lib.interview.evening import now
from course_lib.interview.grading import grade_answer, grade_drill
from course_lib.interview.lookup import check_level
from course_lib.interview.memory import Grade, Memory, Review, folder, remember
from course_lib.interview.mock import Interview, Part, plan, unfinished
from course_lib.interview.report import write_report
from course_lib.interview.schema import Level, Question
from course_lib.interview.sheet import as_sheet
from course_lib.interview.tasks import find_task
from course_lib.judging.exercise import Drill


def run_interview(level: str, minutes: int, resume: bool, editor: bool) -> None:
    """Ask part by part, then show the points of each to be ticked, then write the report.

    Raises:
        CourseError: nobody can answer, or there is nothing to go on with.
    """
    if not sys.stdin.isatty():
        raise CourseError("An interview is a talk, and its input is not a terminal.", "Type it in a terminal.")
    check_level(level)
    interview = _begun(cast("Level", level), minutes, resume)
    try:
        for place in [place for place, part in enumerate(interview.parts) if part.answer is None]:
            interview = interview.with_part(place, _asked(interview, place, editor))
            drop_draft(interview.parts[place].id)
        for place in [place for place, part in enumerate(interview.parts) if part.ticked is None]:
            interview = interview.with_part(place, _looked_at(interview.parts[place]))
            interview = interview.with_part(place, _thought_of(interview.parts[place]))
    except (Left, KeyboardInterrupt):
        show("Left. What you had answered is kept.", [("go on", command("interview --resume"))])
        return
    _end(interview)


def write_sheet(to: Path | None) -> None:
    """Write the sheet, by default to ``work/interview/questions.html``.

    Raises:
        CourseError: it cannot be written.
    """
    place = to or folder() / "questions.html"
    with answering_for(place.parent, "COURSE_WORK"):
        write_whole(place, as_sheet())
    show(f"Written: {place}", [("", "One page; it needs no network. Print it, or open it on a phone.")])


def _begun(level: Level, minutes: int, resume: bool) -> Interview:
    if resume:
        interview = unfinished()
        if interview is None:
            raise CourseError("There is no interview to go on with.", f"Begin one: {command('interview')}")
        show(f"The interview of {interview.started:%d %B, %H:%M} goes on.", [])
        return interview
    interview = plan(level, minutes, now(), Random(), Memory.load()).kept()
    total = sum(part.minutes for part in interview.parts)
    show(
        f"A {level} interview: {len(interview.parts)} parts, about {total} minutes.",
        [("", "What a good answer has is shown at the end. Ctrl-C leaves; what you have answered stays.")],
    )
    return interview


def _asked(interview: Interview, place: int, editor: bool) -> Part:
    part = interview.parts[place]
    task = find_task(part.id)
    head = f"{place + 1} of {len(interview.parts)}"
    if isinstance(task, Drill):
        done = repair_for(task, head)
        found = {"answer": done.code, "passed": done.passed, "verdict": done.verdict, "ticked": (), "hints": done.hints,
                 "saw_solution": done.saw_solution, "seconds": round(done.seconds, 1)}  # fmt: skip
        return part.model_copy(update=found)
    ask(task, head)
    answer, seconds = written(task, editor)
    over = seconds - part.minutes * 60
    if over > 0:
        show(f"That was {clock(over)} over its {part.minutes} minutes.", [])
    return part.model_copy(update={"answer": answer, "seconds": round(seconds, 1)})


def _looked_at(part: Part) -> Part:
    """The points of a question beside the answer that was given to it."""
    task = find_task(part.id)
    assert isinstance(task, Question), "a drill is looked at by its judge"
    if not part.answer:
        return part.model_copy(update={"ticked": ()})
    show(task.ask, [("you", part.answer), ("", "Did you say this? y or n, for each.")])
    said = tuple(number for number, point in enumerate(task.points, 1) if ticked(number, point))
    return part.model_copy(update={"ticked": said})


def _thought_of(part: Part) -> Part:
    """With a model's opinion of the answer, where there is one and it is wanted."""
    task = find_task(part.id)
    assert isinstance(task, Question), "a drill is looked at by its judge"
    return part.model_copy(update={"opinion": offered(task, part.answer)}) if part.answer else part


def _end(interview: Interview) -> None:
    reviews = [review for part in interview.parts if (review := _review(interview, part)) is not None]
    remark = remember(*reviews)
    report = write_report(interview)
    interview.model_copy(update={"finished": True}).kept()
    show("That was it.", [("report", str(path)) for path in report] + ([("", remark)] if remark else []))


def _review(interview: Interview, part: Part) -> Review | None:
    task = find_task(part.id)
    if not part.answer:
        return None
    points = None if isinstance(task, Drill) else len(part.ticked or ())
    grade: Grade
    if isinstance(task, Drill):
        grade = grade_drill(bool(part.passed), part.seconds, part.minutes, part.hints, part.saw_solution)
    else:
        grade = grade_answer(points or 0, len(task.points))
    return Review(id=part.id, at=interview.started, grade=grade, seconds=part.seconds, points=points)
