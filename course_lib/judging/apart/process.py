"""The process in which an answer is judged, as seen by who started it: waited for so long, and always ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any, Self

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.judging.apart.wire import Message, listen

ROOT = Path(__file__).parents[3]
START_SECONDS = 60.0
CELL_SECONDS = 60.0
MAKING_SECONDS = 240.0  # a server may have to be started and a template to be built
JUDGING_SECONDS = 40.0  # an answer's eight, the judge's own, and some to give everything back
GRACE = 5.0  # seconds for a cell to heed an interrupt, and for the process to end when its work is done
DYING = 2.0  # seconds until a process that has closed its files is gone
LOOK = 0.2  # seconds between looks at whether the process lives

BOOT = "import sys; sys.path.append(sys.argv.pop()); from course_lib.judging.apart.child import main; main()"
ZONES = ("<+0545>-5:45", "<-0330>3:30")
"""As POSIX writes them, so that no system lacks them: Nepal's time, and Newfoundland's in winter."""
NEPAL = 20_700  # seconds east of Greenwich


@dataclass
class Outcome:
    """What became of a cell, or of a check when it has a ``found``."""

    number: int
    error: str = ""
    """Class and text of what it raised."""
    late: bool = False
    """It was interrupted because its time was up."""
    ended: str = ""
    """How the process ended in it: ``"SIGSEGV"``, ``"exit code 3"``; empty while it lives."""
    seconds: float = 0.0
    """For how long it was waited for, when it is late."""
    silent: bool = False
    """All that time it gave no sign that it runs Python."""
    closed: bool = False
    """It lived on, and had closed the file by which it tells anything."""
    found: Mapping[str, Any] | None = None
    """Of a check: what the judge found, in plain values."""
    prepared: Mapping[str, Any] | None = None
    """Of a check that ended the process: the database it was judged on, and what was there before."""


class Child:
    """Started at once, so that it gets ready while the job is put together. A context manager, as it is to be ended."""

    def __init__(self) -> None:
        """Raises CourseError when the system starts no process."""
        self._secret = secrets.token_bytes(32)
        self._killed = self._closed = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, str(ROOT)], env={**os.environ, **other_zone()},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise CourseError(f"No process could be started: {error.strerror}.", f"Run: {command('doctor')}") from error
        assert self._process.stdout is not None
        self._heard = listen(self._process.stdout, self._secret)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def follow(
        self, cells: Sequence[str], checks: Mapping[int, str], *,
        silence: float, seconds: float = CELL_SECONDS, folder: Path | None = None,
    ) -> Iterator[Outcome]:  # fmt: skip
        """Have the cells run and the checks judged, and tell what became of each, until the process ends.

        Args:
            cells: their sources; an empty one is left out.
            checks: ``module:Class`` of the exercise that the cell of that number checks.
            silence: after so many seconds without a sign that it runs Python, a process that judges is ended.
            seconds: for each cell.
            folder: where the cells work; by default here.

        Raises:
            CourseError: the process did not begin.
        """
        where = None if folder is None else str(folder)
        self._send({"secret": self._secret.hex(), "folder": where, "cells": list(cells), "checks": dict(checks)})
        now = self._next(START_SECONDS)
        if now is None:
            raise CourseError(f"The process that judges did not begin ({self.kill()}).", f"Run: {command('doctor')}")
        while now.kind != "end":
            if now.kind == "failed":
                raise CourseError(f"The process that judges failed: {now.values['error']}.", "Run the check again.")
            number = now.values["number"]
            outcome = self._judged(number, silence) if now.kind == "judging" else self._ran(number, seconds)
            yield outcome
            if outcome.ended:
                return
            following = self._next(START_SECONDS)
            if following is None:
                yield Outcome(number, ended=self.kill())
                return
            now = following
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)

    def _send(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def _ran(self, number: int, seconds: float) -> Outcome:
        outcome = Outcome(number, seconds=seconds)
        said = self._next(seconds)
        if said is None and self._process.poll() is None:
            outcome.closed, outcome.late = self._closed, not self._closed
            self._signal(signal.SIGINT)
            said = self._next(GRACE)
        if said is None:
            outcome.ended = self.kill()
        else:
            outcome.error = said.values["error"]
        return outcome

    def _judged(self, number: int, silence: float) -> Outcome:
        outcome = Outcome(number, seconds=MAKING_SECONDS)
        deadline = time.monotonic() + MAKING_SECONDS
        patience = MAKING_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            said = self._next(min(left, patience), ticks=True)
            if said is None:
                outcome.closed = self._closed and self._process.poll() is None
                outcome.silent = left > patience and not self._closed and self._process.poll() is None
                break
            if said.kind == "found":
                outcome.found = said.values
                return outcome
            if said.kind == "prepared":
                outcome.prepared = said.values
                deadline, patience = time.monotonic() + JUDGING_SECONDS, silence
                outcome.seconds = JUDGING_SECONDS
        outcome.seconds = patience if outcome.silent else outcome.seconds
        outcome.late = self._process.poll() is None and not outcome.closed
        outcome.ended = self.kill()
        return outcome

    def _next(self, seconds: float, ticks: bool = False) -> Message | None:
        """The next message; None when the process ended, or said nothing for so long."""
        deadline = time.monotonic() + seconds
        dead = False
        while (left := deadline - time.monotonic()) > 0:
            try:
                said = self._heard.get(timeout=min(LOOK, left))
            except Empty:
                if dead:
                    return None  # a fork of it may still hold the other end
                dead = self._process.poll() is not None
                continue
            if said is None:
                self._closed = True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(DYING)  # as a rule it does
                return None
            if ticks or said.kind != "tick":
                return said
        return None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            if os.name == "nt":
                self._process.kill()
            else:
                os.killpg(self._process.pid, number)  # it leads a session of its own

    def kill(self) -> str:
        """End it and what it has started. Returns how it ended."""
        before = self._process.poll()
        if not self._killed:  # later its number may be somebody else's
            self._signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            self._killed = True
        code = before if before is not None else self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"


def other_zone() -> dict[str, str]:
    """A time zone off the whole hours that is not the one of this process, where zones are set by a variable."""
    if os.name == "nt":
        return {}
    return {"TZ": ZONES[time.localtime().tm_gmtoff == NEPAL]}
