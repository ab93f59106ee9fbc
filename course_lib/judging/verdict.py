"""What a check answers: a number of points that a person can read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from course_lib.commands import call, in_a_terminal
from course_lib.judging.exercise import Exercise
from course_lib.texts import LITERAL

State = Literal["right", "wrong", "not attempted"]
COLOURS = {"right": "#009E73", "wrong": "#D55E00", "not attempted": "#8A97A3"}


class CheckFailed(AssertionError):
    """Raised in place of a verdict of zero where a check is asked to be strict."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback."""
        return str(self).splitlines()


@dataclass
class Finding:
    """What the judge found out, before it is put into words."""

    state: State
    mistake: str = ""
    sentence: str = ""
    look: str = ""
    printed: str = ""
    remarks: list[str] = field(default_factory=list)


class Verdict(float):
    """A float of points, 0.0 unless right. ``repr`` is the bare number, which is what nbgrader reads."""

    exercise: Exercise
    finding: Finding

    @classmethod
    def of(cls, exercise: Exercise, finding: Finding) -> Verdict:
        verdict = cls(exercise.points if finding.state == "right" else 0.0)
        verdict.exercise = exercise
        verdict.finding = finding
        return verdict

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)

    @property
    def passed(self) -> bool:
        return self.finding.state == "right"

    @property
    def state(self) -> State:
        return self.finding.state

    @property
    def mistake(self) -> str:
        """The name of the mistake, empty when right."""
        return self.finding.mistake

    @property
    def paragraphs(self) -> list[tuple[str, str]]:
        """(label, text) from top to bottom; every form of the verdict says these."""
        exercise, finding = self.exercise, self.finding
        points = f"{exercise.points} point" + ("" if exercise.points == 1 else "s")
        said = [("your code printed", finding.printed)] if finding.printed else []
        said += [("note", remark) for remark in finding.remarks]
        if finding.state == "right":
            return [("", f"Right. {points}."), ("why", exercise.why), ("in an interview", exercise.follow_up), *said]
        sentence = f"Not yet. {finding.sentence}"
        if finding.state == "not attempted":
            sentence = f"{finding.sentence} {self._how_to_attempt()}"
        look = [("look", finding.look)] if finding.look else []
        return [("", sentence), *look, *self._next(), *said]

    def _how_to_attempt(self) -> str:
        answer = self.exercise.answer
        if in_a_terminal():
            return f"Write `{answer}` in its cell of the notebook."
        return f"Write `{answer}` in the cell above, run that cell, then this one."

    def _next(self) -> list[tuple[str, str]]:
        """What to ask for, and in a terminal how to be judged again, which is more there than to run two cells."""
        id = self.exercise.id
        ask = ("next", f"`{call('hint', id)}` or, asked twice, `{call('solution', id)}`")
        again = ("again", f"save the notebook first, then `{call('check', id)}`")
        return [ask, again] if in_a_terminal() else [ask]

    @property
    def headline(self) -> str:
        return f"{self.exercise.id} · {self.exercise.title}"

    def __str__(self) -> str:
        lines = [f"{label + ': ' if label else ''}{text.replace('`', '')}" for label, text in self.paragraphs]
        return "\n".join([self.headline, *(f"  {line}" for text in lines for line in text.splitlines())])

    def _repr_markdown_(self) -> str:
        mine = {self.exercise.why, self.exercise.follow_up}  # all else may quote an answer
        texts = [(label, text if text in mine else in_markdown(text)) for label, text in self.paragraphs]
        body = [f"*{label}:* {text}" if label else text for label, text in texts]
        fold = [] if self.passed else [hints_in_markdown(self.exercise)]
        return "\n\n".join([f"**{self.headline}**", *body, *fold])

    def _repr_html_(self) -> str:
        body = "".join(
            f'<div style="margin:3px 0">{f"<em>{label}</em>&ensp;" if label else ""}{_html(text)}</div>'
            for label, text in self.paragraphs
        )
        if not self.passed:
            body += _folded(self.exercise, lambda text: f'<div style="margin:3px 0">{_html(text)}</div>')
        return (
            f'<div {LITERAL} style="border-left:4px solid {COLOURS[self.state]};padding:4px 0 4px 14px;max-width:52em">'
            f"<b>{escape(self.headline)}</b>{body}</div>"
        )


def hints_in_markdown(exercise: Exercise) -> str:
    """The hints as a page of Markdown has them, each in the fold of the one before."""
    return _folded(exercise, "\n\n{}\n\n".format)


def _folded(exercise: Exercise, shown: Callable[[str], str]) -> str:
    """The hints, each in the fold of the one before: a click shows the next.

    They are the same whatever was asked for so far, so that a stored verdict and a fresh one compare as equal, and
    opening one leaves nothing in the record of hints taken: a page tells nobody which of its folds were opened.
    """
    fold = ""
    for number, hint in reversed([*enumerate(exercise.hints, 1)]):
        summary = f"<summary>Hint {number} of {len(exercise.hints)}</summary>"
        fold = f"<details>{summary}{shown(hint)}{fold}</details>"
    return fold


def _html(text: str) -> str:
    """Escape, and set what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)).replace("\n", "<br>")


def in_markdown(text: str) -> str:
    """Escape what Markdown or HTML would read, but for code between backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    safe = [
        part if place % 2 else re.sub(r"([\\*_\[\]|~$`])", r"\\\1", escape(part, quote=False))
        for place, part in enumerate(parts)
    ]
    return "".join(safe).replace("\n", "  \n")
