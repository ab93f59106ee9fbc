"""A spoken question in the terminal: the answer is written before anything of a good one is shown."""

from __future__ import annotations

import sys
from select import select
from time import monotonic

import click

from course_lib.cli.screen import show
from course_lib.commands import command
from course_lib.interview.evening import now
from course_lib.interview.grading import grade_answer
from course_lib.interview.memory import Review
from course_lib.interview.references import where
from course_lib.interview.schema import Design, Point, Question
from course_lib.interview.tasks import asked

SKIP = "skip"
NOTHING = "Nothing was written. A sentence or two, as you would say it; `skip` leaves the question for another day."
BELOW = "<!-- Write your answer below this line. -->"


class Left(Exception):
    """The learner has gone: Ctrl-C, or the end of the input."""


def read_line(prompt: str) -> str:
    """A line of the learner's.

    Raises:
        Left: there comes none.
    """
    try:
        return input(prompt).encode(errors="replace").decode().strip()
    except (EOFError, KeyboardInterrupt) as error:
        print()
        raise Left from error


def ask(question: Question, head: str) -> None:
    """Show a question below ``head``, which says where one is."""
    show(f"{head} · {question.minutes} minutes", [("", line) for line in asked(question)])


def more_waits() -> bool:
    """Whether more stands there to be read, as when several paragraphs were pasted. False where nobody can tell."""
    try:
        return bool(select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # Windows selects sockets only
        return False


def answer(question: Question, place: str, editor: bool) -> tuple[Review, str] | None:
    """Ask, wait for the answer, then show its points one by one to be ticked. None where it was skipped.

    Returns:
        The review, and the answer.

    Raises:
        Left: the learner has gone.
    """
    ask(question, f"{place} · {question.topics[0]} · {question.level}")
    moment = now()
    said, seconds = written(question, editor)
    if not said:
        return None
    show(f"It took {clock(seconds)} of {question.minutes}:00. Did you say this? y or n, for each.", [])
    reached = sum(ticked(number, point) for number, point in enumerate(question.points, 1))
    grade = grade_answer(reached, len(question.points))
    return Review(id=question.id, at=moment, grade=grade, seconds=round(seconds, 1), points=reached), said


def written(question: Question, editor: bool) -> tuple[str, float]:
    """The learner's answer and the seconds it took; an empty one where it was skipped.

    Args:
        question: what was asked. The answer to a design question has paragraphs.
        editor: it is written in ``$EDITOR``, where the question stands above it, and not line by line.
    """
    began = monotonic()
    said = (_edited(question) if editor else "") or _typed(isinstance(question, Design))
    return said, monotonic() - began


def _typed(in_paragraphs: bool) -> str:
    print(f"Your answer. {'Two empty lines end' if in_paragraphs else 'An empty line ends'} it.")
    while True:
        lines: list[str] = []
        while (line := read_line("> ")) or (in_paragraphs and lines and lines[-1]) or more_waits():
            lines.append(line)
            if [one.lower() for one in lines] == [SKIP]:
                return ""
        if lines:
            return "\n".join(lines).strip()
        show(NOTHING, [])


def _edited(question: Question) -> str:
    """What stands below the question when the editor is left; nothing where no editor can be started."""
    head = "\n\n".join([*asked(question), BELOW, ""])
    try:
        text = click.edit(head, extension=".md") or ""
    except click.ClickException as error:
        show(f"The editor did not start: {error.format_message()}", [("", "Type your answer here instead.")])
        return ""
    except UnicodeDecodeError:
        show("What the editor saved is not UTF-8.", [("", "Type your answer here instead.")])
        return ""
    said = text.partition(BELOW)[2] if BELOW in text else text.removeprefix("\n\n".join(asked(question)))
    if not said.strip():
        show(NOTHING, [])
    return said.strip()


def ticked(number: int, point: Point) -> bool:
    """Show a point; whether the learner's answer had it."""
    show(f"{number}. {point.say}", [("", where(point))] if where(point) else [])
    while True:
        said = read_line("y or n: ").lower()
        if said in ("y", "yes", "n", "no"):
            return said[0] == "y"


def go_on(question: Question) -> None:
    """What is often said, what an interviewer asks next, and where it can be proved.

    Raises:
        Left: the learner has gone.
    """
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
