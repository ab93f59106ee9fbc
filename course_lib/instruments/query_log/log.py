"""The query log itself: what it hooks into, what it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import ExecuteStyle
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError
from course_lib.instruments.query_log.caller import issuing_line
from course_lib.instruments.query_log.columns import tables_of
from course_lib.instruments.query_log.questions import StatementLog
from course_lib.instruments.query_log.rendering import render_html, render_text
from course_lib.instruments.query_log.statement import Statement, is_control
from course_lib.instruments.query_log.streamed import CountedCursor

if TYPE_CHECKING:
    from course_lib.instruments.pictures import Picture

_connection_numbers = count(1)


class QueryLog(StatementLog):
    """Every statement that an engine sends while the ``with`` block is open.

    ``with QueryLog(engine) as log:`` listens to one engine, ``QueryLog()`` to all of this process. Statements of all
    tasks and threads that use the engine are seen. BEGIN, COMMIT, ROLLBACK and savepoints are shown, not counted;
    what SQLAlchemy asks a server on an engine's first connection is neither: those statements pass no event.

    Args:
        engine: an AsyncEngine, an Engine, or None for all.
        parameters: keep the parameters of statements. They hold users' texts, so they are left out unless asked for.

    Raises:
        CourseError: what was given is no engine, or the log is already open.
    """

    def __init__(self, engine: AsyncEngine | Engine | None = None, *, parameters: bool = False) -> None:
        self._target = _engine_to_watch(engine)
        self._keeps_parameters = parameters
        self._open = False
        self._clear()

    def _clear(self) -> None:
        self._entries: dict[int, Statement] = {}
        self._positions = count()  # threads may append at once, and this is atomic
        self._running: dict[int, int] = {}  # id of the execution context -> key in _entries
        self._begun: dict[int, int | None] = {}  # id of the Connection -> number of its transaction
        self._lazily_begun: set[int] = set()  # drivers send BEGIN with the first statement
        self._numbers: dict[int, int] = {}
        self._transactions = 0
        self._began = perf_counter()

    def __enter__(self) -> QueryLog:
        if self._open:
            raise CourseError("This query log is already open.", "Open a second one: with QueryLog(engine) as log:")
        self._clear()
        for name, listener in self._listeners():
            event.listen(self._target, name, listener)
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for name, listener in self._listeners():
            event.remove(self._target, name, listener)

    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            ("before_cursor_execute", self._before),
            ("after_cursor_execute", self._after),
            ("handle_error", self._failed),
            ("begin", self._begin),
            ("commit", self._commit),
            ("rollback", self._rollback),
        ]

    def _hear(self, name: str, *facts: Any) -> None:
        """What somebody else listened for, see ``log_each``."""
        dict(self._listeners())[name](*facts)

    # what was seen

    @property
    def entries(self) -> list[Statement]:
        """The statements with BEGIN, COMMIT, ROLLBACK and savepoints between them."""
        return list(self._entries.values())

    # what SQLAlchemy reports

    def _before(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        many = executemany and context is not None and context.execute_style is ExecuteStyle.EXECUTEMANY
        transaction = self._transaction_of(connection)
        position = self._running[id(context)] = next(self._positions)
        self._entries[position] = Statement(
            sql=sql,
            where=issuing_line(),
            connection=self._number(connection),
            transaction=transaction,
            started=perf_counter() - self._began,
            parameter_sets=len(parameters) if many else None,
            parameters=parameters if self._keeps_parameters else None,
        )

    def _after(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        position = self._running.pop(id(context), None)
        if position is None:
            return
        entry = self._entries[position]
        seconds = perf_counter() - self._began - entry.started
        rows = cursor.rowcount if cursor.rowcount >= 0 and not is_control(sql) else None
        tables = tables_of(context, cursor)
        received = (rows or 0) if tables else 0
        self._entries[position] = replace(entry, seconds=seconds, rows=rows, tables=tables, received=received)
        if tables and getattr(context, "_is_server_side", False):
            self._count_while_streaming(position, context)

    def _count_while_streaming(self, position: int, context: Any) -> None:
        """The server tells no number ahead, so the rows are counted as they are taken."""
        entries = self._entries  # a log that is opened again has others

        def add(rows: int) -> None:
            taken = (entries[position].rows or 0) + rows
            entries[position] = replace(entries[position], rows=taken, received=taken)

        entries[position] = replace(entries[position], rows=0, received=0)
        context.cursor = CountedCursor(context.cursor, add)

    def _failed(self, context: ExceptionContext) -> None:
        position = self._running.pop(id(context.execution_context), None)
        if position is None and context.statement is None and context.connection is not None:
            position = self._failed_commit(context.connection)
        if position is None:
            return
        entry = self._entries[position]
        self._entries[position] = replace(
            entry,
            seconds=perf_counter() - self._began - entry.started,
            error=type(context.sqlalchemy_exception or context.original_exception).__name__,
            sqlstate=getattr(context.original_exception, "sqlstate", None),
        )

    def _failed_commit(self, connection: Connection) -> int | None:
        number = self._number(connection)
        mine = [position for position, entry in self._entries.items() if entry.connection == number]
        return mine[-1] if mine and self._entries[mine[-1]].sql == "COMMIT" else None

    def _begin(self, connection: Connection) -> None:
        if _is_autocommit(connection):
            self._begun[id(connection)] = None
        else:
            self._lazily_begun.add(id(connection))

    def _commit(self, connection: Connection) -> None:
        self._end(connection, "COMMIT")

    def _rollback(self, connection: Connection) -> None:
        self._end(connection, "ROLLBACK")

    def _end(self, connection: Connection, command: str) -> None:
        if id(connection) in self._lazily_begun:  # nothing was sent, so nothing ends
            self._lazily_begun.discard(id(connection))
            return
        transaction = self._transaction_of(connection)
        del self._begun[id(connection)]
        if transaction is not None:
            self._control(command, connection, transaction, issuing_line())

    def _transaction_of(self, connection: Connection) -> int | None:
        """The number of the connection's transaction, one that began before the log included."""
        key = id(connection)
        if key in self._lazily_begun or key not in self._begun:
            begins = key in self._lazily_begun
            self._lazily_begun.discard(key)
            self._begun[key] = None if _is_autocommit(connection) else self._next_transaction()
            if begins:
                self._control("BEGIN", connection, self._begun[key], None)
        return self._begun[key]

    def _next_transaction(self) -> int:
        self._transactions += 1
        return self._transactions

    def _control(self, command: str, connection: Connection, transaction: int | None, where: str | None) -> None:
        started = perf_counter() - self._began
        number = self._number(connection)
        self._entries[next(self._positions)] = Statement(command, where, number, transaction, started)

    def _number(self, connection: Connection) -> int:
        if connection.invalidated or connection.closed:
            return 0
        overall = connection.info.setdefault("query_log_number", next(_connection_numbers))
        return self._numbers.setdefault(overall, len(self._numbers) + 1)

    # how it looks

    def __str__(self) -> str:
        return render_text(self.entries, self.transactions)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return render_html(self.entries, self.transactions)

    def plot(self) -> Picture:
        """A waterfall: one bar per statement, coloured by shape, each transaction a band behind its statements."""
        from course_lib.instruments.query_log.waterfall import draw

        return draw(self.entries)


def named_logs(logs: object, instrument: str) -> Mapping[str, QueryLog]:
    """``logs`` if they are what pictures of several logs are drawn from.

    Raises:
        CourseError: there is none, or something else than a log among them.
    """
    if isinstance(logs, Mapping) and logs and all(isinstance(log, QueryLog) for log in logs.values()):
        return {str(name): log for name, log in logs.items()}
    raise CourseError(
        f"{instrument} compares query logs, each under a name.",
        f'Write: {instrument}({{"lazy": log, "selectinload": other_log}})',
    )


def _engine_to_watch(engine: object) -> Engine | type[Engine]:
    if engine is None:
        return Engine
    if isinstance(engine, AsyncEngine):
        return engine.sync_engine
    if isinstance(engine, Engine):
        return engine
    raise CourseError(
        f"QueryLog listens to an engine, and {type(engine).__name__} is none.",
        "Write: with QueryLog(engine) as log:",
    )


def _is_autocommit(connection: Connection) -> bool:
    if connection.invalidated or connection.closed:
        return False
    dbapi_connection = connection.connection.dbapi_connection
    return dbapi_connection is not None and connection.dialect.detect_autocommit_setting(dbapi_connection)
