"""Writers who are always at work: at each moment of a migration somebody's transaction has written to the table.

What waits for a lock of the table then keeps everybody behind it waiting. CREATE INDEX CONCURRENTLY waits too, but for
the transactions themselves, and others pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.asking import LONGEST_HOLD, NOT_AVAILABLE, limits_its_waiting
from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_user

WAITING = """
    SELECT
        count(*) FILTER (WHERE NOT l.granted),
        max(l.mode) FILTER (
            WHERE NOT l.granted AND l.relation = 'documents'::regclass AND l.locktype = 'relation' AND EXISTS (
                SELECT FROM pg_stat_activity AS b  -- autovacuum keeps it waiting for a moment, too
                WHERE b.pid = ANY(pg_blocking_pids(l.pid)) AND b.backend_type = 'client backend'
            )
        ),
        array(SELECT CAST(indexrelid AS bigint) FROM pg_index WHERE indrelid = 'documents'::regclass AND NOT indisready)
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE a.datname = current_database() AND NOT a.pid = ANY(CAST(:watchers AS int[]))
"""
UPLOAD = """
    INSERT INTO documents (user_id, source, title, content_hash)
    VALUES (:user, gen_random_uuid()::text, 'Upload', sha256(uuid_send(gen_random_uuid()))) RETURNING id
"""
Act = Callable[[], Awaitable[None]]


class InTheWay(Exception):
    """The migration waited for a lock of the table, with all writers behind it; ``mode`` says which."""

    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        self.mode = mode


class SteadyWriters:
    """Uploads of one user, each in a transaction that is committed when the next has written.

    Attributes:
        uploaded: ids of the documents.
    """

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self._attempt, self._user = attempt, user
        self.uploaded: list[UUID] = []
        self._stood = False  # whether it has been kept waiting for long, which only who limits that notices

    @classmethod
    async def of(cls, attempt: Attempt) -> SteadyWriters:
        return cls(attempt, await add_user(attempt))

    async def during(self, call: Callable[[], Awaitable[None]], before_it_is_built: Act | None = None) -> None:
        """``call()`` from one upload to the next.

        Args:
            before_it_is_built: done once, when it has put an index into the catalogue that nobody has to fill yet.

        Raises:
            InTheWay: it waited for a lock that writers conflict with.
            Exception: whatever ``call`` raised.
        """
        _, _, left = await self._look()
        writer = await self._upload()
        running = asyncio.ensure_future(call())
        try:
            while not running.done():
                waits, mode, unbuilt = await self._look()
                if mode is not None:
                    raise InTheWay(mode)
                if waits and unbuilt - left and before_it_is_built is not None:
                    await before_it_is_built()
                    before_it_is_built = None
                if waits and not self._stood and self._limits_its_waiting():
                    self._stood = True
                    await asyncio.wait({running}, timeout=LONGEST_HOLD)
                if waits:
                    following = await self._upload()
                    await _commit(writer)
                    writer = following
                await asyncio.wait({running}, timeout=0.003)
        finally:
            await _commit(writer)
            await asyncio.wait({running})
        failed = (one.sql for one in self._attempt.log.statements if one.sqlstate == NOT_AVAILABLE)
        if any("concurrently" not in sql.lower() for sql in failed):
            raise InTheWay("lock_timeout")
        await running

    async def _look(self) -> tuple[int, str | None, set[int]]:
        rows: Any = await self._attempt.sql(WAITING, watchers=list(self._attempt.watchers))
        waits, mode, unbuilt = rows[0]
        return waits, mode, set(unbuilt)

    def _limits_its_waiting(self) -> bool:
        return any(limits_its_waiting(statement.sql) for statement in self._attempt.log.statements)

    async def _upload(self) -> AsyncSession:
        session = self._attempt.judge_session()
        self.uploaded.append((await session.execute(text(UPLOAD), {"user": self._user})).scalar_one())
        return session


async def _commit(writer: AsyncSession) -> None:
    await writer.commit()
    await writer.close()
