"""A spoken question in the terminal: the answer is written before anything of a good one is shown."""

from __future__ import annotations

from time import monotonic

import click

from course_lib.cli.screen import show
from course_lib.commands import command
from course_lib.interview.evening import now
from course_lib.interview.grading import grade_answer
from course_lib.interview.memory import Review
from course_lib.interview.references import where
from course_lib.interview.schema import Point, Question

SKIP = "skip"
NOTHING = "Nothing was written. A sentence or two, as you would say it; `skip` leaves the question for another day."


class Left(Exception):
    """The learner has gone: Ctrl-C, or the end of the input."""


def read_line(prompt: str) -> str:
    """A line of the learner's.

    Raises:
        Left: there comes none.
    """
    try:
        return input(prompt).strip()
    except (EOFError, KeyboardInterrupt) as error:
        print()
        raise Left from error


def answer(question: Question, place: str) -> Review | None:
    """Ask, wait for the answer, then show its points one by one to be ticked. None where it was skipped.

    Raises:
        Left: the learner has gone.
    """
    show(f"{place} · {question.topics[0]} · {question.level} · {question.minutes} minutes", [("", question.ask)])
    moment = now()
    said, seconds = written()
    if not said:
        return None
    show(f"It took {clock(seconds)} of {question.minutes}:00. Did you say this? y or n, for each.", [])
    reached = sum(ticked(number, point) for number, point in enumerate(question.points, 1))
    _show_the_rest(question)
    grade = grade_answer(reached, len(question.points))
    show(f"{reached} of {len(question.points)} points.", [])
    return Review(id=question.id, at=moment, grade=grade, seconds=round(seconds, 1), points=reached)


def written(editor: bool = False, question: str = "") -> tuple[str, float]:
    """The learner's answer and the seconds it took; an empty one where it was skipped.

    Args:
        editor: it is written in ``$EDITOR``, where the question stands above it, and not line by line.
        question: the question.
    """
    began = monotonic()
    said = _edited(question) if editor else None
    if said is None:
        said = _typed()
    return said, monotonic() - began


def _typed() -> str:
    print("Your answer. An empty line ends it.")
    while True:
        lines: list[str] = []
        while line := read_line("> "):
            lines.append(line)
        if [line.lower() for line in lines] == [SKIP]:
            return ""
        if lines:
            return "\n".join(lines)
        show(NOTHING, [])


def _edited(question: str) -> str | None:
    """What stands below the question when the editor is left; None where no editor can be started."""
    head = "".join(f"# {line}\n" for line in question.strip().splitlines()) + "\n"
    try:
        text = click.edit(head, extension=".md")
    except click.ClickException as error:
        show(f"The editor did not start: {error.format_message()}", [("", "Type your answer here instead.")])
        return None
    lines = [line for line in (text or "").splitlines() if not line.startswith("# ")]
    return "\n".join(lines).strip()


def ticked(number: int, point: Point) -> bool:
    """Show a point; whether the learner's answer had it."""
    show(f"{number}. {point.say}", [("", where(point))] if where(point) else [])
    while True:
        said = read_line("y or n: ").lower()
        if said in ("y", "yes", "n", "no"):
            return said[0] == "y"


def _show_the_rest(question: Question) -> None:
    show("Often said, and why it is not enough", [("", f"“{weak.say}” {weak.wrong}") for weak in question.weak])
    for follow_up in question.follow_ups:
        show("Asked next", [("", follow_up.ask)])
        read_line("Think of your answer, then press Enter. ")
        show("A good one has", [("", point) for point in follow_up.points])
    if question.proof:
        checks = ", ".join(command(f"check {id}") for id in question.proof)
        show("To prove it", [("", f"{', '.join(question.proof)}: {checks}")])


def clock(seconds: float) -> str:
    """``3:07``."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02}"
