"""What pytest did with a learner's tests: each test on each case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "raised", "set-up", "teardown", "skipped", "xfailed", "late", "ended"]


@dataclass(frozen=True)
class Case:
    """What the tests are tried on: right code, or a mutant of it, on a database of its own."""

    name: str
    """For the plugin that provides the subject; no test is told it."""
    right: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """More for that plugin: plain values."""
    backwards: bool = False
    """The last test first."""
    until_no: bool = False
    """The tests after one that says no are not run."""


@dataclass(frozen=True)
class Run:
    """One test on one case.

    Attributes:
        test: its name.
        outcome: "failed" by an assertion or ``pytest.fail``, "raised" any other error; "set-up" and "teardown" errors
            of fixtures; "late" had not come to its end in time, "ended" took its process with it; "skipped" and
            "xfailed" say nothing.
        kind: the class of the error, "" if there was none; of a driver's error, the driver's own.
        sqlstate: of the database's error.
        message: what the error says, its first line; or the reason of skipping.
        line: the number of the line of the test's file that the error came through last; 0 if none did.
    """

    test: str
    outcome: Outcome
    kind: str = ""
    sqlstate: str | None = None
    message: str = ""
    line: int = 0

    @property
    def says_no(self) -> bool:
        """It came to its end, and not as a passing test does."""
        return self.outcome in ("failed", "raised")


@dataclass
class Tried:
    """All tests on one case."""

    case: Case
    runs: list[Run] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    """What the plugin that provides the subject has noted of it, see ``plugin.CaseHere.note``."""

    @property
    def green(self) -> bool:
        """Something passed, and nothing failed. Tests that are skipped say nothing."""
        said = [run for run in self.runs if run.outcome not in ("skipped", "xfailed")]
        return bool(said) and all(run.outcome == "passed" for run in said)

    @property
    def red(self) -> bool:
        """At least one test said no, by an assertion or by an error of what it calls."""
        return any(run.says_no for run in self.runs)

    @property
    def asserted(self) -> bool:
        """At least one test said no by an assertion."""
        return any(run.outcome == "failed" for run in self.runs)

    @property
    def first_trouble(self) -> Run | None:
        """The first test that did not pass, skipped ones left out."""
        return next((run for run in self.runs if run.outcome not in ("passed", "skipped", "xfailed")), None)

    @property
    def said(self) -> str:
        """What the first test that did not pass said, for a verdict."""
        message = self.first_trouble.message if self.first_trouble else ""
        return f"`{message}`" if message else "nothing; `assert condition, message` lets it say more"

    def noted(self, name: str) -> list[Any]:
        """The values of this name in the notes, in order."""
        return [note[name] for note in self.notes if name in note]


@dataclass
class Report:
    """All tests on all cases, in the order in which the cases were given.

    Attributes:
        tried: one for each case; without runs where it was not come to.
        seconds: that each test had.
        collecting: why the file could not be collected; "" if it was.
        line: the line of the file that it failed at, 0 if none.
        printed: what the tests printed while the right case was tried.
    """

    tried: list[Tried]
    seconds: float
    collecting: str = ""
    line: int = 0
    printed: str = ""

    @property
    def right(self) -> list[Tried]:
        return [tried for tried in self.tried if tried.case.right]

    @property
    def mutants(self) -> list[Tried]:
        return [tried for tried in self.tried if not tried.case.right]

    @property
    def over(self) -> bool:
        """Whether no other case is to be tried: nothing was collected, or a test did not come to its end."""
        return not any(self.runs) or any(run.outcome in ("late", "ended") for run in self.runs)

    @property
    def stumbles(self) -> bool:
        """Whether a right case came to another end than green or the test's own no."""
        return any(tried.first_trouble and tried.first_trouble.outcome != "failed" for tried in self.right)

    @property
    def runs(self) -> Iterable[Run]:
        return (run for tried in self.tried for run in tried.runs)
