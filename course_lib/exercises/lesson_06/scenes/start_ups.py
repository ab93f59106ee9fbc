"""Instances of a program that start and want to migrate, and what can be seen of one that is at it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from alembic import op
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.exercises.lesson_06.scenes.environment import Environment
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import article
from course_lib.judging.races import Intruder

_BY_THE_ANSWER = ContextVar("by the answer", default=False)
"""Whether what runs was started by an instance: in a notebook others sleep in the same loop."""
LOCK = 6_208  # the key, as the task gives it
LOCKED = f"""
    SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
        AND (classid, objid, objsubid) = (0, {LOCK}, 1)
"""
OPEN = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND state LIKE 'idle in transaction%%'
        AND pid <> pg_backend_pid() AND NOT pid = ANY(CAST(%s AS int[]))
"""
LONGEST_PAUSE = 1.05  # seconds; the task says 1
STANDS = """
    SELECT
        EXISTS (
            SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
            WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
        ),
        array(
            SELECT pid || ' ' || xact_start FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'
        ),
        EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'active' AND query LIKE 'SELECT pg_sleep%'
        )
"""
THERE = "SELECT to_regclass(:name) IS NOT NULL"


class Mishap(RuntimeError):
    """What a migration raises half-way."""


class MakesTable:
    """A migration in a transaction."""

    def __init__(self, table: str) -> None:
        self.table = table

    def upgrade(self) -> None:
        op.execute(f"CREATE TABLE {self.table} (n integer)")


class MakesIndex(MakesTable):
    """A migration that cannot run in one."""

    def upgrade(self) -> None:
        with op.get_context().autocommit_block():
            op.execute(f"CREATE INDEX CONCURRENTLY ix_{self.table}_n ON {self.table} (n)")


class FailsOnce(MakesTable):
    """Half-way, the first time."""

    failed = False

    def upgrade(self) -> None:
        super().upgrade()
        if not self.failed:
            self.failed = True
            raise Mishap("the migration failed half-way")


class SleepsOnce(MakesTable):
    """Half-way, the first time, for longer than anybody waits."""

    slept = False

    def upgrade(self) -> None:
        super().upgrade()
        if not self.slept:
            self.slept = True
            op.execute("SELECT pg_sleep(60)")


@dataclass
class Upgrade:
    """The function ``upgrade`` that an answer is given: it runs Alembic, and looks at what is around it.

    Attributes:
        alone: whether no other instance runs, so that every open transaction is one of the caller's.
        calls: how often it was called.
        found: the first thing that was not as the task says, as a mistake of the exercise.
    """

    attempt: Attempt
    environment: Environment
    eyes: Intruder
    alone: bool = True
    calls: int = 0
    found: Wrong | None = None

    def __call__(self, connection: Any) -> None:
        self.calls += 1
        self._look(connection)
        self.environment.run_on(connection)
        if not self.eyes.value(LOCKED):
            self._note("given back")

    def _look(self, connection: Any) -> None:
        if not isinstance(connection, Connection):
            self._note("not a connection", kind=article(connection))
        elif not self.eyes.value(LOCKED):
            self._note("without the lock")
        elif connection.in_transaction() or (self.alone and self.eyes.value(OPEN, list(self.attempt.watchers))):
            whose = "on its connection" if connection.in_transaction() else "on another connection of yours"
            self._note("in a transaction", whose=whose)

    def _note(self, mistake: str, **numbers: object) -> None:
        self.found = self.found or self.attempt.wrong(mistake, **numbers)


@contextmanager
def paces(attempt: Attempt) -> Iterator[dict[int, float]]:
    """The pauses that an instance makes with ``asyncio.sleep`` in the block: seconds asked for, by what came before.

    That is the number of statements by then. Each takes a tenth of its time, so that there are more of them to see.
    """
    asked: dict[int, float] = {}
    usual = asyncio.sleep

    async def sleep(delay: float, result: Any = None) -> Any:
        if not _BY_THE_ANSWER.get():
            return await usual(delay, result)
        sent = len(attempt.log.statements)
        asked[sent] = asked.get(sent, 0.0) + max(delay, 0.0)
        return await usual(delay / 10, result)

    asyncio.sleep = sleep
    try:
        yield asked
    finally:
        asyncio.sleep = usual


class OtherInstance(Intruder):
    """A process that holds the lock; leaving the block is its end, and it unlocks nothing."""

    def lock(self) -> None:
        self.value("SELECT pg_advisory_lock(%s)", LOCK)


def start(attempt: Attempt, engine: AsyncEngine, upgrade: Upgrade) -> asyncio.Future[Any]:
    """One instance, beside others."""

    async def one() -> Any:
        _BY_THE_ANSWER.set(True)
        answered = attempt.answer(engine, upgrade)
        return await answered if inspect.isawaitable(answered) else answered

    return asyncio.ensure_future(one())
