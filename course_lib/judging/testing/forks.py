"""A plugin of pytest that has each case tried by a fork of the pytest that has started and collected."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from course_lib.judging.kept_process_main import HAS_SAID, Say, fork_again
from course_lib.judging.testing.plugin import CASE, CONFIGURATION

JOB_SECONDS = 150  # longer than anybody waits for one
ENOUGH = HAS_SAID + 1  # how a fork ends after which no other is to be tried


class Forks:
    """Registered with pytest beside ``Plugin``.

    Args:
        cases: what the judge tells of each.
        side_by_side: how many at once.
        say: tells the judge.
    """

    def __init__(self, cases: list[dict[str, Any]], side_by_side: int, say: Say) -> None:
        self._waiting = cases[::-1]
        self._at_once = side_by_side
        self._say = say
        self._running: dict[int, int] = {}  # the number of the case, by the process that tries it
        self._here = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """In a fork None, with which pytest goes on to its own loop."""
        if session.testsfailed or not session.items:
            return None  # nothing was collected
        while self._waiting or self._running:
            if self._waiting and len(self._running) < self._at_once:
                told = self._waiting.pop()
                child = fork_again(JOB_SECONDS)
                if not child:
                    self._here = True
                    session.config.stash[CASE].become(told, self._say_in_turn)
                    return None
                self._running[child] = told["number"]
            else:
                self._wait()
        return True

    def _wait(self) -> None:
        child, status = os.wait()
        if (number := self._running.pop(child, None)) is None:
            return  # the learner's
        code = os.waitstatus_to_exitcode(status)
        if code != HAS_SAID:
            self._waiting.clear()
        if code not in (HAS_SAID, ENOUGH):
            self._say({"case": number, "died": True})

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        if self._here:
            os._exit(ENOUGH if config.stash[CASE].enough else HAS_SAID)

    def _say_in_turn(self, what: dict[str, Any]) -> None:
        """Two that say much at once would say it in pieces."""
        import fcntl  # not on Windows

        with Path(CONFIGURATION).open("a") as turn:
            fcntl.lockf(turn, fcntl.LOCK_EX)
            self._say(what)
