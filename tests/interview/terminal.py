"""A terminal of 80 columns in which a test types what a learner would."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

SECONDS = 60.0
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """What a command shows so far, without its colours."""

    pid: int
    master: int
    shown: str = ""
    _read: int = field(default=0, repr=False)

    def wait_for(self, text: str) -> str:
        """Read on until ``text`` stands there; returns what came since the last time, that included."""
        until = time.monotonic() + SECONDS
        while text not in self.shown[self._read :]:
            assert time.monotonic() < until, f"{text!r} did not come:\n{self.shown}"
            assert self.more(), f"it ended before {text!r} came:\n{self.shown}"
        start, self._read = self._read, self.shown.index(text, self._read) + len(text)
        return self.shown[start : self._read]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    @property
    def unread(self) -> str:
        """What stands there since the last time."""
        return self.shown[self._read :]

    def answer(self, text: str) -> None:
        """Type, having read everything that stands there."""
        self._read = len(self.shown)
        self.type(text)

    def interrupt(self) -> None:
        """Ctrl-C; again where the first came in the moment before the program began to read, and is not heard."""
        said = self._said()
        while self._said() == said:
            self.type("\x03")
            until = time.monotonic() + 2
            while self._said() == said and time.monotonic() < until:
                if select.select([self.master], [], [], 0.1)[0] and not self.more():
                    return

    def _said(self) -> str:
        return self.shown.replace("^C", "").rstrip()

    def rest(self) -> str:
        """What comes until it ends."""
        while self.more():
            pass
        start, self._read = self._read, len(self.shown)
        return self.shown[start:]

    def more(self) -> bool:
        """Wait for more to be shown; False at the end."""
        ready, _, _ = select.select([self.master], [], [], SECONDS)
        assert ready, f"nothing came any more:\n{self.shown}"
        try:
            came = os.read(self.master, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.shown = COLOURS.sub("", self.shown + came.decode(errors="replace").replace("\r\n", "\n"))
        return bool(came)


@contextmanager
def course(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """Run ``course`` with these arguments in a terminal; it is ended with the block."""
    import pty

    pid, master = pty.fork()
    if pid == 0:
        os.environ.update({"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color", **environment})
        os.execv(sys.executable, [sys.executable, "-m", "course_lib.cli", *arguments])
    try:
        yield Terminal(pid, master)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)
