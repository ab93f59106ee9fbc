"""Races that happen the same way every time: rows are held until the learner's sessions stand at them."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self
from uuid import UUID

import asyncpg
import psycopg
from psycopg import sql
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.judging.asking import NOT_AVAILABLE, together
from course_lib.judging.attempt import Attempt
from course_lib.postgres.address import libpq_uri

NONE_LEFT = ("too many connections", "remaining connection slots", "sorry, too many clients")
MANY = 40  # interruptions of one call, where none may fail
ADVISORY = """
    SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
"""


def sessions_of(attempt: Attempt) -> async_sessionmaker[AsyncSession]:
    """The session factory that the learner's code is given."""
    return make_session_factory(attempt.engine)


async def at_once(attempt: Attempt, *calls: Sequence[Any]) -> list[Any]:
    """One call of the answer for each of the given arguments, all at the same time; what each returned.

    Raises:
        Wrong: "raised", for the first of them that raised.
    """

    async def one(arguments: Sequence[Any]) -> Any:
        answered = attempt.answer(sessions_of(attempt), *arguments)
        return await answered if inspect.isawaitable(answered) else answered

    return await together(attempt, [partial(one, arguments) for arguments in calls])


async def holds_advisory_lock(attempt: Attempt) -> bool:
    """True while a session holds one: other processes that run the same code are kept out by it."""
    return bool(await attempt.value(ADVISORY))


def store_if_free(attempt: Attempt, table: str, id: UUID, column: str, value: Any) -> bool:
    """Store a value in one row, as another process would, and say so; False if the learner's code keeps it out.

    It is kept out by a lock on the row or the table, and by any advisory lock, which code like the learner's would
    wait for. To be called from a plain function, in the middle of what the learner's code does.
    """
    with Intruder(attempt) as other:
        return not other.value(ADVISORY) and other.change_if_free(table, id, f"{column} = %s", value)


class Intruder:
    """Another process, for plain functions that run in the middle of what the learner's code does.

    It has one connection, and changes a limited number of rows: more than who tries again a fixed number of times
    survives, and not for so long that who pauses between two tries does not come to an end.

    Args:
        times: so many changes, and no more.
        seconds: and none when so much time has passed since the first.

    Raises:
        asyncpg.TooManyConnectionsError: when the block ends, where the server had no connection for it.
    """

    def __init__(self, attempt: Attempt, times: int = MANY, seconds: float = 2.5) -> None:
        self._url = libpq_uri(attempt.database.url)
        self._times, self._seconds = times, seconds
        self._first = 0.0
        self._open: psycopg.Connection[Any] | None = None
        self._refused: asyncpg.TooManyConnectionsError | None = None
        self.changes = 0
        """How many it has made."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()
        if self._refused is not None:
            raise self._refused

    def _connected(self) -> psycopg.Connection[Any] | None:
        """The connection; None where the server has none left, which is said at the end, and not in an answer's call.

        Raises:
            psycopg.OperationalError: it cannot be reached.
        """
        if self._open is None and self._refused is None:
            self._first = time.monotonic()
            try:
                self._open = psycopg.connect(self._url, autocommit=True, options="-c lock_timeout=50ms")
            except psycopg.OperationalError as error:
                if not any(words in str(error) for words in NONE_LEFT):
                    raise
                self._refused = asyncpg.TooManyConnectionsError(str(error))
        return self._open

    @property
    def at_its_end(self) -> bool:
        """True when it changes nothing more."""
        late = self._open is not None and time.monotonic() - self._first > self._seconds
        return late or self.changes >= self._times

    def value(self, statement: str, *values: Any) -> Any:
        """The first value of the first row, as others see it."""
        connection = self._connected()
        row = connection.execute(statement.encode(), values).fetchone() if connection else None
        return row[0] if row else None

    def serializable(self, *statements: tuple[str, Sequence[Any]]) -> bool:
        """These statements in one transaction at SERIALIZABLE; whether the server let it commit."""
        connection = self._connected()
        if connection is None or self.at_its_end:
            return False
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                for statement, values in statements:
                    connection.execute(statement.encode(), values)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure):
            return False
        self.changes += 1
        return True

    def keep_open(self, statement: str, *values: Any) -> Any:
        """Run a statement in a transaction that stays open until ``roll_back``; the first value that it returns.

        None where it returns no row, or where a lock is in the way.
        """
        connection = self._connected()
        if connection is None:
            return None
        connection.execute("BEGIN")
        try:
            row = connection.execute(statement.encode(), values).fetchone()
        except psycopg.errors.LockNotAvailable:
            self.roll_back()
            return None
        return row[0] if row else None

    def roll_back(self) -> None:
        """End the transaction that was kept open, if there is one."""
        if self._open is not None:
            self._open.execute("ROLLBACK")

    def delete_if_free(self, table: str, id: UUID) -> bool:
        """Delete one row, if there is no lock in the way; whether that was done."""
        connection = self._connected()
        if connection is None:
            return False
        try:
            connection.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(table)), [id])
        except psycopg.errors.LockNotAvailable:
            return False
        return True

    def change_if_free(self, table: str, id: UUID, change: str, *values: Any) -> bool:
        """``UPDATE … SET change`` of one row, if there is no lock in the way; whether that was done."""
        connection = self._connected()
        if connection is None or self.at_its_end:
            return False
        name, set_ = sql.Identifier(table), sql.SQL(change)
        lock = sql.SQL("SELECT 1 FROM {} WHERE id = %s FOR NO KEY UPDATE NOWAIT").format(name)
        try:
            with connection.transaction():
                connection.execute(lock, [id])
                connection.execute(sql.SQL("UPDATE {} SET {} WHERE id = %s").format(name, set_), [*values, id])
        except psycopg.errors.LockNotAvailable:
            return False
        self.changes += 1
        return True


@contextmanager
def listening(attempt: Attempt, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Until the block ends, ``function`` hears of what happens on the learner's engine: "begin", "commit" and so on."""
    event.listen(attempt.engine.sync_engine, name, function)
    try:
        yield
    finally:
        event.remove(attempt.engine.sync_engine, name, function)


def kept_outside(attempt: Attempt, running: asyncio.Future[Any]) -> bool:
    """True if only one of the calls under way has come to the database: something in this process holds back the rest.

    To be asked when ``until_blocked`` said False, which is after a long time for a statement to be sent.
    """
    gave_way = any(statement.sqlstate == NOT_AVAILABLE for statement in attempt.log.statements)
    connections = {statement.connection for statement in attempt.log.statements}
    return not running.done() and not gave_way and len(connections) == 1
