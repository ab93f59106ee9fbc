"""A table that nobody can write to for a while: who says meanwhile that something is stored has not stored it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from course_lib.judging.asking import LONGEST
from course_lib.judging.attempt import Attempt

T = TypeVar("T")
STANDING = """
    SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE datname = current_database() AND relation = CAST(:table AS regclass) AND NOT granted
"""


class Door:
    """Open at first. Leaving the block opens it in any case.

    What the learner's code does ``behind`` it is the same on a slow machine as on a fast one.
    """

    def __init__(self, attempt: Attempt, table: str) -> None:
        self.table = table
        self._judge = attempt.judge_session()
        self._shut = asyncio.Event()
        self._locked = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._judge.close()

    async def shut(self) -> None:
        """From here on whoever writes waits. It stays open where somebody is writing already."""
        if self._shut.is_set():
            return
        with suppress(DBAPIError):
            await self._judge.execute(text(f"LOCK TABLE {self.table} IN SHARE MODE NOWAIT"))
            self._locked = True
        self._shut.set()

    async def behind(self, running: asyncio.Future[Any], look: Callable[[], Awaitable[T]]) -> T | None:
        """Open the door when ``running`` stands at it, or has ended, and wait for its end.

        What ``look()`` saw after its end and before the door was open, None if it did not end so early. Nothing is
        raised of what ``running`` raised.
        """
        shut, seen = asyncio.ensure_future(self._shut.wait()), None
        try:
            await asyncio.wait({running, shut}, return_when=asyncio.FIRST_COMPLETED)
            if self._locked:
                await self._until_somebody_stands(running)
            if self._locked and running.done():
                seen = await look()
        finally:
            shut.cancel()
            await self._judge.rollback()
        await asyncio.wait({running})
        return seen

    async def _until_somebody_stands(self, running: asyncio.Future[Any]) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + LONGEST
        while not running.done() and clock() < deadline:
            if await self._judge.scalar(text(STANDING), {"table": self.table}):
                return
            await asyncio.wait({running}, timeout=0.002)
