"""Who waits for whom, asked of the server on a connection that belongs to no pool and passes no event of statements."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from sqlalchemy import Engine

from course_lib.errors import CourseError

# Any role may ask this. What is no client, autovacuum for instance, steps aside by itself and is left out
# (it has no usesysid); a prepared transaction has the number 0.
BLOCKERS = """
SELECT waiting.pid, blocker.pid
FROM unnest(ARRAY[{pids}]::int[]) AS waiting (pid)
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid) || pg_safe_snapshot_blocking_pids(waiting.pid)) AS blocker (pid)
LEFT JOIN pg_stat_activity AS activity ON activity.pid = blocker.pid
WHERE activity.usesysid IS NOT NULL OR blocker.pid = 0
"""
TERMINATE = "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[{pids}]::int[]) AS busy (pid)"
EDGE = re.compile(r"Process (\d+) waits for .*?; blocked by process (\d+)\.")

Away = Callable[..., Awaitable[Any]]
"""``await away(function, *arguments)`` calls a function that talks to the database, and does not hold up the loop."""


class Observer:
    """A session off stage that only looks. It connects as the engine does, with whatever that was told about it."""

    def __init__(self, engine: Engine, away: Away) -> None:
        self._engine = engine
        self._away = away
        self._connection: Any = None

    async def open(self) -> None:
        """Connect.

        Raises:
            Exception: the driver's own, or what a listener of ``do_connect`` makes of it.
        """
        self._connection = await self._away(self._connect)

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._away(self._engine.dialect.do_terminate, connection)

    async def blockers(self, pids: Collection[int]) -> dict[int, set[int]]:
        """For each of ``pids`` that stands at a lock at this moment: the processes it waits for.

        Raises:
            CourseError: the server is gone.
        """
        found: dict[int, set[int]] = {}
        for waiting, blocker in await self._ask(BLOCKERS, pids):
            found.setdefault(waiting, set()).add(blocker)
        return found

    async def terminate(self, pids: Collection[int]) -> None:
        """End these server processes: what waits for them comes back with an error.

        Raises:
            CourseError: the server is gone.
        """
        await self._ask(TERMINATE, pids)

    async def _ask(self, question: str, pids: Collection[int]) -> list[tuple[int, int]]:
        sql = question.format(pids=", ".join(map(str, pids)))
        try:
            return list(await self._away(self._fetch, sql))
        except Exception as error:
            await self._explain(error)
            raise CourseError(
                "The stage has lost its connection to the server.", "Open another: async with Stage(engine) as stage:"
            ) from error

    async def _explain(self, error: Exception) -> None:
        """Connect once more: where no server answers, a listener of ``do_connect`` may have a better sentence."""
        try:
            connection = await self._away(self._connect)
        except CourseError as better:
            raise better from error
        except Exception:
            return
        await self._away(self._engine.dialect.do_terminate, connection)

    def _connect(self) -> Any:
        connection = self._engine.pool._invoke_creator(None)  # type: ignore[arg-type]  # no pool keeps it, so no record
        self._engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")
        return connection

    def _fetch(self, sql: str) -> Any:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql)
            return cursor.fetchall()
        finally:
            cursor.close()


def circle_in(detail: str) -> dict[int, int]:
    """Who waited for whom in a deadlock, from the DETAIL of its error."""
    return {int(waiting): int(blocker) for waiting, blocker in EDGE.findall(detail)}
