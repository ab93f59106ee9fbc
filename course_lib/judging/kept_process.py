"""Processes of Python in which judges have code run: started early, on Linux kept for the next check, which costs a
fork. They end when a minute has gone by, or with this process.

A process is ``python -m`` a module that calls ``kept_process_main.serve``.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import struct
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from secrets import choice, randbelow
from typing import Any

ZONES = ("Pacific/Kiritimati", "America/Caracas", "Asia/Kolkata")  # of the process; the server has its own
KEEPS = sys.platform == "linux"  # where a fork of an interpreter without threads is safe
_kept: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)


class KeptProcess:
    """One check's use of such a process: what it says next is read in a thread, so that the event loop goes on."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process = _take(module)
        self._next = self._read()

    def send(self, job: bytes) -> bool:
        """Give it a job, once it has said that it is ready; False where it has ended."""
        try:
            _write(self._process, job)
        except OSError:
            return False
        self._next = self._read()
        return True

    async def says(self, seconds: float) -> dict[str, Any] | None:
        """What it says next; None if it has ended, or does not say anything in time, and then is ended."""
        done, _ = await asyncio.wait({self._next}, timeout=max(0.0, seconds))
        if not done:
            _end(self._process)
            return None
        return self._next.result()

    def go_on(self) -> None:
        """Read what it says after that."""
        self._next = self._read()

    async def close(self) -> None:
        """Keep the process for the next check, or end it."""
        if not self._next.done() or self._next.result() is None or not KEEPS or self._process.poll() is not None:
            _end(self._process)
            await asyncio.wait({self._next})
        else:
            _kept[self._module].append(self._process)

    def _read(self) -> asyncio.Future[dict[str, Any] | None]:
        return asyncio.ensure_future(asyncio.to_thread(_read, self._process))


def _take(module: str) -> subprocess.Popen[bytes]:
    """A process that says when it is ready: a kept one, or a new one."""
    while _kept[module]:
        process = _kept[module].pop()
        with suppress(OSError):
            _write(process, b"")
            return process
        _end(process)
    path = os.pathsep.join(place for place in sys.path if place)
    apart = {"PYTHONHASHSEED": str(1 + randbelow(4_000_000_000)), "TZ": choice(ZONES), "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-m", module], env={**os.environ, **apart},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@atexit.register
def _end_kept() -> None:
    for processes in _kept.values():
        while processes:
            _end(processes.pop())


def _write(process: subprocess.Popen[bytes], job: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(struct.pack(">I", len(job)) + job)
    process.stdin.flush()


def _read(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The next line that it says, None when it has ended. Only JSON comes from there."""
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and what it has started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(OSError, ValueError):
        process.wait(timeout=5)
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError, ValueError):
            if pipe is not None and not (pipe is process.stdout and process.poll() is None):
                pipe.close()
