"""Locks that others hold: a teacher's command waits for a while, says for whom, and is not held up by its learners."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import asyncpg

from course_lib.errors import CourseError
from course_lib.postgres.server import Connection
from course_lib.texts import printable

Made = TypeVar("Made")

TURN = 0.25  # seconds between two tries
NAMED_AFTER, LONGEST = 5.0, 60.0  # seconds
LOCK_TIMEOUT, TRIES = "2s", 5

HOLDER = """
    SELECT a.pid, a.usename FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid, l.objid) = (0, $1)
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
DISCONNECT = """
    SELECT pg_terminate_backend(pid, 5000) FROM (
        SELECT DISTINCT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE a.usename = ANY ($1) AND l.granted AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
          AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ) AS hindering
"""
"""Those who have locked rows of a table of this database, or of one that all databases share."""


async def wait_for_turn(connection: Connection, lock: int, say: Callable[[str], None]) -> None:
    """Take an advisory lock, which is below 2**32; while others have it, say so, and after a while who.

    Raises:
        CourseError: it could not be had in a minute.
    """
    began, said = time.monotonic(), 0
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
        waited = time.monotonic() - began
        if said == 0:
            say("Somebody else is changing a class on this server; waiting for them.")
            said = 1
        holder = await connection.fetchrow(HOLDER, lock) if waited > NAMED_AFTER else None
        who = f"the role {printable(str(holder['usename']))}, process {holder['pid']}" if holder else "nobody now"
        if said == 1 and holder:
            say(f"It is {who}.")
            said = 2
        if waited > LONGEST:
            raise CourseError(
                f"The lock for changes of classes was not free for {LONGEST:.0f} seconds; it is held by {who}.",
                "Wait till they are done and try again."
                + (f" If they should not have it: SELECT pg_terminate_backend({holder['pid']});" if holder else ""),
            )
        await asyncio.sleep(TURN)


async def unhindered(connection: Connection, roles: Iterable[str], work: Callable[[], Awaitable[Made]]) -> Made:
    """Do ``work`` in a transaction; learners whose open transactions hold what it needs are disconnected.

    Args:
        work: done again from the beginning when it has waited for a lock in vain.

    Raises:
        CourseError: somebody holds it still, again and again.
    """
    learners = list(roles)
    for _ in range(TRIES):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                return await work()
        except asyncpg.LockNotAvailableError:
            await connection.fetch(DISCONNECT, learners)
    raise CourseError(
        "Somebody's open transaction on the server holds what this command has to change.",
        "Find it in pg_stat_activity, by xact_start; when it has ended, try again: what is done already is kept.",
    )
