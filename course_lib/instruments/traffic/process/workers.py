"""Workers: each sends one request after another on a connection of its own, and writes down how long each took."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import asyncpg

from course_lib.instruments.traffic.process.statements import Statement, Table

PAUSE = 0.003  # seconds between two requests of a worker
AFTER_A_LOSS = 0.05  # seconds until a worker connects again
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
UNREACHABLE = "08001"  # SQLSTATE: the client is unable to establish a connection
Connect = Callable[[], Awaitable[Any]]
Request = tuple[float, float, str | None, bool]  # began, ended, why it failed, whether it stood at a lock


class Worker:
    """One of them.

    Every request is a transaction of its own, with one statement that is prepared once for a connection. So what
    asyncpg says of a prepared statement that no longer fits its table comes through, as it does with SQLAlchemy;
    outside of a transaction asyncpg would prepare it again and say nothing.
    """

    def __init__(self, name: str, kind: str, connect: Connect, table: Table, statement: Statement) -> None:
        self.name, self.kind = name, kind
        self.requests: list[Request] = []
        self.names: dict[str, str] = {}
        self.began = 0.0
        self.at_lock = False
        self.is_cut_off = False
        self._connect = connect
        self._table = table
        self._statement = statement
        self._connection: asyncpg.Connection[Any] | None = None

    @property
    def pid(self) -> int | None:
        """The number of its server process."""
        return self._connection.get_server_pid() if self._connection is not None else None

    async def work(self, over: asyncio.Event) -> None:
        """Until it is over, and once more: even the shortest block has a request that began in it or after it."""
        try:
            while not over.is_set():
                await self.request()
                await asyncio.sleep(AFTER_A_LOSS if self._connection is None else PAUSE)
            await self.request()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def request(self) -> None:
        self.began, self.at_lock = perf_counter(), False
        failure = None
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = None
                self._connection = await self._connect()
            async with self._connection.transaction():
                await self._connection.fetch(self._statement.sql, *self._table.values(self._statement.values))
        except FAILURES as error:
            failure = self._code_of(error)
        if not self.is_cut_off:
            self.requests.append((self.began, perf_counter(), failure, self.at_lock))

    def _code_of(self, error: BaseException) -> str:
        """The SQLSTATE, or the name of the error's class where the server said nothing."""
        if isinstance(error, asyncpg.InterfaceError) and error.__context__ is not None:
            error = error.__context__  # why it could not be rolled back
        kind = type(error).__name__.removesuffix("Error")
        code = getattr(error, "sqlstate", None) or (UNREACHABLE if isinstance(error, OSError) else kind)
        self.names.setdefault(code, kind)
        return str(code)

    def cut_off(self) -> None:
        """It waits in vain: the request under way ends now, and counts for as long as it took."""
        self.is_cut_off = True
        self.requests.append((self.began, perf_counter(), None, self.at_lock))
