"""What went wrong on the server while judging: done by the answer to its database, or nobody's fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError

from course_lib.data.fresh import FreshDatabase
from course_lib.errors import CourseError
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import message_of
from course_lib.judging.server_state import State, look_at_server, put_back
from course_lib.postgres.databases import dropped, give_up
from course_lib.postgres.server import Connection

QUERY_CANCELED, NOT_AVAILABLE = "57014", "55P03"  # SQLSTATEs: stopped by a timeout, no lock to be had in time
REFUSED, TOO_MANY, DISK_FULL = "42501", "53300", "53100"
STARTING = "57P03"
ENDED = {"57P01", "57P02", "57P05", "08000", "08003", "08006"}  # the connection is no more

OWN_CONNECTIONS = 12  # of one attempt: the learner's pool, and as many of the judge's own
LARGE = 300_000_000  # bytes: no task fills a database so far

ASK = """
    SELECT datallowconn, datconnlimit, pg_database_size(oid) AS size,
        (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid AND backend_type = 'client backend') AS connections,
        (SELECT count(DISTINCT pid) FROM pg_locks WHERE database = d.oid AND granted AND locktype = 'relation') AS open
    FROM pg_database AS d WHERE datname = $1
"""


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE that an error carries, None for one that is not the server's."""
    try:
        code = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    except Exception:  # of a class of the answer's own
        return None
    return code if type(code) is str else None


def behind(error: BaseException | None, depth: int = 20) -> Iterator[BaseException]:
    """The error, those that it was raised from or while they were handled, and those that a group holds."""
    if error is None or not depth:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in BaseExceptionGroup.exceptions.__get__(error):
            yield from behind(member, depth - 1)
    yield from behind(error.__cause__ or error.__context__, depth - 1)


def is_of_the_server(error: BaseException | None) -> bool:
    """True when the server lacks what it needs, or is not there: connections, memory, disk."""
    code = sqlstate_of(error)
    return code is not None and (code.startswith("53") or code == STARTING)


def is_of_a_connection(error: BaseException) -> bool:
    """True for what a database, a driver or the way between them says."""
    return sqlstate_of(error) is not None or isinstance(error, DBAPIError | OSError | asyncpg.InterfaceError)


async def explain(error: BaseException, database: FreshDatabase) -> Wrong | CourseError:
    """Whose fault it is that a statement failed after the answer had been called, by asking the server.

    Raises:
        CourseError: nobody answers there.
    """
    found = await _ask(database, tries=10 if sqlstate_of(error) == TOO_MANY else 0)
    code = sqlstate_of(error)
    if found is None:
        return _after("is gone", "It was dropped or renamed.")
    if is_of_the_server(error):
        return _shortage(error, found)
    if not found["datallowconn"] or 0 <= found["datconnlimit"] <= OWN_CONNECTIONS:
        return lets_nobody_in()
    if code in (QUERY_CANCELED, NOT_AVAILABLE) and found["open"]:
        return _after("is locked", "A session that was left open holds a lock that nobody else gets past.")
    if code in (QUERY_CANCELED, NOT_AVAILABLE) or isinstance(error, TimeoutError):
        return _after("is too slow to be looked at", "How much is in it now, and what runs when a row is written?")
    if code == REFUSED:
        return _after("refuses whoever looks at it", f"It says: {message_of(error)}.")
    if code in ENDED or getattr(error, "connection_invalidated", False):
        return _after("ended a connection of the judge's own", "Look for `pg_terminate_backend`.")
    if code is None:
        return CourseError(f"The connection to the database failed: {message_of(error)}.", "Run the check again.")
    return _after(f"is no longer whole: {message_of(error)}", "Something was dropped, renamed or changed.")


async def _ask(database: FreshDatabase, tries: int) -> Any:
    while True:
        try:
            async with database.server.connection() as connection:
                return await connection.fetchrow(ASK, database.name)
        except CourseError:
            tries -= 1
            if tries < 0:
                raise
            if not tries:
                raise _no_connection() from None
            await asyncio.sleep(0.05)  # a connection that was closed is counted for a moment


def lets_nobody_in() -> Wrong:
    """What is said of a database that has been closed."""
    return _after("lets nobody in any more", "Look for ALLOW_CONNECTIONS or CONNECTION LIMIT.")


def _no_connection() -> CourseError:
    return CourseError(
        "The server has no connection left to give, so nothing was judged.",
        "Close other notebooks, and connections that your code keeps open; then run the check again.",
    )


def _after(what: str, look: str) -> Wrong:
    return Wrong("database broken", f"After your answer the database {what}.", look)


def _shortage(error: BaseException, found: Any) -> Wrong | CourseError:
    code = sqlstate_of(error)
    if code == TOO_MANY and found["connections"] > OWN_CONNECTIONS:
        sentence = f"Your answer holds {found['connections']} connections, and the server gives no more."
        return Wrong("too many connections", sentence, "Use the session or the engine you are given.")
    if code == DISK_FULL and found["size"] > LARGE:
        sentence = f"Your answer filled its database with {found['size'] / 1e6:,.0f} MB, and the disk is full."
        return Wrong("disk full", sentence, "How many rows does it write?")
    if code == TOO_MANY:
        return _no_connection()
    if code == DISK_FULL:
        return CourseError(
            "The server's disk is full, so nothing was judged.", "Free some space, then run the check again."
        )
    if code == STARTING:
        return CourseError("The server is starting up or shutting down, so nothing was judged.", "Run the check again.")
    return CourseError(
        f"The server lacks what it needs, so nothing was judged: {message_of(error)}.", "Run the check again."
    )


# -- clearing away -----------------------------------------------------------------------------------------------

ABLE = "SET default_transaction_read_only = off; SET statement_timeout = '8s'"
LEFT = """
    SELECT format('DROP DATABASE %I WITH (FORCE)', datname) AS drop,
        CASE WHEN datistemplate THEN format('ALTER DATABASE %I IS_TEMPLATE false', datname) END AS unmark
    FROM pg_database WHERE oid = $1
"""


@dataclass(frozen=True)
class Before:
    """What was there before the answer was called: plain values, which another process can be told.

    Attributes:
        oid: the number of the attempt's database, whatever it is called later.
        server: see ``server_state``.
    """

    oid: int
    server: State


async def look_before(database: FreshDatabase, admin: Connection) -> Before:
    """To be asked once the database is prepared."""
    oid = await admin.fetchval("SELECT oid FROM pg_database WHERE datname = $1", database.name)
    return Before(oid, await look_at_server(admin, database.server.embedded))


async def clear_away(database: FreshDatabase, admin: Connection, before: Before | None, said: str | None) -> list[str]:
    """Drop the database, whatever it is called now, and put back what is the server's; in words what that was.

    What cannot be dropped is left for a later sweep.

    Args:
        database: the attempt's.
        admin: the connection that made it; another is opened where it has come to its end.
        before: None where the answer was never called.
        said: the texts of all statements that the answer sent; None where they are not known.
    """
    undone: list[str] = []
    with contextlib.suppress(CourseError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError):
        async with _still_open(admin, database) as connection:
            if before is None or database.server.pooled:  # there it cannot be renamed
                await database.drop()
            else:
                left: Any = await connection.fetchrow(LEFT, before.oid)
                for statement in (left["unmark"], left["drop"]) if left else ():
                    if statement:
                        await connection.execute(statement)
            dropped(database.name)
            if before is not None:
                undone = await put_back(connection, database.server.embedded, before.server, said)
            return undone
    give_up(database.name)
    return undone


def put_back_remark(undone: list[str]) -> str:
    """What is said of it to the learner."""
    names = ", ".join(f"`{name}`" for name in undone)
    return f"Your answer changed settings of the server or its roles: {names}. They were put back."


@contextlib.asynccontextmanager
async def _still_open(admin: Connection, database: FreshDatabase) -> AsyncIterator[Connection]:
    """``admin``, or a connection in its place, where statements may write and have their time."""
    try:
        await admin.execute(ABLE)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        async with database.server.connection() as connection:
            await connection.execute(ABLE)
            yield connection
    else:
        yield admin
