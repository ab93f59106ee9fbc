"""Engines that the learner's code makes: asked for as the task says, and disposed of afterwards."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.judging.attempt import Attempt
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article

PID = text("SELECT pg_backend_pid()")


async def try_out(attempt: Attempt, script: Callable[[], Awaitable[None]]) -> None:
    """Run a judge's script that makes and uses the learner's engines, within the limits of one call of the answer.

    The answer is a plain function, which ``attempt.call`` would not have.
    """
    if not callable(attempt.answer):
        await attempt.call()

    async def run() -> None:
        await script()

    run.__name__ = attempt.exercise.answer  # the name that a message gives
    await attempt.call(function=run)


@asynccontextmanager
async def engine_of(attempt: Attempt, *arguments: Any) -> AsyncIterator[AsyncEngine]:
    """What the answer makes of these arguments. It is disposed of at the end of the block.

    Raises:
        Wrong: "nothing returned" or "not an engine", which the exercise has to name.
    """
    made = attempt.answer(*arguments)
    if inspect.isawaitable(made):  # more than was asked for
        made = await made
    made = plain(made, attempt.exercise.answer)
    attempt.expect(made is not None, "nothing returned")
    attempt.expect(isinstance(made, AsyncEngine), "not an engine", kind=article(made))
    try:
        yield made
    finally:
        await made.dispose()


async def backend_of(engine: AsyncEngine) -> int:
    """One request: a connection out of the pool, a statement, and back. Which process of the server answered."""
    async with engine.connect() as connection:
        pid: int = (await connection.execute(PID)).scalar_one()
        return pid
