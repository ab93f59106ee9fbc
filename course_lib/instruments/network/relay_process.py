"""The relay's process, seen from this one: started when first needed, kept for as long as this process lives.

It ends when the control socket between the two is closed, however that comes about. A fork does not share it: the
socket is closed there, and a relay of its own is started if the fork needs one.
"""

from __future__ import annotations

import atexit
import marshal
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

LENGTH = struct.Struct(">I")
PATIENCE = 20  # seconds for an answer of the relay, which takes a tenth of a millisecond
ROOT = Path(__file__).parents[3]
START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
MODULE = "course_lib.instruments.network.relay"
AGAIN = "Run the check again."


class RelayFailed(OSError):
    """The relay said that it cannot do what it was asked to do."""


class RelayProcess:
    """Asks the relay; one question at a time, from any thread."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.broken = False
        self._control, theirs = socket.socketpair()
        self._control.settimeout(PATIENCE)
        with theirs:
            self._process = _start(theirs)
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._in_step = True  # False while a question is under way, and after one that was interrupted

    def ask(self, command: str, door: int, *arguments: Any) -> Any:
        """What the relay answers.

        Raises:
            RelayFailed: it cannot do that.
            CourseError: it is gone.
        """
        with self._lock:
            try:
                if not self._in_step:
                    self._catch_up()
                self._in_step = False
                number = next(self._numbers)
                self._send((number, command, door, *arguments))
                answer = marshal.loads(self._take(LENGTH.unpack(self._take(4))[0]))
                self._in_step = True
            except OSError as error:  # TimeoutError is one
                self.broken = True
                raise CourseError("The process that counts what is sent to the database has ended.", AGAIN) from error
        if len(answer) > 2:
            raise RelayFailed(0, answer[2])
        return answer[1]

    def _send(self, request: tuple[Any, ...]) -> None:
        packed = marshal.dumps(request)
        self._control.sendall(LENGTH.pack(len(packed)) + packed)

    def _take(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._control.recv(min(size, 1 << 20))
            if not part:
                raise ConnectionError("the relay has hung up")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _catch_up(self) -> None:
        """An interrupt came between a question and its answer: read on from a place that both sides know."""
        token = secrets.token_bytes(16)
        self._send((0, "sync", token))
        read = b""
        while not read.endswith(token):  # nothing follows it: nothing else was asked
            part = self._control.recv(1 << 20)
            if not part:
                raise ConnectionError("the relay has hung up")
            read = read[-15:] + part

    def forget(self) -> None:
        """In a fork: the relay is the parent's."""
        self.broken = True
        self._control.close()

    def stop(self) -> None:
        """Let it end. Does nothing in a fork."""
        if os.getpid() == self.owner:
            self._control.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)


_kept: RelayProcess | None = None
_starting = threading.Lock()


def relay_process() -> RelayProcess:
    """The relay of this process, started if need be.

    Raises:
        CourseError: the system does not let it start.
    """
    global _kept
    with _starting:
        if _kept is None or _kept.broken or _kept.owner != os.getpid():
            try:
                _kept = RelayProcess()
            except OSError as error:
                reason = error.strerror or str(error)
                raise CourseError(f"The process that counts statements cannot be started: {reason}.", AGAIN) from error
        return _kept


@atexit.register
def _stop() -> None:
    if _kept is not None:
        _kept.stop()


def _forget() -> None:
    global _kept, _starting
    _starting = threading.Lock()  # of a thread that does not exist here
    if _kept is not None:
        _kept.forget()
        _kept = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    """Without the site's packages, which take longer to find than the relay to start; in a session of its own, so
    that an interrupt from the keyboard does not reach it."""
    command = [sys.executable, "-I", "-S", "-c", START, str(ROOT), MODULE]
    quiet: Mapping[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if sys.platform == "win32":
        process = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet)
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(control.share(process.pid))
        return process
    handle = control.fileno()
    return subprocess.Popen(
        [*command, str(handle)], stdin=subprocess.DEVNULL, pass_fds=[handle], start_new_session=True, **quiet
    )
