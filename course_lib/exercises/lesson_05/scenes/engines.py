"""Engines that the learner's code makes: asked for as the task says, and disposed of afterwards."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article, sentence_of
from course_lib.postgres.address import libpq_uri

_HERE = str(Path(__file__).parents[1])  # the judges of this lesson
PID = text("SELECT pg_backend_pid()")


async def try_out(attempt: Attempt, script: Callable[[], Awaitable[None]]) -> None:
    """Run a judge's script that calls the answer and uses what it made, within the limits of one call of the answer.

    The answer is a plain function, which ``attempt.call`` would not have.
    """
    if not callable(attempt.answer):
        await attempt.call()
    name = attempt.exercise.answer

    async def run() -> None:
        await script()

    run.__name__ = name  # the name that a message gives
    try:
        await attempt.call(function=run)
    except Wrong as wrong:
        error = wrong.__cause__
        if wrong.mistake == "raised" and error is not None and not _comes_of_a_call(error, attempt.answer):
            said = f"Using what `{name}` made raised {sentence_of(error).rstrip('.')}."
            raise Wrong("raised", said, wrong.look) from error
        raise


def _comes_of_a_call(error: BaseException, answer: Any) -> bool:
    """Whether ``error`` was raised in the answer's own lines, or where the judge calls it."""
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    return getattr(answer, "__code__", None) in codes or codes[-1].co_filename.startswith(_HERE)


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


async def seen_by_others(attempt: Attempt, statement: str) -> list[Any]:
    """The rows of ``statement`` on a new connection, as the driver alone makes one.

    The judge's own connections are kept, and begin with settings of their own: what an answer has changed for whoever
    comes next is seen by neither.
    """
    try:
        connection = await asyncpg.connect(libpq_uri(attempt.database.url), timeout=5)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()
    except Exception as error:
        raise await attempt.explain(error) from error
