"""5.8: an engine that keeps nothing on a server connection from one transaction to the next."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from secrets import randbelow, token_hex
from typing import ClassVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.exercises.lesson_05.scenes.engines import engine_of, seen_by_others, try_out
from course_lib.exercises.lesson_05.scenes.server_connections import (
    LET_THROUGH,
    LIMIT,
    SENT,
    ServerConnections,
    next_names,
    server_connections,
)
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.trouble import sqlstate_of

MISSING, TAKEN = "26000", "42P05"  # SQLSTATEs: no prepared statement of that name, and one of that name already
ROUNDS = 7  # psycopg prepares what it has run five times
AT_ONCE = 4


class BehindPgBouncer(Exercise):
    """Prepared statements, start parameters and SET, each in its place."""

    id = "5.8"
    title = "Settings that survive PgBouncer"
    answer = "engine_for_pgbouncer"
    minutes = 15
    points = 3
    level = "senior"
    recipe = "empty"
    hints: ClassVar = (
        "What belongs to a session stays on the server connection when the transaction ends, and the next transaction "
        "may get another one. Which two things does your engine keep in a session?",
        "Two caches hold prepared statements: `statement_cache_size` is asyncpg's, `prepared_statement_cache_size` is "
        "SQLAlchemy's. Both are `connect_args`, and 0 switches a cache off.",
        "`SET LOCAL` ends with the transaction. SQLAlchemy's event `begin`, on `engine.sync_engine`, is where each one "
        "starts; its argument has `exec_driver_sql`.",
    )
    why = (
        "A statement without a name is prepared and run within one transaction, so there is nothing to find again and "
        "nothing to collide. `SET LOCAL` is part of the transaction that it limits: it travels with it to any server "
        "connection and leaves nothing there. It costs a statement per transaction, and parsing each time anew."
    )
    follow_up = (
        "PgBouncer from 1.21 on can keep track of prepared statements. What does your engine gain from that, and which "
        "of your precautions does it leave you with?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`engine_for_pgbouncer` returned None. | Did you forget `return`?",
        "not an engine": "`engine_for_pgbouncer` returned {kind}, and an AsyncEngine was asked for. "
        "| `create_async_engine(url, …)` makes one.",
        "refused": "The engine sends a setting with its first message ({name}), and PgBouncer refuses the connection. "
        "| It would hold for a session. Which SET holds for a transaction?",
        "no limit": "With lock_timeout={limit}, a transaction of the engine found the setting at {found}. "
        "| `SET LOCAL lock_timeout = …`, at the beginning of each transaction, in milliseconds.",
        "autocommit": "A row was changed and rolled back, and is changed all the same. "
        "| Without transactions PgBouncer may take every statement somewhere else.",
        "statement missing": "After {count} transactions the next one was on another server connection, and the server "
        "knew nothing of a prepared statement that it was to run. "
        "| Two caches count on one session: the driver's and SQLAlchemy's.",
        "limit lost": "After {count} transactions the next one was on another server connection, and found "
        "lock_timeout at {found}. | A SET is known to one server connection. Set it in each transaction.",
        "name taken": "Another process had been on the server connection, and a statement was refused since there was "
        "one of that name. | Each process counts from 1. A statement that is not kept needs no name.",
        "left behind": "After a transaction of the engine, other clients find lock_timeout at {found}, where it was "
        "{before}. | `SET` outlasts the transaction, on a connection that is somebody else's by then.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql("CREATE TABLE counter (n int NOT NULL)")
        await attempt.sql("INSERT INTO counter VALUES (0)")
        async with server_connections(attempt) as place:
            await try_out(attempt, _Trial(attempt, place, 1001 + 10 * randbelow(500)).run)


class _Trial:
    def __init__(self, attempt: Attempt, place: ServerConnections, limit: int) -> None:
        self.attempt = attempt
        self.place = place
        self.limit = limit
        self.transactions = 0

    async def run(self) -> None:
        ((before,),) = await seen_by_others(self.attempt, LIMIT)
        theirs = self.limit + 7  # milliseconds, of another client's own, which are not for the engine to change
        async with engine_of(self.attempt, self.place.url, self.limit) as engine:
            await self._for_nobody_else(before)
            self.place.watch(engine)
            await self._first(engine)
            await self._stays_itself(engine)
            for _ in range(ROUNDS):
                await self._transaction(engine, "no limit")
            await self._elsewhere(lambda: self._transaction(engine, "limit lost"))
            self._nothing_left(await self.place.left_behind(), before)
            await self.place.visit(await next_names(self.attempt.database.url), theirs)
            new = token_hex(3)  # a statement that it has not run yet
            await self._transaction(engine, "limit lost", new)
            await self._elsewhere(lambda: self._transaction(engine, "limit lost", new))
            await asyncio.gather(*(self._transaction(engine, "limit lost") for _ in range(AT_ONCE)))
            self._nothing_left(await self.place.left_behind(), theirs)
            await self._for_nobody_else(before)

    async def _elsewhere(self, work: Callable[[], Awaitable[None]]) -> None:
        await self.place.move()
        try:
            await work()
        finally:
            await self.place.stay()

    async def _for_nobody_else(self, before: int) -> None:
        self._nothing_left([limit for (limit,) in await seen_by_others(self.attempt, LIMIT)], before)

    def _nothing_left(self, found: list[int], before: int) -> None:
        other = next((limit for limit in found if limit != before), None)
        self.attempt.expect(other is None, "left behind", found=other, before=before)

    async def _first(self, engine: AsyncEngine) -> None:
        """PgBouncer says which start parameter it does not like; without it the server knows what was sent."""
        try:
            async with engine.begin() as connection:
                sent = set((await connection.execute(text(SENT))).scalars()) - LET_THROUGH
        except Exception as error:
            refused = re.search(r"unsupported startup parameter[^:]*: (\w+)", str(error))
            if refused is None:
                raise
            raise self.attempt.wrong("refused", name=refused[1]) from error
        self.attempt.expect(not sent, "refused", name=min(sent, default=""))

    async def _stays_itself(self, engine: AsyncEngine) -> None:
        async with engine.connect() as connection:  # left without a commit
            await connection.execute(text("UPDATE counter SET n = n + 1"))
        self.attempt.expect(await self.attempt.value("SELECT n FROM counter") == 0, "autocommit")

    async def _transaction(self, engine: AsyncEngine, without_limit: str, new: str = "") -> None:
        try:
            async with engine.begin() as connection:
                found = (await connection.execute(text(LIMIT))).scalar()
                await connection.execute(text(f"SELECT n + :more AS n{new} FROM counter"), {"more": 1})
        except DBAPIError as error:
            code = sqlstate_of(error)
            if code not in (MISSING, TAKEN):
                raise
            name = "statement missing" if code == MISSING else "name taken"
            raise self.attempt.wrong(name, count=self.transactions) from error
        numbers = {"limit": self.limit, "found": found, "count": self.transactions}
        self.attempt.expect(found == self.limit, without_limit, **numbers)
        self.transactions += 1
