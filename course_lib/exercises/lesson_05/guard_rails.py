"""5.7: what the server ends by itself, and for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import randbelow
from time import perf_counter
from typing import ClassVar, TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from course_lib.exercises.lesson_05.scenes.engines import engine_of, try_out
from course_lib.judging.asking import NOT_AVAILABLE
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of
from course_lib.judging.staging import add_user
from course_lib.judging.trouble import QUERY_CANCELED, sqlstate_of

TOUCH = text("UPDATE users SET tokens_used = tokens_used + 1 WHERE id = :id")
SLEEP = text("SELECT pg_sleep(:seconds)")
LIMITS = "SELECT name, setting::int FROM pg_settings WHERE name LIKE '%\\_timeout' ORDER BY name"
ROLE = """
    SELECT unnest(setconfig) AS setting FROM pg_db_role_setting
    WHERE setdatabase = 0 AND setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
"""
NAMES = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
PATIENCE = 2.0  # seconds; only a wrong answer makes us wait for so long
TRIES = 3
ONE_AT_A_TIME = 507  # an advisory lock: an answer may change its role, which another check must not meet
T = TypeVar("T")


class GuardRails(Exercise):
    """Three limits of the server, on every connection of one engine."""

    id = "5.7"
    title = "Guard rails"
    answer = "guarded_engine"
    minutes = 12
    points = 2
    level = "mid"
    recipe = "migrated"
    seconds = 15.0
    hints: ClassVar = (
        "PostgreSQL has a setting for each of the three. `SELECT name, short_desc FROM pg_settings WHERE name LIKE "
        "'%timeout'` lists them.",
        "A setting holds for a session, so every connection of the pool needs it, from its beginning on.",
        "asyncpg sends settings with the connection's first message: "
        '`connect_args={"server_settings": {name: value}}`. Both are strings, and a bare number is milliseconds.',
    )
    why = (
        "Sent with the first message, the settings are the session's defaults: no rollback takes them away, and "
        "nobody else is bound by them. The server keeps the limits even when the program stalls, which is when they "
        "are needed. What the program sees is a broken connection, so log on the server why it was ended."
    )
    follow_up = (
        "With PgBouncer in transaction mode between you and the server, such a start is refused. Where do the limits "
        "go then?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`guarded_engine` returned None. | Did you forget `return`?",
        "not an engine": "`guarded_engine` returned {kind}, and an AsyncEngine was asked for. "
        "| `create_async_engine(url, …)` makes one.",
        "autocommit": "A row was changed and rolled back, and is changed all the same. "
        "| Limits need no AUTOCOMMIT: transactions work as ever.",
        "statement not stopped": "With statement={limit}, a statement that took {took} ms was let run to its end. "
        "| `SHOW statement_timeout` says {found} there; 0 is no limit, and a bare number is milliseconds.",
        "lock waited for": "With lock={limit}, a statement stood at a locked row, and after {waited} ms {ended}. "
        "| `SHOW lock_timeout` says {found} there. Waiting for a lock has a limit of its own.",
        "lock kept": "With idle={limit}, a transaction did nothing, and still had its row locked after {waited} ms. "
        "| `SHOW idle_in_transaction_session_timeout` says {found} there.",
        "stopped too early": "With statement={limit}, a statement that took {took} ms was stopped. "
        "| `SHOW statement_timeout` says {found} there. Each limit has a setting of its own.",
        "worker ended": "With idle={limit}, a transaction was ended after a statement that took {took} ms: {error}. "
        "| It was at work and not idle. A limit on whole transactions is another one.",
        "not by the server": "A statement that was too slow ended in {error}, which the server never said. "
        "| A limit in the client does nothing for a client that stalls. Set it on the server.",
        "another limit": "With {argument}={limit}, `{name}` is {found} in a transaction. "
        "| Which argument belongs to which setting? All are milliseconds.",
        "first connection only": "`{name}` was {first} on the engine's first connection, and is {now} on the next one. "
        "| A pool makes connections as it needs them. Each of them has to begin with the limits.",
        "gone": "`{name}` was {first} in the connection's first transaction, and {later} in a later one. "
        "| A SET in a transaction that is rolled back is undone.",
        "for everybody": "A connection that is not the engine's finds {now} in `{name}`, where it was {before}. "
        "| Migrations and psql come with the same role to the same database. Bind the engine only.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        async with attempt.database.server.connection() as alone:  # the lock goes with its connection
            await alone.execute("SELECT pg_advisory_lock($1)", ONE_AT_A_TIME)
            before = await attempt.sql(ROLE)
            try:
                await try_out(attempt, lambda: _Trial(attempt).run())
            finally:
                await _restore_role(attempt, before.column("setting"))


@dataclass
class _Used:
    """An engine that has been used before, and a row that nobody else wants."""

    engine: AsyncEngine
    row: UUID
    first: dict[str, int]
    """Every limit as it was in the engine's first transaction, in milliseconds."""


class _Trial:
    """The limits that are asked for, and one check for each; every check has an engine to itself."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.statement = 640 + randbelow(40)
        self.lock = 100 + randbelow(20)
        self.idle = 280 + randbelow(40)

    async def run(self) -> None:
        before: dict[str, int] = dict(await self.attempt.sql(LIMITS))
        checks = self._lets_work, self._stops_a_statement, self._does_not_wait, self._frees_a_lock
        async with AsyncExitStack() as stack:
            used = [await stack.enter_async_context(self._used_engine()) for _ in checks]
            running = (check(one) for check, one in zip(checks, used, strict=True))
            results = await asyncio.gather(*running, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            await self._holds_everywhere(used[0])
        for name, now in await self.attempt.sql(LIMITS):
            self.attempt.expect(now == before[name], "for everybody", name=name, now=now, before=before[name])

    async def _holds_everywhere(self, used: _Used) -> None:
        """The limits are those that were asked for, on the connections to come as well."""
        await used.engine.dispose()
        later = await self._limits(used.engine)
        for argument, name in zip(("statement", "lock", "idle"), NAMES, strict=False):
            limit, first, now = getattr(self, argument), used.first[name], later[name]
            self.attempt.expect(first == limit, "another limit", argument=argument, limit=limit, name=name, found=first)
            self.attempt.expect(now == first, "first connection only", name=name, first=first, now=now)

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


async def _restore_role(attempt: Attempt, before: list[str]) -> None:
    """Settings of a role outlive the attempt's database: put them back."""
    if (await attempt.sql(ROLE)).column("setting") == before:
        return
    kept = dict(setting.split("=", 1) for setting in before)
    for name in NAMES:
        change = f"SET {name} = '{kept[name]}'" if name in kept else f"RESET {name}"
        await attempt.sql(f"ALTER ROLE CURRENT_USER {change}")
