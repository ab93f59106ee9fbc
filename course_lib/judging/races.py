"""Races that happen the same way every time: rows are held until the learner's sessions stand at them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.judging.asking import NOT_AVAILABLE, together
from course_lib.judging.attempt import Attempt
from course_lib.postgres.address import libpq_uri

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
    names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    lock = sql.SQL("SELECT 1 FROM {table} WHERE id = %s FOR NO KEY UPDATE NOWAIT").format(**names)
    store = sql.SQL("UPDATE {table} SET {column} = %s WHERE id = %s").format(**names)
    with psycopg.connect(libpq_uri(attempt.database.url), options="-c lock_timeout=50ms") as connection:
        try:
            if (connection.execute(ADVISORY).fetchone() or (0,))[0]:
                return False
            connection.execute(lock, [id])
            connection.execute(store, [value, id])
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            return False
        return True


def kept_outside(attempt: Attempt, running: asyncio.Future[Any]) -> bool:
    """True if only one of the calls under way has come to the database: something in this process holds back the rest.

    To be asked when ``until_blocked`` said False, which is after a long time for a statement to be sent.
    """
    gave_way = any(statement.sqlstate == NOT_AVAILABLE for statement in attempt.log.statements)
    connections = {statement.connection for statement in attempt.log.statements}
    return not running.done() and not gave_way and len(connections) == 1
