"""Who waits for whom, asked of the server on a connection that belongs to no pool and passes no event."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_uri
from course_lib.postgres.lost import lost_server

# Any role may ask this. What is no client, autovacuum for instance, steps aside by itself and is left out
# (it has no usesysid); a prepared transaction has the number 0.
BLOCKERS = """
SELECT waiting.pid, blocker.pid
FROM unnest($1::int[]) AS waiting (pid)
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid) || pg_safe_snapshot_blocking_pids(waiting.pid)) AS blocker (pid)
LEFT JOIN pg_stat_activity AS activity ON activity.pid = blocker.pid
WHERE activity.usesysid IS NOT NULL OR blocker.pid = 0
"""
LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)
EDGE = re.compile(r"Process (\d+) waits for .*?; blocked by process (\d+)\.")


class Observer:
    """A session off stage that only looks."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._connection: asyncpg.Connection[Any] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            CourseError: the server is gone.
        """
        with _explaining_a_loss():
            self._connection = await asyncpg.connect(libpq_uri(self._url))

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close(timeout=2)

    async def blockers(self, pids: Collection[int]) -> dict[int, set[int]]:
        """For each of ``pids`` that stands at a lock at this moment: the processes it waits for.

        Raises:
            CourseError: the server is gone.
        """
        assert self._connection is not None
        with _explaining_a_loss():
            edges = await self._connection.fetch(BLOCKERS, list(pids))
        found: dict[int, set[int]] = {}
        for waiting, blocker in edges:
            found.setdefault(waiting, set()).add(blocker)
        return found


@contextmanager
def _explaining_a_loss() -> Iterator[None]:
    try:
        yield
    except LOST as error:
        gone = CourseError("The stage has lost its connection to the server.", "Run the notebook's first cell again.")
        raise lost_server() or gone from error


def circle_in(detail: str) -> dict[int, int]:
    """Who waited for whom in a deadlock, from the DETAIL of its error."""
    return {int(waiting): int(blocker) for waiting, blocker in EDGE.findall(detail)}
