"""Work that must be done: to its end although who waits for it is cancelled, again while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.postgres.losing import causes, server_went_away

PAUSES = (0.1, 0.5, 1, 2, 4, 8)
"""Seconds between attempts."""

PASSING = {"40001", "40P01", "53300"}
"""SQLSTATEs that another attempt may not meet: a conflict, a deadlock, too many connections."""

T = TypeVar("T")


async def lasting(sessions: async_sessionmaker[AsyncSession], work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Do ``work`` in a transaction, from the start again for some 15 seconds where what fails will pass.

    A COMMIT whose answer was lost may have happened: ``work`` must be able to meet what it did before.
    """
    for pause in PAUSES:
        try:
            async with sessions.begin() as session:
                return await work(session)
        except Exception as error:
            if not will_pass(error):
                raise
        await asyncio.sleep(pause)
    async with sessions.begin() as session:
        return await work(session)


def will_pass(error: BaseException) -> bool:
    """Whether the database may be there, or free, a moment later."""
    busy = any(isinstance(step, PoolTimeout) or getattr(step, "sqlstate", "") in PASSING for step in causes(error))
    return busy or server_went_away(error)


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` to its end. Who is cancelled meanwhile is cancelled afterwards.

    anyio's shield keeps off a client that leaves, which cancels every await from then on. A server that stops and
    ``asyncio.timeout`` cancel the task itself, which no scope keeps off: so the work is a task of its own.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()
