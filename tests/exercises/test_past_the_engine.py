"""What an answer sends past the judge's engine counts, and what it does to the judge's log does not."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from course_lib.data.fresh import make_and_stay
from course_lib.exercises import judge_answer, manifest
from course_lib.instruments import QueryLog
from course_lib.judging.attempt import Attempt
from course_lib.postgres.address import libpq_uri

ALL = "SELECT id FROM users"
COUNT_USERS = next(exercise for exercise in manifest() if exercise.id == "0.1")


async def by_the_driver(session: Any) -> int:
    connection = await session.connection()
    return len(await (await connection.get_raw_connection()).driver_connection.fetch(ALL))


async def by_an_engine_of_its_own(session: Any) -> int:
    engine = create_async_engine(session.bind.url)
    async with engine.connect() as connection:
        found = (await connection.execute(text(ALL))).all()
    await engine.dispose()
    return len(found)


async def by_another_driver(session: Any) -> int:
    with psycopg.connect(libpq_uri(session.bind.url)) as connection:
        return len(connection.execute(ALL).fetchall())


async def by_copy(session: Any) -> int:
    connection, rows = await asyncpg.connect(libpq_uri(session.bind.url)), bytearray()

    async def keep(data: bytes) -> None:
        rows.extend(data)

    await connection.copy_from_query(ALL, output=keep)
    await connection.close()
    return rows.count(b"\n")


async def by_returning(session: Any) -> int:
    found = (await session.execute(text("UPDATE users SET name = name RETURNING id"))).all()
    await session.rollback()
    return len(found)


async def behind_a_comment(session: Any) -> int:
    return len((await session.execute(text(f"/* count */ {ALL}"))).all())


async def after_emptying_the_log(session: Any) -> int:
    found = len((await session.execute(text(ALL))).all())
    for log in [log for log in gc.get_objects() if isinstance(log, QueryLog) and log._open]:
        for name, listener in log._listeners():
            event.remove(log._target, name, listener)
        log._clear()
    return found


async def with_a_log_that_is_broken(session: Any) -> int:
    found = len((await session.execute(text(ALL))).all())
    QueryLog.entries = property(lambda log: 1 / 0)  # type: ignore[method-assign, assignment]
    return found


@pytest.mark.parametrize(
    "answer",
    [
        by_the_driver, by_an_engine_of_its_own, by_another_driver, by_copy, by_returning, behind_a_comment,
        after_emptying_the_log, with_a_log_that_is_broken,
    ],
)  # fmt: skip
async def test_rows_that_came_another_way_are_counted(
    answer: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QueryLog, "entries", QueryLog.entries)  # put back afterwards
    name = COUNT_USERS.answer
    answer.__name__ = name
    verdict = await judge_answer(COUNT_USERS, answer)
    assert verdict.mistake == "counted in Python", str(verdict)


@pytest.fixture
async def attempt() -> AsyncIterator[Attempt]:
    async with make_and_stay("99") as (database, admin):
        attempt = Attempt(COUNT_USERS, None, database, admin)
        yield attempt
        await attempt.close()


async def test_connections_are_counted_whoever_holds_them(attempt: Attempt) -> None:
    await attempt.prepare()

    async def holds() -> int:
        engine = create_async_engine(attempt.url, pool_size=3)
        held = [await engine.connect() for _ in range(3)]
        async with attempt.session() as session:
            await session.execute(text(ALL))
            during = attempt.connections()
        for connection in held:
            await connection.close()
        await engine.dispose()
        return during

    assert await attempt.call(function=holds) == 4
    assert (attempt.log.connections, attempt.log.most_connections) == (4, 4)
    assert attempt.log.statements[0].where is not None, "the engine's own has a line"
