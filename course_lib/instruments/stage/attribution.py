"""Which step sent a statement, and on which connection of the server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments.query_log import QueryLog, Statement
from course_lib.instruments.stage.step import Step, is_from_the_server

current_step: ContextVar[Step | None] = ContextVar("current_step", default=None)
"""The step this task performs. SQLAlchemy's greenlets and the tasks a step makes see the same."""


class StepLog(QueryLog):
    """A query log that keeps apart what each step sends, on the actor's own connection or on another of the engine.

    Args:
        engine: whose statements are seen.
        on_pid: told of each server process that a step sends something to.
    """

    def __init__(self, engine: AsyncEngine | Engine, on_pid: Callable[[Step, int], None]) -> None:
        self._senders: dict[int, Step] = {}
        self._steps: set[Step] = set()
        self._on_pid = on_pid
        self._lock = threading.RLock()  # actors of a synchronous engine have threads: whose entry is the last?
        super().__init__(engine)

    def watch(self, step: Step) -> None:
        """Keep what this step sends; what others send is none of this log's business."""
        self._steps.add(step)

    def sent_by(self, step: Step) -> list[Statement]:
        """What ``step`` has sent, in order."""
        return [entry for position, entry in list(self._entries.items()) if self._senders.get(position) is step]

    def _before(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        step = current_step.get()
        if step is None or step not in self._steps:
            return
        with self._lock:
            super()._before(connection, cursor, sql, parameters, context, executemany)
            self._senders[next(reversed(self._entries))] = step
        step.aborted = False
        self._on_pid(step, pid_of(connection.connection.driver_connection))

    def _failed(self, context: ExceptionContext) -> None:
        super()._failed(context)
        if (step := current_step.get()) is not None:
            step.aborted = is_from_the_server(context.original_exception)

    def _control(self, command: str, connection: Connection, transaction: int | None, where: str | None) -> None:
        with self._lock:
            super()._control(command, connection, transaction, where)
            if (step := current_step.get()) is not None:
                self._senders[next(reversed(self._entries))] = step


def pid_of(driver_connection: Any) -> int:
    """The number of the server process behind a connection of asyncpg or psycopg."""
    if hasattr(driver_connection, "get_server_pid"):
        return int(driver_connection.get_server_pid())
    return int(driver_connection.info.backend_pid)
