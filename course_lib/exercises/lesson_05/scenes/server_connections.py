"""What PgBouncer does to a client in transaction mode: for real, or, where it is not installed, to its connections.

A client is told by two things that a server connection is not its own: what it did in an earlier transaction is gone,
and what others did is there. PgBouncer brings that about by handing out another server connection; without it, the
judge makes the learner's own connections look like that, between transactions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import asyncpg
import psycopg
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError
from course_lib.judging.attempt import Attempt
from course_lib.postgres.address import libpq_uri
from course_lib.postgres.pgbouncer import pgbouncer, pgbouncer_is_installed

NAMES = 120  # more statements than a check runs after others have been there
LIMIT = "SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'"
LET_THROUGH = {"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"}
"""The settings that PgBouncer takes from a client that connects (its documentation, ignore_startup_parameters)."""
SENT = "SELECT name FROM pg_settings WHERE source = 'client'"


class ServerConnections(Protocol):
    """A place where transactions of one client run on different server connections."""

    url: URL

    def watch(self, engine: AsyncEngine) -> None:
        """To be called before the engine is used."""

    async def move(self) -> None:
        """The next transaction runs on another server connection than the last one."""

    async def stay(self) -> None:
        """No longer."""

    async def visit(self, names: list[str], limit: int) -> None:
        """Another client prepares statements of these names on every server connection, and sets ``lock_timeout``."""

    async def left_behind(self) -> list[int]:
        """The ``lock_timeout`` that other clients find on the server connections by now, in milliseconds."""


@asynccontextmanager
async def server_connections(attempt: Attempt) -> AsyncIterator[ServerConnections]:
    """Two server connections behind PgBouncer, or the next best thing."""
    database = attempt.database
    async with AsyncExitStack() as stack:
        if pgbouncer_is_installed():
            try:
                bouncer = await stack.enter_async_context(pgbouncer(database.server, database.name))
                others = [await stack.enter_async_context(await _client(bouncer.dsn)) for _ in range(2)]
            except CourseError:  # it is there, and does not run on this machine
                pass
            else:
                yield _Shared(bouncer.url, others)
                return
        await attempt.sql("CREATE TABLE left_behind (lock_timeout int)")
        yield _Altered(attempt.url, attempt)


async def next_names(url: URL) -> list[str]:
    """The names that another process, which has run as long as this one, has given to its statements."""
    connection = await asyncpg.connect(libpq_uri(url), timeout=10)
    try:
        name = (await connection.prepare("SELECT 1")).get_name()
    finally:
        await connection.close()
    last = int(name.strip("_").rpartition("_")[2], 16)
    ours = [f"__asyncpg_stmt_{last + number:x}__" for number in range(1, NAMES)]
    return ours + [f"_pg3_{number}" for number in range(NAMES // 2)]


def _prepare(names: list[str], limit: int) -> str:
    prepared = [f"PREPARE \"{name}\" AS SELECT 'of another process'" for name in names]
    return "; ".join([f"SET lock_timeout = {limit}", *prepared])


async def _client(dsn: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None, options="")


class _Shared:
    """Behind PgBouncer, with two other clients who keep the learner's from its server connection, or not."""

    def __init__(self, url: URL, others: list[psycopg.AsyncConnection[Any]]) -> None:
        self.url = url
        self._others = others

    def watch(self, engine: AsyncEngine) -> None:
        pass

    async def move(self) -> None:
        await self._others[0].execute("BEGIN")  # it is given the one that was used last

    async def stay(self) -> None:
        await self._others[0].execute("COMMIT")

    async def visit(self, names: list[str], limit: int) -> None:
        for other in self._others:
            await other.execute("BEGIN")
            known = await (await other.execute("SELECT name FROM pg_prepared_statements")).fetchall()
            taken = {name for (name,) in known}
            await other.execute(_prepare([name for name in names if name not in taken], limit).encode())
        for other in self._others:
            await other.execute("COMMIT")

    async def left_behind(self) -> list[int]:
        found = []
        for other in self._others:
            await other.execute("BEGIN")
            found += [limit for (limit,) in await (await other.execute(LIMIT)).fetchall()]
        for other in self._others:
            await other.execute("COMMIT")
        return found


class _Altered:
    """Without PgBouncer: the session of the learner's connection is emptied, and filled by somebody else."""

    def __init__(self, url: URL, attempt: Attempt) -> None:
        self.url = url
        self._attempt = attempt
        self._moving = False
        self._foreign = ""

    def watch(self, engine: AsyncEngine) -> None:
        pool = engine.sync_engine.pool
        event.listen(pool, "connect", self._connected, insert=True)
        event.listen(pool, "checkout", self._taken, insert=True)
        event.listen(pool, "checkin", self._returned)

    def _connected(self, connection: Any, record: Any) -> None:
        if self._foreign:
            connection.run_async(lambda driver: _send(driver, self._foreign))

    def _taken(self, connection: Any, record: Any, proxy: Any) -> None:
        if self._moving and record.info.get("used"):
            connection.run_async(lambda driver: _send(driver, "DISCARD ALL", self._foreign))

    def _returned(self, connection: Any, record: Any) -> None:
        if connection is not None:
            record.info["used"] = True
            connection.run_async(lambda driver: _send(driver, f"INSERT INTO left_behind {LIMIT}"))

    async def move(self) -> None:
        self._moving = True

    async def stay(self) -> None:
        self._moving = False

    async def visit(self, names: list[str], limit: int) -> None:
        self._foreign = _prepare(names, limit)
        self._moving = True  # from here on, every transaction comes to where another client was

    async def left_behind(self) -> list[int]:
        rows = await self._attempt.sql("DELETE FROM left_behind RETURNING lock_timeout")
        found: list[int] = rows.column("lock_timeout")
        return found


async def _send(driver: Any, *statements: str) -> None:
    """Past the driver's own accounts of what is prepared, and of transactions: as the server is told."""
    for statement in statements:
        if isinstance(driver, psycopg.AsyncConnection):
            driver.pgconn.exec_(statement.encode())
        elif statement:
            await driver.execute(statement)
