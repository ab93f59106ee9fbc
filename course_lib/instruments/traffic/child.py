"""The process with the workers, seen from this one.

A thread of this process would not do: Python's lock belongs to one thread at a time, and what the block computes
would make workers wait as if for the database, or keep them from asking at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

MODULE = "course_lib.instruments.traffic.process"
ENDING = 3  # seconds in which it ends when it may

Told = dict[str, Any] | None  # None: it has ended without a word


class Child:
    """Started at once. It ends when it is told to, and when this process does."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.ready: Future[Told] = Future()
        self.record: Future[Told] = Future()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by ``close``)
        path = os.pathsep.join(place for place in sys.path if place)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE], env={**os.environ, "PYTHONPATH": path}, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._say(json.dumps(job))

    def stop(self) -> None:
        """The block has ended: tell ``record``."""
        self._say("stop")

    def close(self) -> None:
        """Leave nothing of it, which takes hundredths of a second. What has not been said by now is lost."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()
        self._errors.close()

    def last_words(self) -> str:
        """The last line of what it wrote to its standard error; "" where it wrote none. Before ``close``."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended, which ``_listen`` notices
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for future in (self.ready, self.record):
            line = self._process.stdout.readline()
            future.set_result(json.loads(line) if line.endswith("\n") else None)
