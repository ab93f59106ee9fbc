"""Work that is done to its end although the request it began in is cancelled, and before the pool is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Finishing:
    """The tasks that must not be lost, such as storing what a client has been told."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for ``work``. When whoever waits is cancelled, the work goes on by itself.

        ``asyncio.shield`` and not anyio's: a stopping server cancels tasks of asyncio, and a client that leaves
        cancels a scope of anyio's, again and again, so that every await in a ``finally`` is cancelled too.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def wait(self, seconds: float) -> int:
        """Wait for all that is under way, at most so long. Returns how many were not done."""
        if not self._tasks:
            return 0
        _, undone = await asyncio.wait(set(self._tasks), timeout=seconds)
        return len(undone)
