"""The rows a statement returned, as a table a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, overload

from sqlalchemy import CursorResult

from course_lib.texts import check_list

SHOWN_ROWS = 20
SHOWN_WIDTH = 60  # characters of one cell


class Rows(Sequence[tuple[Any, ...]]):
    """A sequence of tuples that renders as a table, in a notebook and in a terminal.

    ``rows.columns`` are the names; ``rows.column("title")`` is one column as a list.
    """

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], affected: int | None = None) -> None:
        check_list(columns, "columns")
        self.columns = list(columns)
        self._rows = [tuple(row) for row in rows]
        self.affected = affected

    @classmethod
    def of(cls, result: CursorResult[Any]) -> Rows:
        """What ``result`` returned; for a statement that returns nothing, how many rows it touched."""
        if not result.returns_rows:
            return cls([], [], result.rowcount if result.rowcount >= 0 else None)
        return cls(list(result.keys()), result.all())

    def column(self, name: str) -> list[Any]:
        """The values of one column, top to bottom."""
        index = self.columns.index(name)
        return [row[index] for row in self._rows]

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Any, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Any, ...] | list[tuple[Any, ...]]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def __str__(self) -> str:
        if not self.columns:
            return self._footer()
        cells = [self.columns, *([_short(value) for value in row] for row in self._rows[:SHOWN_ROWS])]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        right = [_is_number(self._rows, i) for i in range(len(self.columns))]
        lines = ["  ".join(_pad(row[i], widths[i], right[i]) for i in range(len(row))).rstrip() for row in cells]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*lines, self._footer()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.columns:
            return f"<p>{self._footer()}</p>"
        align = ["right" if _is_number(self._rows, i) else "left" for i in range(len(self.columns))]
        head = "".join(f'<th style="text-align:{a}">{escape(c)}</th>' for a, c in zip(align, self.columns, strict=True))
        body = "".join(
            "<tr>"
            + "".join(f'<td style="text-align:{a}">{escape(_short(v))}</td>' for a, v in zip(align, row, strict=True))
            + "</tr>"
            for row in self._rows[:SHOWN_ROWS]
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p><em>{self._footer()}</em></p>"

    def _footer(self) -> str:
        if not self.columns:
            return "done" if self.affected is None else _count(self.affected, "row") + " touched"
        hidden = len(self) - SHOWN_ROWS
        return _count(len(self), "row") + (f", {hidden} not shown" if hidden > 0 else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _short(value: Any) -> str:
    if value is None:
        return "NULL"
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_WIDTH else text[: SHOWN_WIDTH - 1] + "…"


def _is_number(rows: Sequence[tuple[Any, ...]], index: int) -> bool:
    from decimal import Decimal

    values = [row[index] for row in rows if row[index] is not None]
    return bool(values) and all(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in values)


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
