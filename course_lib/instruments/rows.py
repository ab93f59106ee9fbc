"""The rows a statement returned, as a table a person can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from html import escape
from typing import Any, NamedTuple, overload

from sqlalchemy import CursorResult
from wcwidth import clip, ljust, rjust, width, wrap

from course_lib.texts import LITERAL, check_list

SHOWN_ROWS = 20
SHOWN_WIDTH = 60  # columns of a terminal that one cell takes at most; a Chinese letter or an emoji takes two
SHOWN_LINES = 36  # of all rows together, so that a table fits a screen
LONGEST = 12  # lines of one cell


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
        body = [[cell.lines for cell in row] for row in self._cells()]
        head = [[name] for name in self.columns]
        widths = [max(width(line) for row in [head, *body] for line in row[i]) for i in range(len(head))]
        pads = [rjust if right else ljust for right in self._numbers()]
        between = [""] if any(len(cell) > 1 for row in body for cell in row) else []
        lines = [_line(head, 0, widths, pads), "  ".join("─" * wide for wide in widths)]
        for number, row in enumerate(body):
            lines += between if number else []
            lines += [_line(row, at, widths, pads) for at in range(max(map(len, row)))]
        return "\n".join([*lines, self._footer()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.columns:
            return f"<p>{self._footer()}</p>"
        align = ["right" if number else "left" for number in self._numbers()]
        head = "".join(f'<th style="text-align:{a}">{escape(c)}</th>' for a, c in zip(align, self.columns, strict=True))
        body = "".join(
            "<tr>"
            + "".join(f'<td style="text-align:{a}">{escape(c.text)}</td>' for a, c in zip(align, row, strict=True))
            + "</tr>"
            for row in self._cells()
        )
        table = f"<table {LITERAL}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"{table}<p><em>{self._footer()}</em></p>"

    def _cells(self) -> list[list[_Cell]]:
        """The cells of the rows that are shown; a long text has as many lines as the screen has room for."""
        shown = self._rows[:SHOWN_ROWS]
        most = min(LONGEST, max(1, SHOWN_LINES // max(1, len(shown))))
        return [[_cell(value, most) for value in row] for row in shown]

    def _numbers(self) -> list[bool]:
        """For each column, whether it holds numbers, which stand to the right."""
        columns = [[row[i] for row in self._rows if row[i] is not None] for i in range(len(self.columns))]
        return [
            bool(values) and all(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in values)
            for values in columns
        ]

    def _footer(self) -> str:
        if not self.columns:
            return "done" if self.affected is None else _count(self.affected, "row") + " touched"
        hidden = len(self) - SHOWN_ROWS
        return _count(len(self), "row") + (f", {hidden} not shown" if hidden > 0 else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _line(cells: Sequence[Sequence[str]], at: int, widths: Sequence[int], pads: Sequence[Any]) -> str:
    """Line number ``at`` of a row, each cell padded to its column's width."""
    texts = [cell[at] if at < len(cell) else "" for cell in cells]
    return "  ".join(pad(text, wide) for text, wide, pad in zip(texts, widths, pads, strict=True)).rstrip()


class _Cell(NamedTuple):
    """As much of a value as is shown: in one piece, and in lines for a terminal."""

    text: str
    lines: list[str]


def _cell(value: Any, most: int) -> _Cell:
    """What a person reads is wrapped; what a machine reads, as a vector or a key, is cut after a line."""
    text = " ".join(_written(value).split())
    if not isinstance(value, str | dict) or (text.isascii() and " " not in text[:SHOWN_WIDTH]):
        text = text if width(text) <= SHOWN_WIDTH else f"{clip(text, 0, SHOWN_WIDTH - 1)}…"
        return _Cell(text, [text])
    lines = wrap(text, SHOWN_WIDTH) or [""]
    if len(lines) > most:
        lines = wrap(text, SHOWN_WIDTH, max_lines=most, placeholder="…")
        text = " ".join(lines)
    return _Cell(text, lines)


def _written(value: Any) -> str:
    """NULL for None; JSON and arrays as PostgreSQL's JSON has them, not as Python."""
    if value is None:
        return "NULL"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
