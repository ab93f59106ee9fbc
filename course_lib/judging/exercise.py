"""What an exercise is: its statement's facts, its hints, its named mistakes, and a judge."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from course_lib.judging.quoting import Shown

if TYPE_CHECKING:
    from course_lib.judging.attempt import Attempt

Level = Literal["junior", "mid", "senior"]
DRILL = re.compile(r"[JMS]\d{1,2}", re.ASCII)
"""How a drill is called: a letter for its level, and a number."""


class Wrong(Exception):
    """The answer is wrong: which mistake it is, one sentence with the learner's own numbers, and where to look."""

    def __init__(self, mistake: str, sentence: str, look: str = "") -> None:
        super().__init__(sentence)
        self.mistake = mistake
        self.sentence = sentence
        self.look = look


class NotAttempted(Exception):
    """There is no answer yet, which is never called wrong."""


class Exercise(ABC):
    """One exercise. Subclasses fill in the facts and write ``judge``.

    ``mistakes`` maps the name of each wrong answer the judge can tell to ``"sentence | where to look"``, in which
    ``{placeholders}`` take the learner's own numbers, never the expected ones.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    answer: ClassVar[str]
    """The name that the answer cell defines."""
    points: ClassVar[int] = 1
    minutes: ClassVar[int] = 5
    level: ClassVar[Level] = "junior"
    hints: ClassVar[tuple[str, ...]]
    why: ClassVar[str]
    """Shown after a pass: why the solution is as it is."""
    follow_up: ClassVar[str]
    """What an interviewer would ask next."""
    mistakes: ClassVar[Mapping[str, str]] = {}
    recipe: ClassVar[str] = "base"
    crowded: ClassVar[bool] = True
    """Whether other people's rows stand in the database too, see ``crowd``; where ``recipe`` has tables."""
    second_process: ClassVar[bool] = False
    """Whether the judge has the answer run in a second process too, which costs more: measured apart."""
    seconds: ClassVar[float] = 8.0
    """For all calls of the learner's code together."""
    statement_seconds: ClassVar[int] = 3
    """For each of its statements; then the server stops it."""

    @abstractmethod
    async def judge(self, attempt: Attempt) -> None:
        """Try the answer on ``attempt``'s database. Returning means that it is right.

        Raises:
            Wrong: with one of ``mistakes``, by ``attempt.wrong(name, …)``.
        """

    @property
    def lesson(self) -> str:
        """``"02"`` for exercise 2.3."""
        return self.id.partition(".")[0].zfill(2)

    @property
    def place(self) -> str:
        """What names its cells: ``"2-3"`` for exercise 2.3."""
        return self.id.replace(".", "-")

    @property
    def book(self) -> str:
        """Its notebook in ``solutions/``, as a pattern."""
        return f"{self.lesson}_*.ipynb"

    def mistake(self, name: str, /, **numbers: object) -> Wrong:
        """The named mistake with the learner's numbers in it, to be raised."""
        sentence, _, look = self.mistakes[name].partition(" | ")
        shown = {name: Shown(number) for name, number in numbers.items()}
        return Wrong(name, sentence.format(**shown), look.format(**shown))


class Drill(Exercise):
    """Code that looks right and misbehaves, to be repaired against the clock. Its id is like M4.

    The answer cell holds the code as it was found; judging that tells one of ``faults``.
    """

    topics: ClassVar[tuple[str, ...]]
    faults: ClassVar[tuple[str, ...]]
    """Those of ``mistakes`` that are in the code as it was found, the reported one first."""

    @property
    def lesson(self) -> str:
        return "interview"

    @property
    def book(self) -> str:
        return f"interview/{self.level}.ipynb"
