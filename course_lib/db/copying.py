"""COPY inside a session's own transaction: the fastest way for many rows in."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from numbers import Number
from typing import Any

import asyncpg
from pgvector import Bit, HalfVector, SparseVector, Vector
from pgvector.sqlalchemy import BIT, HALFVEC, SPARSEVEC, VECTOR
from sqlalchemy import ARRAY, Column, Dialect, event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

from course_lib.db.vectors import speaks_binary
from course_lib.errors import CourseError
from course_lib.texts import check_list

Row = Sequence[Any]
Process = Callable[[Any], Any]
_OPTION = "course_copied_rows"


async def copy_rows(
    session: AsyncSession,
    model: type[DeclarativeBase],
    columns: Sequence[str],
    rows: Iterable[Row] | AsyncIterable[Row],
) -> int:
    """Store ``rows`` with one COPY in the session's transaction, and return how many there were.

    All of them or none: a row that is refused undoes the COPY, and as after any error the transaction must be rolled
    back, to a savepoint or whole. Columns that are not named get the server's defaults; Python-side defaults do not
    apply. What waits in the session is flushed first. The session knows nothing of the new rows until it reads them.

    Args:
        columns: the model's attributes, in the order of the rows' values.
        rows: may be a generator, async too, and then is never held whole; it must not use the session.

    Raises:
        CourseError: a column the model does not have; vectors on an engine without ``binary_vectors``; no asyncpg.
        IntegrityError, DBAPIError: as from an INSERT. Where a row cannot be sent at all, the message says which.
    """
    connection = await session.connection(bind_arguments={"mapper": model})
    copied = _columns(model, columns)
    _check(connection.dialect, copied)
    await session.flush()
    _teach(connection.dialect)
    prepare = connection.dialect.identifier_preparer
    names = ", ".join(prepare.format_column(column) for column in copied)
    sending = _Rows(rows, [_process(column, connection.dialect) for column in copied])
    statement = f"COPY {prepare.format_table(copied[0].table)} ({names}) FROM STDIN (FORMAT binary)"
    await connection.exec_driver_sql(statement, execution_options={_OPTION: (copied, sending)})
    return sending.count


def _columns(model: type[DeclarativeBase], names: Sequence[str]) -> list[Column[Any]]:
    check_list(names, "columns")
    known = inspect(model).columns
    for name in names:
        if name not in known:
            raise CourseError(f"{model.__name__} has no column {name!r}.", f"It has: {', '.join(known.keys())}")
    if not names:
        raise CourseError("COPY needs the names of the columns that the rows are for.", 'Such as ["title", "source"]')
    return [known[name] for name in names]


def _check(dialect: Dialect, columns: Sequence[Column[Any]]) -> None:
    if dialect.driver != "asyncpg":
        raise CourseError(
            f"copy_rows sends through asyncpg, and this engine has {dialect.driver}.", "Use make_engine(lesson.url)"
        )
    vectors = [column.name for column in columns if isinstance(_item_type(column), _VECTORS)]
    if vectors and not speaks_binary(dialect):
        raise CourseError(
            f"COPY sends {vectors[0]} in binary, and this engine sends vectors as text.",
            "Make the engine with make_engine(lesson.url, binary_vectors=True).",
        )


def _item_type(column: Column[Any]) -> TypeEngine[Any]:
    """The column's type, or that of its items where it holds arrays."""
    return column.type.item_type if isinstance(column.type, ARRAY) else column.type


def _process(column: Column[Any], dialect: Dialect) -> Process | None:
    """What the column's type does to a value before the driver gets it. Vectors are left to the driver's codec."""
    if isinstance(column.type, _VECTORS):
        return None
    for kind, make in _MAKE.items():
        if isinstance(_item_type(column), kind):
            return partial(_each, make) if isinstance(column.type, ARRAY) else make
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _each(make: Process, values: Any) -> Any:
    """An array's items, each made what the driver's codec takes. SQLAlchemy's ARRAY would look into the vectors too."""
    return values if values is None else [_each(make, item) if _is_array(item) else make(item) for item in values]


def _is_array(item: Any) -> bool:
    """Whether an item of an array is an array in turn: it holds something else than a vector's numbers."""
    if isinstance(item, list | tuple):
        return bool(item) and not isinstance(item[0], Number)
    return getattr(item, "ndim", 1) > 1


def _bits(value: Any) -> asyncpg.BitString | None:
    if value is None or isinstance(value, asyncpg.BitString):
        return value
    packed = (value if isinstance(value, Bit) else Bit(value)).to_binary()  # four bytes of length, then the bits
    return asyncpg.BitString.frombytes(packed[4:], int.from_bytes(packed[:4]))


def _made(kind: type[Any]) -> Process:
    return lambda value: value if value is None or isinstance(value, kind) else kind(value)


_MAKE: dict[type[TypeEngine[Any]], Process] = {
    VECTOR: _made(Vector), HALFVEC: _made(HalfVector), SPARSEVEC: _made(SparseVector), BIT: _bits,
}  # fmt: skip
_VECTORS = (VECTOR, HALFVEC, SPARSEVEC)


class _Rows:
    """Rows on their way: counted, checked for their length, and their values made what the driver takes."""

    def __init__(self, rows: Iterable[Row] | AsyncIterable[Row], processes: list[Process | None]) -> None:
        self._rows = rows if isinstance(rows, AsyncIterable) else iter(rows)
        self._width = len(processes)
        self._processes = [(place, process) for place, process in enumerate(processes) if process is not None]
        self.count = 0
        self.broken: BaseException | None = None  # the iterable's own error, which is nobody's to translate

    def stream(self) -> Iterator[Row] | AsyncIterator[Row]:
        return self._later() if isinstance(self._rows, AsyncIterable) else self._now()

    def _now(self) -> Iterator[Row]:
        assert not isinstance(self._rows, AsyncIterable)
        while True:
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except BaseException as error:
                self.broken = error
                raise
            yield self._ready(row)

    async def _later(self) -> AsyncIterator[Row]:
        assert isinstance(self._rows, AsyncIterable)
        rows = aiter(self._rows)
        while True:
            try:
                row = await anext(rows)
            except StopAsyncIteration:
                return
            except BaseException as error:
                self.broken = error
                raise
            yield self._ready(row)

    def _ready(self, row: Row) -> Row:
        self.count += 1
        if isinstance(row, str | bytes):
            raise ValueError("it is a text, and COPY takes a tuple of values")
        if len(row) != self._width:  # asyncpg would drop what is too much without a word
            raise ValueError(f"{len(row)} values for {self._width} columns")
        if isinstance(row, dict):
            raise ValueError("it is a dict, and COPY takes values in the columns' order")
        if not self._processes:
            return row
        values = list(row)
        for place, process in self._processes:
            values[place] = process(values[place])
        return values


def _teach(dialect: Dialect) -> None:
    if not event.contains(dialect, "do_execute", _copy_instead):
        event.listen(dialect, "do_execute", _copy_instead)


def _copy_instead(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """In place of executing COPY's text, which would wait for rows for ever: have asyncpg send them.

    Standing here, SQLAlchemy reports the statement to whoever listens, and its errors are SQLAlchemy's.
    """
    sending = context.execution_options.get(_OPTION)
    if sending is None:
        return False
    columns, rows = sending
    connection = context.root_connection.connection.dbapi_connection
    if not connection.autocommit and not connection.driver_connection.is_in_transaction():
        cursor.execute("SELECT 1")  # BEGIN is sent with the first statement, and asyncpg's COPY is none of those
        assert connection.driver_connection.is_in_transaction()
    connection.run_async(lambda driver: _copy(driver, cursor, columns, rows))
    cursor._rowcount = rows.count
    return True


async def _copy(driver: asyncpg.Connection[Any], cursor: Any, columns: list[Column[Any]], rows: _Rows) -> None:
    table = columns[0].table
    try:
        await driver.copy_records_to_table(
            table.name,
            schema_name=table.schema,
            columns=[column.name for column in columns],
            records=rows.stream(),
        )
    except Exception as error:
        if error is rows.broken:
            raise
        if not isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            error = asyncpg.DataError(f"row {rows.count} cannot be sent: {error}")
        cursor._handle_exception(error)  # raises it as SQLAlchemy's adapter would
