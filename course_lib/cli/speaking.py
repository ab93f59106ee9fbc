"""A spoken question in the terminal: the answer is written before anything of a good one is shown."""

from __future__ import annotations

import sys
from select import select
from time import monotonic

import click

from course_lib.cli.screen import show
from course_lib.cli.typed import Interrupted, typed_line
from course_lib.commands import command
from course_lib.interview.drafts import draft_of, drop_draft, keep_draft
from course_lib.interview.evening import now
from course_lib.interview.grading import grade_answer
from course_lib.interview.memory import Review
from course_lib.interview.references import where
from course_lib.interview.schema import Design, Point, Question
from course_lib.interview.tasks import asked

SKIP = "skip"
NOTHING = "Nothing was written. A sentence or two, as you would say it; `skip` leaves the question for another day."
KEPT = "What you have written is kept, and offered when this question comes again."
BELOW = "<!-- Write your answer below this line. -->"


class Left(Exception):
    """The learner has gone: Ctrl-C, or the end of the input."""


def read_line(prompt: str) -> str:
    """A line of the learner's.

    Raises:
        Left: there comes none.
    """
    try:
        return typed_line(prompt)
    except Interrupted as error:
        raise Left from error


def yes_or_no(prompt: str) -> bool:
    """The learner's choice, asked for until it is one.

    Raises:
        Left: there comes none.
    """
    while True:
        said = read_line(prompt).lower()
        if said in ("y", "yes", "n", "no"):
            return said[0] == "y"


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
    keep_draft(question.id, said)  # until it is rated
    show(f"It took {clock(seconds)} of {question.minutes}:00. Did you say this? y or n, for each.", [])
    try:
        reached = sum(ticked(number, point) for number, point in enumerate(question.points, 1))
    except Left:
        show(KEPT, [])
        raise
    drop_draft(question.id)
    grade = grade_answer(reached, len(question.points))
    return Review(id=question.id, at=moment, grade=grade, seconds=round(seconds, 1), points=reached), said


def written(question: Question, editor: bool) -> tuple[str, float]:
    """The learner's answer and the seconds it took; an empty one where it was skipped.

    Args:
        question: what was asked. The answer to a design question has paragraphs.
        editor: it is written in ``$EDITOR``, where the question stands above it, and not line by line.

    Raises:
        Left: the learner has gone. What there was of an answer is kept as a draft, which is offered the next time.
    """
    began = monotonic()
    draft = draft_of(question.id)
    said = (_edited(question, draft) if editor else "") or _typed(question, draft)
    return said, monotonic() - began


def _typed(question: Question, draft: str) -> str:
    in_paragraphs = isinstance(question, Design)
    begun = draft.splitlines() if draft and _goes_on(draft) else []
    print(f"Your answer. {'Two empty lines end' if in_paragraphs else 'An empty line ends'} it.")
    while True:
        lines = [*begun]
        while (line := _line_of(question, lines)) or (in_paragraphs and lines and lines[-1]) or more_waits():
            if line.lower() == SKIP and lines == begun:
                return ""
            lines.append(line)
            keep_draft(question.id, "\n".join(lines))
        if lines:
            return "\n".join(lines).strip()
        show(NOTHING, [])


def _goes_on(draft: str) -> bool:
    """Whether the learner goes on with what was begun."""
    show("You have begun an answer.", [("", line) for line in draft.splitlines() if line])
    return yes_or_no("Go on below it? y or n: ")


def _line_of(question: Question, lines: list[str]) -> str:
    """The next line of an answer, of which there are ``lines`` so far.

    Raises:
        Left: there comes none. All that was typed is kept.
    """
    try:
        return typed_line("> ")
    except Interrupted as interrupted:
        text = "\n".join([*lines, interrupted.line]).strip()
        if text and keep_draft(question.id, text):
            show(KEPT, [])
        raise Left from interrupted


def _edited(question: Question, draft: str) -> str:
    """What stands below the question when the editor is left; nothing where no editor can be started."""
    head = "\n\n".join([*asked(question), BELOW, draft])
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
    return yes_or_no("y or n: ")


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
