"""An actor: one session on one connection, stepped by name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import QueuePool

from course_lib.errors import CourseError
from course_lib.instruments.rows import Rows
from course_lib.instruments.stage.attribution import current_step, pid_of
from course_lib.instruments.stage.cells import Band
from course_lib.instruments.stage.step import CutOff, Step
from course_lib.instruments.stage.words import listed, spoken_call

if TYPE_CHECKING:
    from course_lib.instruments.stage.stage import Stage

TRANSACTION_CONTROL = re.compile(
    r"\s*(BEGIN|START|COMMIT|END|ABORT|ROLLBACK(?!\s+(WORK\s+|TRANSACTION\s+)?TO))\b", re.I
)
ANOTHER = "another session"  # one that is not on the stage


class Actor:
    """Somebody with a session of their own. Made by ``stage.actor("Ada")`` or ``stage.actors("Ada", "Bruno")``.

    ``await ada("SELECT …", name="Hana")`` runs SQL, ``await ada(function, 10)`` awaits ``function(ada.session, 10)``;
    both return a ``Step`` as soon as it has ended or stands at a lock. See ``ThreadActor`` for a synchronous engine.

    Attributes:
        name: what the picture calls it.
        session: an AsyncSession with ``expire_on_commit=False``. Its connection comes with the first step.
        step: the last step, None before the first.
    """

    def __init__(self, stage: Stage, name: str, lane: int, isolation_level: str | None) -> None:
        self.name = name
        self.lane = lane
        self.isolation_level = isolation_level
        self.session = AsyncSession(expire_on_commit=False)
        self.step: Step | None = None
        self.task: asyncio.Task[None] | None = None
        self._stage = stage
        self._connection: AsyncConnection | None = None

    async def __call__(self, what: str | Callable[..., Awaitable[Any]], /, *arguments: Any, **values: Any) -> Step:
        """Do one thing.

        Args:
            what: SQL, in which ``:name`` stands for a value, or an async function whose first argument is a session.
            arguments: further arguments of the function.
            values: values of the SQL, or named arguments of the function.

        Raises:
            CourseError: it cannot be stepped, the actor still waits, or the step neither ends nor stands at a lock.
            Exception: what the function raised, unless it is an error of the database or of SQLAlchemy: those are
                kept in the step.
        """
        if isinstance(what, str):
            self._refuse_sql(what, arguments)
            shown = " ".join(what.split())
            return await self._stage.take(self, "sql", shown, values, lambda: self._run_sql(what, values))
        if not callable(what):
            raise CourseError(
                f"{self.name} steps through SQL or an async function, and {type(what).__name__} is neither.",
                f'Write: await {self.name.lower()}("SELECT 1")',
            )
        call = spoken_call(what, arguments, values)
        return await self._stage.take(self, "call", call, {}, lambda: self._run(what, arguments, values))

    async def commit(self) -> Step:
        """Commit. It ends when everybody whom that lets go on has come to an end, or to another lock."""
        return await self._stage.take(self, "mark", "COMMIT", {}, self.do_commit)

    async def rollback(self) -> Step:
        """Roll back. It ends when everybody whom that lets go on has come to an end, or to another lock."""
        return await self._stage.take(self, "mark", "ROLLBACK", {}, self.do_rollback)

    def _refuse_sql(self, sql: str, arguments: tuple[Any, ...]) -> None:
        if TRANSACTION_CONTROL.match(sql):
            raise CourseError(
                "The session must know when its transaction ends.",
                f"Write await {self.name.lower()}.commit() or .rollback(); a transaction begins by itself.",
            )
        if arguments:
            raise CourseError("Values of SQL are given by name.", 'Write :name in the SQL, and name="Hana" after it.')

    async def do_commit(self) -> None:
        """The session's own, within a step."""
        await self.session.commit()

    async def do_rollback(self) -> None:
        """The session's own, within a step or at the end of the block."""
        await self.session.rollback()

    async def _run_sql(self, sql: str, values: dict[str, Any]) -> Rows:
        result = await self.session.execute(text(sql), values)
        return Rows.of(cast("CursorResult[Any]", result))

    async def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...], values: dict[str, Any]) -> Any:
        outcome = function(self.session, *arguments, **values)
        if not isinstance(outcome, Awaitable):
            raise CourseError(
                f"{getattr(function, '__name__', 'The function')} is no async function.",
                "Write async def; what it asks of the session has to be awaited.",
            )
        return await outcome

    # what the stage asks of an actor

    @property
    def is_busy(self) -> bool:
        """True while a step is under way."""
        return self.task is not None and not self.task.done()

    @property
    def is_transactional(self) -> bool:
        return self.isolation_level != "AUTOCOMMIT"

    @property
    def band(self) -> Band:
        """How the transaction stands."""
        if self.is_busy:
            return "waiting" if self.is_transactional else ""
        if self._connection is None or self.step is None or not self.is_transactional:
            return ""
        if self._connection.closed or not self.session.in_transaction() or not self._connection.in_transaction():
            return ""
        return "failed" if self.step.aborted or self._connection.invalidated else "open"

    def refuse_while_busy(self) -> None:
        if not self.is_busy or self.step is None:
            return
        others = self.step.waits_for
        if not others:
            raise CourseError(f"{self.name}'s last step still runs.", "Leave the block: that ends it.")
        mend = f"let {listed(others)} commit or roll back first"
        if others == (ANOTHER,):
            mend = "let that one commit or roll back first"
        raise CourseError(f"{self.name} still waits for {listed(others)}; {mend}.")

    async def connect(self, engine: Any) -> int | None:
        """Have a connection, and return the number of its server process; None when the connection was lost.

        Raises:
            CourseError: the engine's pool has none left.
        """
        if self._connection is None:
            pool = engine.pool
            no_room = CourseError(
                f"There is no connection for {self.name}: the engine's pool has no more, and every actor needs one.",
                "Give the engine a larger pool_size, or leave the block of another stage first.",
            )
            if isinstance(pool, QueuePool) and 0 <= pool._max_overflow <= pool.checkedout() - pool.size():
                raise no_room
            try:
                await self._open(engine)
            except PoolTimeout as error:
                raise no_room from error
        assert self._connection is not None
        return None if self._connection.invalidated else await self._pid()

    async def _open(self, engine: AsyncEngine) -> None:
        self._connection = connection = await engine.connect()
        if self.isolation_level is not None:
            await connection.execution_options(isolation_level=self.isolation_level)
        self.session.bind = connection
        self.session.sync_session.bind = connection.sync_connection

    async def _pid(self) -> int:
        assert self._connection is not None
        return pid_of((await self._connection.get_raw_connection()).driver_connection)

    def begin(self, step: Step, work: Callable[[], Awaitable[Any]]) -> None:
        """Start a step in a task of its own."""
        self.step = step
        self.task = asyncio.create_task(_perform(step, work))

    async def at_rest(self) -> None:
        """Wait until nothing of a step that was cut off runs on: of a task nothing does."""

    async def leave(self) -> None:
        """End the session and its connection for good: no setting and no lock of it reaches the pool's next user."""
        try:
            await self.session.close()
        finally:
            if self._connection is not None:
                try:
                    await self._connection.invalidate()
                finally:
                    await self._connection.close()


async def _perform(step: Step, work: Callable[[], Awaitable[Any]]) -> None:
    current_step.set(step)
    try:
        value = await work()
    except Exception as error:
        step.finish(error=error)
    except BaseException:
        step.finish(error=CutOff(step.actor))
        raise
    else:
        step.finish(value)
