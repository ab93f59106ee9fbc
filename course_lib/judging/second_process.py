"""A second process that runs the answer: with globals, a hash seed and a time zone of its own.

What an answer keeps in memory, a lock of Python and ``hash()`` are another thing there. The answer is made anew from
the source of its cell. The process is started early, beside what else a judge does.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from course_lib.judging.attempt import Attempt
from course_lib.judging.kept_process import KeptProcess
from course_lib.judging.portable import Portable, portable

MODULE = "course_lib.judging.second_process_main"
READY_SECONDS, CALL_SECONDS = 20.0, 8.0


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
        self._process = KeptProcess(MODULE)

    async def call(self, *arguments: Any) -> Told | None:
        """``answer(sessions, *arguments)`` over there; None where it cannot be told, for lack of time or of a name."""
        if not await self._process.says(READY_SECONDS):
            return None
        job = {"answer": self._answer, "url": self._attempt.url, "arguments": arguments}
        if not self._process.send(pickle.dumps(job)):
            return None
        said = await self._process.says(CALL_SECONDS)
        if said is None:
            return Told(late=True)
        if said.get("lacks"):
            return None
        return Told(said.get("value"), said.get("raised"), bool(said.get("died")))

    async def close(self) -> None:
        """Keep the process for the next check, or end it."""
        await self._process.close()


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
