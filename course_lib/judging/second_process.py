"""A second process that runs the answer: with globals, a hash seed and a time zone of its own.

What an answer keeps in memory, a lock of Python and ``hash()`` are another thing there. The answer is made anew from
the source of its cell. The process is started early, beside what else a judge does; on Linux it is kept for the next
check, which costs a fork, and ends when a minute has gone by, or with this process.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from secrets import choice, randbelow
from typing import Any

from course_lib.judging.attempt import Attempt
from course_lib.judging.portable import Portable, portable

READY_SECONDS, CALL_SECONDS = 20.0, 8.0
ZONES = ("Pacific/Kiritimati", "America/Caracas", "Asia/Kolkata")  # of the process; the server has its own
KEEPS = sys.platform == "linux"  # where a fork of an interpreter without threads is safe
_kept: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Told:
    """What came of a call in the second process."""

    value: Any = None
    """What it returned: a number, a text, None and lists of them; of anything else its repr."""
    raised: str | None = None
    """The name of the error's class, None if there was none."""
    late: bool = False
    """It had not come to its end in ``CALL_SECONDS``, or took its process with it."""


class SecondProcess:
    """One check's use of it."""

    def __init__(self, attempt: Attempt, answer: Portable) -> None:
        self._attempt = attempt
        self._answer = answer
        self._process = _take()
        self._ready = asyncio.ensure_future(asyncio.to_thread(_read, self._process))

    async def call(self, *arguments: Any) -> Told | None:
        """``answer(sessions, *arguments)`` over there; None where it cannot be told, for lack of time or of a name."""
        if not await self._said(READY_SECONDS):
            return None
        job = {"answer": self._answer, "url": self._attempt.url, "arguments": arguments}
        try:
            _write(self._process, pickle.dumps(job))
        except OSError:
            return None
        self._ready = asyncio.ensure_future(asyncio.to_thread(_read, self._process))
        said = await self._said(CALL_SECONDS)
        if said is None:
            return Told(late=True)
        if said.get("lacks"):
            return None
        return Told(said.get("value"), said.get("raised"), bool(said.get("died")))

    async def _said(self, seconds: float) -> dict[str, Any] | None:
        done, _ = await asyncio.wait({self._ready}, timeout=seconds)
        if not done:
            _end(self._process)
            return None
        return self._ready.result()

    async def close(self) -> None:
        """Keep the process for the next check, or end it."""
        if not self._ready.done() or self._ready.result() is None or not KEEPS or self._process.poll() is not None:
            _end(self._process)
            await asyncio.wait({self._ready})
        else:
            _kept.append(self._process)


@asynccontextmanager
async def second_process(attempt: Attempt) -> AsyncIterator[SecondProcess | None]:
    """Started when the block begins; None where the answer's source cannot be had, as of what was typed or pasted."""
    answer = portable(attempt.answer)
    if answer is None:
        yield None
        return
    process = SecondProcess(attempt, answer)
    try:
        yield process
    finally:
        await process.close()


def _take() -> subprocess.Popen[bytes]:
    """A process that says when it is ready: a kept one, or a new one."""
    while _kept:
        process = _kept.pop()
        with suppress(OSError):
            _write(process, b"")
            return process
        _end(process)
    path = os.pathsep.join(place for place in sys.path if place)
    apart = {"PYTHONHASHSEED": str(1 + randbelow(4_000_000_000)), "TZ": choice(ZONES), "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-m", "course_lib.judging.second_process_main"], env={**os.environ, **apart},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@atexit.register
def _end_kept() -> None:
    while _kept:
        _end(_kept.pop())


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
