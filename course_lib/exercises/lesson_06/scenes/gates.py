"""A migration let through one lock at a time, with the running program at work in between.

Somebody holds SHARE UPDATE EXCLUSIVE on the table, as autovacuum does: people read and write past that, and every step
of a migration that changes the table has to wait. When one does, the next gate is put up behind it, and the first is
opened. So at each gate it is certain which transaction has just ended, and what of it is to be seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue
from course_lib.judging.asking import NOT_AVAILABLE
from course_lib.judging.attempt import Attempt
from course_lib.judging.deadline import end
from course_lib.judging.exercise import Wrong

LOOK_SECONDS = 0.004
STILL_SECONDS, STILL_LOOKS = 0.4, 60  # without progress: it waits for the row in its own way
AJAR_SECONDS = 0.05  # for who asks for a lock without ever waiting for it
BLOCKING = {"AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock"}
"""Modes on a table that keep its writers waiting."""
WAITING = """
    SELECT mode, query ~* 'concurrently' AS concurrently FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND relation = CAST(:table AS regclass) AND NOT granted
        AND pid <> ALL (CAST(CAST(:own AS text[]) AS int[]))
"""

WAITS_FOR_A_ROW = """
    SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND locktype = 'transactionid' AND NOT granted
"""
CANCEL = """
    SELECT pg_cancel_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND relation = CAST(:table AS regclass) AND NOT granted
"""

Visit = Callable[[AsyncSession], Awaitable[None]]
"""What the running program does at a gate, in the transaction that ends when the gate is opened."""


@dataclass(frozen=True)
class Step:
    """One transaction of the migration that changed the table or looked through it.

    Attributes:
        mode: the lock that it began with.
        before, after: the catalogue at the gates around it.
    """

    mode: str
    before: Catalogue
    after: Catalogue

    @property
    def blocks(self) -> bool:
        """Whether nobody could write meanwhile."""
        return self.mode in BLOCKING


@dataclass(frozen=True)
class Hold:
    """A row that the running program holds from one gate to the next, or until somebody waits for it.

    Attributes:
        statement: locks the table as a writer does, and then changes the row, in one go: the migration that is let
            through before it does not come in between.
        progress: asks for a number, which grows as the migration goes on.
        refused: called with the error where the server refuses the statement.
    """

    statement: str
    progress: str
    refused: Callable[[DBAPIError], None]


async def _nobody(session: AsyncSession) -> None:
    """Comes to visit."""


class Gates:
    """Gates at one table.

    Attributes:
        steps: what passed through them, in order.
        passed_over: whether the migration has made progress, and come to a gate, while the row was still held.
    """

    def __init__(self, attempt: Attempt, table: str, visit: Visit = _nobody, hold: Hold | None = None) -> None:
        self.steps: list[Step] = []
        self.passed_over = False
        self._attempt = attempt
        self._table = table
        self._visit = visit
        self._hold = hold
        self._held: AsyncSession | None = None
        self._refusal: DBAPIError | None = None
        self._progress: list[int] = []  # at each look since the row is held
        self._since = 0.0
        self._own: list[str] = []

    async def let_through(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """``run()``, step by step.

        Raises:
            Wrong: what ``run`` raises.
        """
        gate = await self._gate()
        try:
            await self._lock(gate)
            seen = await look_at_catalogue(self._attempt, gate)
            await self._visit(gate)
            running = asyncio.ensure_future(run())
            try:
                while not running.done():
                    waiting = await self._waiting()
                    if not waiting:
                        gate = await self._ajar(gate)
                        await self._let_go_of_the_row_in_time()
                        await asyncio.wait({running}, timeout=LOOK_SECONDS)
                        continue
                    mode, concurrently = waiting[0]
                    await self._look_at_the_row()
                    gate = await (self._after(gate) if concurrently else self._next(gate, mode))
                    now = await look_at_catalogue(self._attempt, gate)
                    self.steps.append(Step(mode, seen, now))
                    seen = now
                    if self._hold is not None and self._refusal is not None:
                        self._hold.refused(self._refusal)
                    await self._visit(gate)
            finally:
                await end([running])
                await self._let_go_of_the_row()
        finally:
            await gate.commit()
            await gate.close()
        await running

    async def _look_at_the_row(self) -> bool:
        """Whether somebody waits for it."""
        if self._hold is None or self._held is None:
            return False
        waits, progress = (await self._attempt.sql(f"SELECT EXISTS ({WAITS_FOR_A_ROW}), ({self._hold.progress})"))[0]
        if progress != self._progress[-1]:
            self._since, self._progress = time.monotonic(), self._progress[:1]
        self._progress.append(progress)
        self.passed_over = self.passed_over or progress > self._progress[0]
        return bool(waits)

    async def _let_go_of_the_row_in_time(self) -> None:
        waits = await self._look_at_the_row()
        still = time.monotonic() - self._since > STILL_SECONDS and len(self._progress) > STILL_LOOKS
        if self._held is not None and (waits or still):
            await self._let_go_of_the_row()
            self.passed_over = False

    async def _let_go_of_the_row(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            await held.rollback()
            await held.close()

    async def _hold_the_row(self, hold: Hold) -> None:
        self._progress = [await self._attempt.value(hold.progress)]
        self._held, self._since = await self._gate(), time.monotonic()
        try:
            await self._held.execute(text(hold.statement))
        except DBAPIError as error:
            self._refusal = error

    async def _gate(self) -> AsyncSession:
        session = self._attempt.judge_session()
        self._own.append(str((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()))
        return session

    async def _lock(self, gate: AsyncSession) -> None:
        await gate.execute(text(f"LOCK TABLE {self._table} IN SHARE UPDATE EXCLUSIVE MODE"))

    async def _waiting(self, own: bool = False) -> list[tuple[str, bool]]:
        rows = await self._attempt.sql(WAITING, table=self._table, own=[] if own else self._own)
        return [(mode, concurrently) for mode, concurrently in rows]

    async def _next(self, gate: AsyncSession, mode: str) -> AsyncSession:
        """Put up another gate behind whoever waits, in this mode, and open this one."""
        await self._let_go_of_the_row()
        behind = await self._gate()
        locks: list[Coroutine[Any, Any, None]] = [self._lock(behind)]
        if self._hold is not None and mode == "AccessExclusiveLock":  # the one that a row is locked behind
            locks.append(self._hold_the_row(self._hold))
        locking, together = asyncio.gather(*locks), 1 + len(locks)
        while len(await self._waiting(own=True)) < together and not locking.done() and await self._waiting():
            await asyncio.wait({locking}, timeout=LOOK_SECONDS)
        await gate.commit()
        await gate.close()
        await locking
        return behind

    async def _after(self, gate: AsyncSession) -> AsyncSession:
        """Open this one, and put it up again when that is possible at once.

        An index that is built or dropped CONCURRENTLY waits for every snapshot, that of who waits behind it too.
        """
        await self._let_go_of_the_row()
        await gate.commit()
        while True:
            try:
                await gate.execute(text(f"LOCK TABLE {self._table} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"))
                return gate
            except DBAPIError:
                await gate.rollback()
                await asyncio.sleep(LOOK_SECONDS)

    async def _ajar(self, gate: AsyncSession) -> AsyncSession:
        """For who would rather fail than wait (NOWAIT): open it for a moment."""
        if not _would_not_wait(self._attempt):
            return gate
        await self._let_go_of_the_row()
        await gate.commit()
        await asyncio.sleep(AJAR_SECONDS)
        await self._lock(gate)
        return gate


class Interrupted(Gates):
    """A statement of ``run()`` is cancelled, the first that has to wait for a lock on the table.

    After that it is no longer kept waiting: it may try again.

    Attributes:
        cancelled: False where none had to wait.
        raised: whether ``run`` raised then.
    """

    def __init__(self, attempt: Attempt, table: str, when: str = "SELECT true") -> None:
        """With ``when``, a question: the first that waits while the answer to it is yes."""
        super().__init__(attempt, table)
        self.cancelled = self.raised = False
        self._when = when

    async def run(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Raises: Wrong, what ``run`` raises of its own."""
        gate = await self._gate()
        try:
            await self._lock(gate)
            running = asyncio.ensure_future(run())
            while not (running.done() or self.cancelled or _would_not_wait(self._attempt)):
                waiting = await self._waiting()
                if waiting and await self._attempt.value(self._when):
                    self.cancelled = bool(await self._attempt.sql(CANCEL, table=self._table))
                elif waiting:
                    gate = await (self._after(gate) if waiting[0][1] else self._next(gate, waiting[0][0]))
                await asyncio.wait({running}, timeout=LOOK_SECONDS)
        finally:
            await gate.rollback()
            await gate.close()
        try:
            await running
        except Wrong as wrong:
            if not self.cancelled or wrong.mistake not in ("stopped", "raised"):
                raise
            self.raised = True


def _would_not_wait(attempt: Attempt) -> bool:
    """Whether one of its last statements failed at once, since a lock was not to be had (NOWAIT)."""
    return any(statement.sqlstate == NOT_AVAILABLE for statement in attempt.log.statements[-3:])


async def refusal(session: AsyncSession, statement: str, keep: bool = True, **values: Any) -> DBAPIError | None:
    """Why the server refuses a statement of the running program; None where it does not.

    Args:
        session: at a gate; its transaction goes on either way.
        statement: SQL with ``:name`` values.
        keep: False to take it back at once, with the locks on its rows.
        values: of the statement.
    """
    try:
        async with session.begin_nested() as savepoint:
            await session.execute(text(statement), values)
            if not keep:
                await savepoint.rollback()
    except DBAPIError as error:
        return error
    return None
