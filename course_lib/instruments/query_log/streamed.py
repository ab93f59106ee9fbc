"""Rows of a streamed result, counted as they are taken from the cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class CountedCursor:
    """A server-side cursor that reports how many rows each fetch brought; in all else the cursor it stands for."""

    def __init__(self, cursor: Any, report: Callable[[int], None]) -> None:
        self._cursor = cursor
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def fetchone(self) -> Any:
        row = self._cursor.fetchone()
        self._report(row is not None)
        return row

    def fetchmany(self, *size: int) -> Sequence[Any]:
        return self._counted(self._cursor.fetchmany(*size))

    def fetchall(self) -> Sequence[Any]:
        return self._counted(self._cursor.fetchall())

    def _counted(self, rows: Sequence[Any]) -> Sequence[Any]:
        self._report(len(rows))
        return rows
