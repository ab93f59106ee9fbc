"""The limits of 5.7 tried out: statements that are too slow, locks that are waited for, transactions that idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import randbelow
from time import perf_counter
from typing import TypeVar
from uuid import UUID

from sqlalchemy import NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from course_lib.db import make_engine
from course_lib.exercises.lesson_05.scenes.engines import engine_of, seen_by_others
from course_lib.judging.asking import NOT_AVAILABLE
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import kind_of
from course_lib.judging.staging import add_user
from course_lib.judging.trouble import QUERY_CANCELED, sqlstate_of

TOUCH = text("UPDATE users SET tokens_used = tokens_used + 1 WHERE id = :id")
SLEEP = text("SELECT pg_sleep(:seconds)")
LIMITS = "SELECT name, setting::int FROM pg_settings WHERE name LIKE '%\\_timeout' ORDER BY name"
NAMES = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
ANOTHER = 1.0  # seconds for another connection, where an engine has one
PATIENCE = 2.0  # seconds; only a wrong answer makes us wait for so long
TRIES = 6
T = TypeVar("T")


@dataclass
class _Used:
    """An engine that has been used before, and a row that nobody else wants."""

    engine: AsyncEngine
    row: UUID
    first: dict[str, int]
    """Every limit as it was in the engine's first transaction, in milliseconds."""


class Trial:
    """The limits that are asked for, and one check for each; every check has an engine to itself."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.statement = 300 + randbelow(40)
        self.lock = 50 + randbelow(10)
        self.idle = 130 + randbelow(20)

    async def run(self) -> None:
        before: dict[str, int] = dict(await seen_by_others(self.attempt, LIMITS))
        checks = self._lets_work, self._stops_a_statement, self._does_not_wait, self._frees_a_lock
        async with AsyncExitStack() as stack:
            used = [await stack.enter_async_context(self._used_engine()) for _ in checks]
            running = (check(one) for check, one in zip(checks, used, strict=True))
            results = await asyncio.gather(*running, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            await self._holds_everywhere(used[0])
            await self._holds_in_every_transaction(used[0])
            others = await self._takes_any()
            await self._spares_others(before)
            await self._keeps_its_own(used[0], others)
            name = NAMES[3]
            found, usual = used[0].first[name], before[name]
            self.attempt.expect(found == usual, "whole transactions", name=name, found=found, before=usual)

    async def _spares_others(self, before: dict[str, int]) -> None:
        for name, now in await seen_by_others(self.attempt, LIMITS):
            self.attempt.expect(now == before[name], "for everybody", name=name, now=now, before=before[name])
        engine = make_engine(self.attempt.url, poolclass=NullPool)
        for name, now in (await self._limits(engine)).items():
            self.attempt.expect(now == before[name], "other engines", name=name, now=now, before=before[name])

    async def _holds_everywhere(self, used: _Used) -> None:
        """The limits are those that were asked for, on connections beside the first and on those to come as well."""
        self._look_at(used.first, statement=self.statement, lock=self.lock, idle=self.idle)
        async with used.engine.connect():  # without a transaction, which would be ended
            try:
                beside = await asyncio.wait_for(self._limits(used.engine), ANOTHER)
            except (TimeoutError, PoolTimeout):  # an engine may have one connection only
                beside = used.first
        await used.engine.dispose()
        for later in (beside, await self._limits(used.engine)):
            for name in NAMES[:3]:
                first, now = used.first[name], later[name]
                self.attempt.expect(now == first, "first connection only", name=name, first=first, now=now)

    async def _holds_in_every_transaction(self, used: _Used) -> None:
        """A connection is kept for two of them."""

        async def two() -> dict[str, int]:
            async with used.engine.connect() as connection:
                await connection.execute(text(LIMITS))
                await connection.commit()
                return dict((await connection.execute(text(LIMITS))).tuples().all())

        later = await _steadily(two)
        for name in NAMES[:3]:
            first, now = used.first[name], later[name]
            self.attempt.expect(now == first, "gone", name=name, first=first, later=now)

    async def _takes_any(self) -> dict[str, int]:
        """Limits of more than a second, and one for locks that is longer than the one for statements."""
        limits = {"statement": 1900 + randbelow(90), "lock": 61_000 + randbelow(99), "idle": 3_600_500 + randbelow(99)}
        async with engine_of(self.attempt, self.attempt.url, *limits.values()) as engine:
            self._look_at(await self._limits(engine), **limits)
        return limits

    async def _keeps_its_own(self, used: _Used, others: dict[str, int]) -> None:
        """An engine with other limits has been made meanwhile."""
        await used.engine.dispose()
        now = await self._limits(used.engine)
        own = {"statement": self.statement, "lock": self.lock, "idle": self.idle}
        for (argument, limit), name in zip(own.items(), NAMES, strict=False):
            numbers = {"limit": limit, "other": others[argument], "name": name, "found": now[name]}
            self.attempt.expect(now[name] == limit, "of another call", argument=argument, **numbers)

    def _look_at(self, found: dict[str, int], **limits: int) -> None:
        for (argument, limit), name in zip(limits.items(), NAMES, strict=False):
            right = found[name] == limit
            self.attempt.expect(right, "another limit", argument=argument, limit=limit, name=name, found=found[name])

    async def _limits(self, engine: AsyncEngine) -> dict[str, int]:
        async with engine.connect() as connection:
            return dict((await connection.execute(text(LIMITS))).tuples().all())

    @asynccontextmanager
    async def _used_engine(self) -> AsyncIterator[_Used]:
        row = await add_user(self.attempt)
        url = self.attempt.url
        async with engine_of(self.attempt, url, self.statement, self.lock, self.idle) as engine:

            async def change_and_leave() -> dict[str, int]:
                async with engine.connect() as connection:  # no commit, as in a request that only reads
                    await connection.execute(TOUCH, {"id": row})
                    return dict((await connection.execute(text(LIMITS))).tuples().all())

            first = await _steadily(change_and_leave, {QUERY_CANCELED})
            changes = await self.attempt.value("SELECT tokens_used FROM users WHERE id = :id", id=row)
            self.attempt.expect(changes == 0, "autocommit")
            yield _Used(engine, row, first)

    async def _wrong(self, used: _Used, name: str, mistake: str, **numbers: object) -> Wrong:
        """The mistake, unless the setting has only been lost on the way."""
        found = (await self._limits(used.engine))[name]
        if used.first[name] != found:
            return self.attempt.wrong("gone", name=name, first=used.first[name], later=found)
        return self.attempt.wrong(mistake, found=found, **numbers)

    async def _lets_work(self, used: _Used) -> None:
        """A statement takes longer than a transaction may be idle, and is within its own limit."""
        took = (self.idle + self.statement) // 2
        found = used.first["statement_timeout"]

        async def work() -> None:
            async with used.engine.begin() as connection:
                await connection.execute(SLEEP, {"seconds": took / 1000})
                await connection.execute(TOUCH, {"id": used.row})

        try:
            await _steadily(work, {QUERY_CANCELED} if found > took else ())
        except Exception as error:
            if sqlstate_of(error) == QUERY_CANCELED:
                raise self.attempt.wrong("stopped too early", limit=self.statement, took=took, found=found) from error
            kind = kind_of(error)
            raise self.attempt.wrong("worker ended", limit=self.idle, took=took, error=kind) from error

    async def _stops_a_statement(self, used: _Used) -> None:
        took = self.statement * 2

        async def sleep() -> None:
            async with used.engine.connect() as connection:
                await connection.execute(SLEEP, {"seconds": took / 1000})

        try:
            await _steadily(sleep)
        except Exception as error:
            if sqlstate_of(error) == QUERY_CANCELED:
                return
            raise self.attempt.wrong("not by the server", error=kind_of(error)) from error
        raise await self._wrong(
            used, "statement_timeout", "statement not stopped", limit=self.statement, took=took
        )  # fmt: skip

    async def _does_not_wait(self, used: _Used) -> None:
        """The judge holds the row."""

        async def touch() -> None:
            async with used.engine.begin() as connection:
                await connection.execute(TOUCH, {"id": used.row})

        async with self._patient() as judge:
            await judge.execute(TOUCH, {"id": used.row})
            touching = asyncio.ensure_future(_steadily(touch))
            began = perf_counter()
            await asyncio.wait({touching}, timeout=PATIENCE)
            waited, in_time = round((perf_counter() - began) * 1000), touching.done()
            await judge.rollback()
        (error,) = await asyncio.gather(touching, return_exceptions=True)
        code = sqlstate_of(error)
        if in_time and code == NOT_AVAILABLE:
            return
        if in_time and code is None:
            raise self.attempt.wrong("not by the server", error=kind_of(error))
        ended = f"was ended with SQLSTATE {code}" if in_time else "was still standing there"
        raise await self._wrong(
            used, "lock_timeout", "lock waited for", limit=self.lock, waited=waited, ended=ended
        )  # fmt: skip

    async def _frees_a_lock(self, used: _Used) -> None:
        """The learner's session has changed the row and does nothing more; the judge wants it too."""

        async def change() -> AsyncConnection:
            connection = await used.engine.connect()
            await connection.execute(TOUCH, {"id": used.row})
            return connection

        connection = await _steadily(change)
        try:
            async with self._patient() as judge:
                await judge.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
                await judge.execute(TOUCH, {"id": used.row})
            return
        except DBAPIError as error:
            if sqlstate_of(error) != NOT_AVAILABLE:
                raise
        finally:
            await connection.invalidate()
            await connection.close()
        name, waited = "idle_in_transaction_session_timeout", round(PATIENCE * 1000)
        raise await self._wrong(used, name, "lock kept", limit=self.idle, waited=waited)

    @asynccontextmanager
    async def _patient(self) -> AsyncIterator[AsyncSession]:
        """A session of the judge's own in a transaction without limits, whatever the answer did to the database."""
        async with self.attempt.judge_session() as judge:
            for setting in NAMES:
                await judge.execute(text(f"SET LOCAL {setting} = 0"))
            yield judge


async def _steadily(work: Callable[[], Awaitable[T]], passing: Container[str | None] = ()) -> T:
    """A transaction without a pause of its own. On a busy machine there may be one, and it is ended for it: again.

    ``passing`` are SQLSTATEs that come of such a pause as well.
    """
    for _ in range(TRIES - 1):
        try:
            return await work()
        except DBAPIError as error:
            if not (error.connection_invalidated or sqlstate_of(error) in passing):
                raise
    return await work()
