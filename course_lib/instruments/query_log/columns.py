"""Which tables the columns of an answer come from, as the compiled statement knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, Table

_known: WeakKeyDictionary[Any, tuple[str, ...]] = WeakKeyDictionary()  # SQLAlchemy compiles a statement once, too


def tables_of(context: Any, cursor: Any) -> tuple[str, ...]:
    """A name per column of the answer; empty when the statement answers with no rows.

    Args:
        context: SQLAlchemy's execution context, None when there is none.
        cursor: after its statement was executed; what it describes is what the server sent.
    """
    width = len(cursor.description or ())
    if not width:
        return ()
    compiled = getattr(context, "compiled", None)
    named = _named(compiled) if compiled is not None else ()
    return (*named, *[""] * width)[:width]  # of SQL given as text only the number of columns is known


def _named(compiled: Any) -> tuple[str, ...]:
    if compiled not in _known:
        _known[compiled] = tuple(_table(entry.objects) for entry in getattr(compiled, "_result_columns", ()))
    return _known[compiled]


def _table(objects: Sequence[object]) -> str:
    """The table of one column. Through aliases, subqueries and CTEs it is the table they read the column from."""
    for column in objects:
        if isinstance(column, ColumnElement):
            for origin in column.base_columns:
                table = getattr(origin, "table", None)
                if isinstance(table, Table):
                    return table.name
    return ""
