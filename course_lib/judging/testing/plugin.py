"""The judge's conftest: the case that tests are tried on, a limit for each test, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from course_lib.judging.kept_process_main import Say
from course_lib.judging.quoting import kind_of, message_of
from course_lib.judging.trouble import sqlstate_of

FILE, CONFTEST, CONFIGURATION = "test_answer.py", "conftest.py", "pytest.ini"
RING_AGAIN_SECONDS = 0.5
PRINTED = 2_000  # characters


CASE = pytest.StashKey["CaseHere"]()
"""Where hooks of other plugins find the case, in ``config.stash``."""


class Late(BaseException):
    """A test's time is over, and it computes."""


class CaseHere:
    """The case, where it is tried.

    Attributes:
        name: which implementation.
        options: of the case.
        url: of its database.
        backwards: whether the last test is the first one.
        until_no: whether it is over when a test has said no.
        enough: whether the rest is not to be tried.
    """

    def __init__(self, told: dict[str, Any], say: Say) -> None:
        self.become(told, say)

    def become(self, told: dict[str, Any], say: Say) -> None:
        """Be this case."""
        self.name: str = told["name"]
        self.options: dict[str, Any] = told["options"]
        self.url: str = told["url"]
        self.backwards: bool = told["backwards"]
        self.until_no: bool = told["until_no"]
        self.enough = False
        self._number: int = told["number"]
        self._say = say

    def say(self, **what: Any) -> None:
        """Tell the judge what comes of it."""
        self._say({"case": self._number, **what})

    def note(self, **values: Any) -> None:
        """Tell the judge something: plain values."""
        self.say(note=values)


class Plugin:
    """Registered with pytest beside the plugins that provide what a statement promises.

    Args:
        case: what the tests are tried on.
        home: the name of the file that the learner has written.
        seconds: for each test.
    """

    def __init__(self, case: CaseHere, home: str, seconds: float) -> None:
        self._here = case
        self._home = home
        self._seconds = seconds
        self._rung = 0
        self._more = self._before = 0.0
        self._session: pytest.Session | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[CASE] = self._here

    @pytest.fixture(scope="session")
    def _case(self) -> CaseHere:
        return self._here

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Before pytest's own: by now the case is known, in a fork too."""
        if self._here.backwards:
            session.items.reverse()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        session.config.option.tbstyle = "native"  # of tests nobody reads it, and pytest's own take half of their time

    # -- in time -----------------------------------------------------------------------------------------------

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._here.say(begins=_name(item))
        self._rung, self._more, self._before = 0, 0.0, _others_ran()
        with self._ringing():
            result = yield
        if self._rung and self._session is not None:
            self._here.enough = True
            self._session.shouldstop = "a test is late"  # what it has left may still be at work
        return result

    @contextlib.contextmanager
    def _ringing(self) -> Iterator[None]:
        if not hasattr(signal, "setitimer"):  # then the whole process has a limit
            yield
            return
        before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds, RING_AGAIN_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _ring(self, *_: object) -> None:
        """What waits is cancelled; what computes, or does not mind that, is interrupted."""
        others = _others_ran() - self._before
        if (more := 2 * others - self._more) > 1:  # this process waited for a processor, and so did the server
            self._more += more
            signal.setitimer(signal.ITIMER_REAL, more, RING_AGAIN_SECONDS)
            return
        self._rung += 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise Late from None
        if self._rung > 1:
            raise Late
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)

    # -- what came of it ---------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
        report: pytest.TestReport = yield
        if call.when == "call" or report.outcome != "passed":
            outcome = self._outcome(report, call)
            told = {"test": _name(item), "outcome": outcome, **_details(call, self._home)}
            if outcome in ("failed", "raised") and self._here.until_no and self._session is not None:
                self._session.shouldfail = "a test has said no"
            if report.outcome == "skipped":
                told["message"] = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else "")[:200]
            self._here.say(run=told, printed=report.capstdout[:PRINTED])
        return report

    def _outcome(self, report: pytest.TestReport, call: pytest.CallInfo[Any]) -> str:
        if self._rung and report.outcome != "passed":
            return "late"
        if report.outcome == "skipped":
            return "xfailed" if hasattr(report, "wasxfail") else "skipped"
        if report.outcome == "passed":
            return "passed"
        if call.when != "call":
            return "set-up" if call.when == "setup" else "teardown"
        return "failed" if call.excinfo is None or _says_no(call.excinfo.value) else "raised"

    def pytest_unconfigure(self) -> None:
        self._here.say(over=True)

    def pytest_exception_interact(self, node: Any, call: pytest.CallInfo[Any], report: Any) -> None:
        if isinstance(report, pytest.CollectReport):
            line = _details(call, self._home).get("line", 0)
            self._here.enough = True
            self._here.say(collecting={"message": _collecting(report, call), "line": line})


def _others_ran() -> float:
    """Seconds in which this process could have run and the machine had no processor for it; 0 where nobody knows."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _name(item: pytest.Item) -> str:
    name: str = getattr(item, "originalname", None) or item.name
    return name


def _says_no(error: BaseException) -> bool:
    """What ``assert`` and ``pytest.fail`` raise, also in a group of errors."""
    if isinstance(error, BaseExceptionGroup):
        return any(_says_no(inner) for inner in error.exceptions)
    return isinstance(error, AssertionError | pytest.fail.Exception)


def _details(call: pytest.CallInfo[Any], home: str) -> dict[str, Any]:
    if call.excinfo is None:
        return {}
    error = call.excinfo.value
    lines = [entry.lineno + 1 for entry in call.excinfo.traceback if Path(entry.path).name == home]
    said = f"there is no fixture {error.argname!r}" if isinstance(error, pytest.FixtureLookupError) else ""
    return {
        "kind": kind_of(getattr(error, "orig", None) or error), "sqlstate": sqlstate_of(error),
        "message": said or message_of(error)[:200], "line": lines[-1] if lines else 0,
    }  # fmt: skip


def _collecting(report: pytest.CollectReport, call: pytest.CallInfo[Any]) -> str:
    """Why a file could not be collected: the last line of what pytest says, which knows what raised."""
    lines = [line[1:].strip() for line in str(report.longrepr).splitlines() if line.startswith("E ")]
    return (lines or [message_of(call.excinfo.value) if call.excinfo else ""])[-1][:200]
