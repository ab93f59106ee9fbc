"""What the course says when something is missing: one sentence, then the next command to type."""

from __future__ import annotations


class CourseError(Exception):
    """A failure a person can mend.

    ``sentence`` says what is wrong in one sentence; ``mend`` is the next thing to type or do.
    In a notebook only these two lines are shown; the cause stays in ``__cause__``.
    """

    def __init__(self, sentence: str, mend: str = "") -> None:
        super().__init__(sentence, mend)
        self.sentence = sentence
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.sentence}\n  → {self.mend}" if self.mend else self.sentence

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback."""
        return str(self).splitlines()
