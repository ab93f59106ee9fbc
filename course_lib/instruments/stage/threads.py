"""Actors of a synchronous engine: each does its steps in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, CursorResult, Engine, text
from sqlalchemy.orm import Session

from course_lib.errors import CourseError
from course_lib.instruments.rows import Rows
from course_lib.instruments.stage.actor import Actor
from course_lib.instruments.stage.attribution import pid_of

if TYPE_CHECKING:
    from course_lib.instruments.stage.stage import Stage

LEAVING = 10.0  # seconds; a function that never returns keeps its thread and its connection


class ThreadActor(Actor):
    """An actor whose ``session`` is a ``Session``: ``await ada(function, 10)`` calls ``function(ada.session, 10)``.

    The thread has the actor's name. It is one thread, so what is left to do at the end waits for what still runs.
    """

    session: Session  # type: ignore[assignment]

    def __init__(self, stage: Stage, name: str, lane: int, isolation_level: str | None) -> None:
        super().__init__(stage, name, lane, isolation_level)
        self.session = Session(expire_on_commit=False)
        self._thread = ThreadPoolExecutor(1, initializer=lambda: setattr(threading.current_thread(), "name", name))

    def _away(self, function: Callable[..., Any], *arguments: Any, **values: Any) -> Awaitable[Any]:
        """Call ``function`` in the actor's thread, which sees the step that is under way."""
        context = copy_context()
        return asyncio.wrap_future(self._thread.submit(lambda: context.run(function, *arguments, **values)))

    async def do_commit(self) -> None:
        await self._away(self.session.commit)

    async def do_rollback(self) -> None:
        await self._away(self.session.rollback)

    async def _run_sql(self, sql: str, values: dict[str, Any]) -> Rows:
        def run() -> Rows:
            return Rows.of(cast("CursorResult[Any]", self.session.execute(text(sql), values)))

        return cast("Rows", await self._away(run))

    async def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...], values: dict[str, Any]) -> Any:
        outcome = await self._away(function, self.session, *arguments, **values)
        if iscoroutine(outcome):
            outcome.close()
            raise CourseError(
                f"{getattr(function, '__name__', 'The function')} is an async function, on a synchronous engine.",
                "Write def, or give the stage an AsyncEngine.",
            )
        return outcome

    async def _open(self, engine: Engine) -> None:  # type: ignore[override]
        connection: Connection = await self._away(engine.connect)
        self._connection = connection  # type: ignore[assignment]
        if self.isolation_level is not None:
            await self._away(connection.execution_options, isolation_level=self.isolation_level)
        self.session.bind = connection

    async def _pid(self) -> int:
        return pid_of(cast("Connection", self._connection).connection.driver_connection)

    async def at_rest(self) -> None:
        async with asyncio.timeout(LEAVING):
            await self._away(lambda: None)

    async def leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVING):
                await self._away(self._leave)
        finally:
            self._thread.shutdown(wait=False)

    def _leave(self) -> None:
        try:
            self.session.close()
        finally:
            connection = cast("Connection | None", self._connection)
            if connection is not None:
                try:
                    connection.invalidate()
                finally:
                    connection.close()
