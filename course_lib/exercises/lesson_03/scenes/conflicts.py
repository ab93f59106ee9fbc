"""Functions to be run in a transaction, which fail on purpose and for real, and keep a record of how they were run."""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import randbelow, token_hex
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.asking import DEADLOCK, until_blocked
from course_lib.judging.attempt import Attempt

MARKS = "CREATE TABLE marks (name text, call int, UNIQUE (name, call) DEFERRABLE INITIALLY DEFERRED)"
MARK = "INSERT INTO marks VALUES (:name, :call)"
MAY_DETECT_SOONER = "SELECT has_parameter_privilege('deadlock_timeout', 'SET')"
ABORTED = "25P02"
USED = "SELECT tokens_used FROM users WHERE id = :id"
SPEND = "UPDATE users SET tokens_used = tokens_used + 1 WHERE id = :id"


class Work(ABC):
    """``work(session)`` fails in its first ``times`` calls, and leaves a row in ``marks`` if it is committed.

    Attributes:
        calls: how often it was called.
        errors: what came out of it, in order.
        value: what it returned last.
        held: the greatest number of connections out of the pool while it ran, its own included.
        pause: the longest time between an error and the next call, in seconds.
        slept: the longest that ``asyncio.sleep`` was asked for in such a time, in seconds, see ``listening_to_sleep``.
        reused: a call found itself in the transaction of an earlier one.
    """

    def __init__(self, attempt: Attempt, users: tuple[UUID, UUID], times: int = 0) -> None:
        self.attempt = attempt
        self.mine, self.theirs = users
        self.times = times
        self.name = token_hex(4)
        self.calls, self.held, self.pause, self.slept, self.reused = 0, 0, 0.0, 0.0, False
        self.errors: list[BaseException] = []
        self.value: Any = None
        self._transactions: set[str] = set()
        self._failed = 0.0
        self._sleeping: float | None = None

    async def work(self, session: AsyncSession) -> Any:
        """What ``run`` is given."""
        self.calls += 1
        if self._failed:
            self.pause = max(self.pause, time.monotonic() - self._failed)
            self.slept = max(self.slept, self._sleeping or 0.0)
        self._sleeping = None
        try:
            await self._begin(session)
            self.value = await self.do(session)
            return self.value
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            self._failed, self._sleeping = time.monotonic(), 0.0

    @contextmanager
    def listening_to_sleep(self) -> Iterator[None]:
        """What the answer asks ``asyncio.sleep`` for between two calls; a clock would measure the machine as well."""
        loop: Any = asyncio.get_running_loop()
        call_later = loop.call_later

        def noting(delay: float, *what: Any, **named: Any) -> Any:
            if self._sleeping is not None and sys._getframe(1).f_code is asyncio.sleep.__code__:
                self._sleeping += delay
            return call_later(delay, *what, **named)

        with suppress(AttributeError):  # of a loop that is not Python's
            loop.call_later = noting
        try:
            yield
        finally:
            with suppress(AttributeError):
                del loop.call_later

    async def _begin(self, session: AsyncSession) -> None:
        try:
            transaction = await session.scalar(text("SELECT CAST(pg_current_xact_id() AS text)"))
            self.reused = self.reused or transaction in self._transactions
            self._transactions.add(transaction)
            await session.execute(text(MARK), {"name": self.name, "call": self.calls})
        except (DBAPIError, InvalidRequestError) as error:
            state = getattr(getattr(error, "orig", None), "sqlstate", ABORTED)
            self.reused = self.reused or (self.calls > 1 and state == ABORTED)
            raise
        self.held = max(self.held, self.attempt.engine.pool.checkedout())  # type: ignore[attr-defined]

    @property
    def disturbed(self) -> bool:
        """True in the calls that are to fail."""
        return self.calls <= self.times

    async def marks(self) -> int:
        """How many calls have left their row."""
        count: int = await self.attempt.value("SELECT count(*) FROM marks WHERE name = :name", name=self.name)
        return count

    @abstractmethod
    async def do(self, session: AsyncSession) -> Any:
        """The work itself."""


class Returning(Work):
    """Nothing goes wrong."""

    def __init__(self, attempt: Attempt, users: tuple[UUID, UUID], answer: Any) -> None:
        super().__init__(attempt, users)
        self.answer = answer

    async def do(self, session: AsyncSession) -> Any:
        return self.answer


class Overtaken(Work):
    """SQLSTATE 40001 from a statement: another session changes the row between our reading and our writing it."""

    async def do(self, session: AsyncSession) -> int:
        used: int = (await session.execute(text(USED), {"id": self.mine})).scalar_one()
        if self.disturbed:
            await self.attempt.sql(SPEND, id=self.mine)
        change = text("UPDATE users SET tokens_used = :used WHERE id = :id")
        await session.execute(change, {"used": used + 10, "id": self.mine})
        return used + 10


class AtCommit(Work):
    """SQLSTATE 40001 from COMMIT: each of two transactions reads what the other writes, and the other was faster."""

    async def do(self, session: AsyncSession) -> int:
        await session.execute(text(USED), {"id": self.theirs})
        await session.execute(text(SPEND), {"id": self.mine})
        if self.disturbed:
            async with self.attempt.judge_session() as other:
                await other.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                await other.execute(text(USED), {"id": self.mine})
                await other.execute(text(SPEND), {"id": self.theirs})
                await other.commit()
        return randbelow(1000)


class Deadlocked(Work):
    """SQLSTATE 40P01: we and another session each hold a row that the other one asks for."""

    async def do(self, session: AsyncSession) -> int:
        await session.execute(text(SPEND), {"id": self.mine})
        if not self.disturbed:
            await session.execute(text(SPEND), {"id": self.theirs})
        elif await self.attempt.value(MAY_DETECT_SOONER):
            await self._deadlock(session)
        else:  # on a server where we cannot shorten the wait of a second, the same error without the wait
            await session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{DEADLOCK}'; END $$"))
        return randbelow(1000)

    async def _deadlock(self, session: AsyncSession) -> None:
        await session.execute(text("SET LOCAL deadlock_timeout = '10ms'"))  # so it is we whom the server stops
        async with self.attempt.judge_session() as other:
            await other.execute(text(SPEND), {"id": self.theirs})
            asking = asyncio.ensure_future(other.execute(text(SPEND), {"id": self.mine}))
            try:
                await until_blocked(self.attempt, asking, 1)
                await session.execute(text(SPEND), {"id": self.theirs})
            finally:
                await asyncio.wait({asking}, timeout=1)
                await other.rollback()


class Refused(Work):
    """SQLSTATE 23505 from a statement, with a value in it that looks like another SQLSTATE."""

    async def do(self, session: AsyncSession) -> None:
        statement = "INSERT INTO users (email, name) SELECT email, :name FROM users WHERE id = :id"
        await session.execute(text(statement), {"name": "40001", "id": self.mine})


class RefusedAtCommit(Work):
    """SQLSTATE 23505 from COMMIT, where a deferred constraint is looked at."""

    async def do(self, session: AsyncSession) -> None:
        await session.execute(text(MARK), {"name": self.name, "call": self.calls})


class Broken(Work):
    """SQLSTATE 22012, which SQLAlchemy gives the same class as a deadlock."""

    async def do(self, session: AsyncSession) -> None:
        await session.execute(
            text("SELECT 1 / (tokens_used - tokens_used) FROM users WHERE id = :id"), {"id": self.mine}
        )


class Told(Work):
    """The server is made to say so: an SQLSTATE with a text that says nothing of it, or with one that says another."""

    def __init__(self, attempt: Attempt, users: tuple[UUID, UUID], code: str, said: str, times: int = 1) -> None:
        super().__init__(attempt, users, times)
        self.code, self.said = code, said

    async def do(self, session: AsyncSession) -> int:
        if self.disturbed:
            said = f"RAISE EXCEPTION USING ERRCODE = '{self.code}', MESSAGE = '{self.said}'"
            await session.execute(text(f"DO $$ BEGIN {said}; END $$"))
        return randbelow(1000)


class CutOff(Work):
    """The connection is lost in the middle."""

    async def do(self, session: AsyncSession) -> None:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await self.attempt.sql("SELECT pg_terminate_backend(:pid, 2000)", pid=pid)
        await session.execute(text(SPEND), {"id": self.mine})


class Mistaken(Work):
    """An error that no server has told, though one of the server's was its cause."""

    async def do(self, session: AsyncSession) -> None:
        try:
            async with session.begin_nested():
                await session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))
        except DBAPIError as error:
            raise NoResultFound(f"no model called {self.name}") from error
