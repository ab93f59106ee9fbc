"""Where everything stands: the scene as lines, the same for the text and for the picture."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from course_lib.instruments.stage.cells import Band, Cell, Row

Style = Literal["sql", "call", "mark", "refused", "detail", "plain", "wait", "error", "quiet"]
HEADS: dict[str, Style] = {"sql": "sql", "call": "call", "mark": "mark", "echo": "plain", "end": "quiet"}
COUNTED = re.compile(r"(?:[\d,]+ × )?\s*(?:[┌│└] )?")  # what stands before the statements of a loop
CLAUSE = re.compile(
    r"(?<!LEFT)\s(?=(?:FROM|WHERE|VALUES|ON CONFLICT|RETURNING|(?:LEFT )?JOIN|(?:GROUP|ORDER) BY|LIMIT"
    r"|FOR (?:NO KEY UPDATE|UPDATE|SHARE|KEY SHARE))\b)"
)
LONGEST = {"head": 10, "detail": 3, "outcome": 6}  # lines


@dataclass(frozen=True)
class Line:
    """One line of one lane."""

    at: int
    lane: int
    style: Style
    text: str


@dataclass(frozen=True)
class Arrow:
    """From who let go to whom that let go on: (line, lane) of both."""

    start: tuple[int, int]
    end: tuple[int, int]


@dataclass
class Sheet:
    """The scene on ruled paper.

    Attributes:
        height: lines.
        labels: the step's number beside its first line, and where each row begins.
        bands: for each lane, how the transaction stands on every line.
        ends: for each lane, the lines on which a transaction ends.
    """

    height: int = 0
    labels: dict[int, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    bands: list[list[Band]] = field(default_factory=list)
    ends: list[set[int]] = field(default_factory=list)


def lay_out(rows: Sequence[Row], lanes: int, width: int) -> Sheet:
    """Place ``rows`` in ``lanes`` lanes of ``width`` characters."""
    sheet = Sheet(bands=[[] for _ in range(lanes)], ends=[set() for _ in range(lanes)])
    now: list[Band] = [""] * lanes
    for row in rows:
        _place(sheet, row, now, width)
    return sheet


def _place(sheet: Sheet, row: Row, now: list[Band], width: int) -> None:
    top = start = sheet.height
    sheet.labels[top] = row.label
    last: dict[int, int] = {}  # the last used line of each lane
    states: list[dict[int, Band]] = [{} for _ in now]  # from which line on a transaction stands how
    for number, cell in enumerate(row.cells):
        lines = _lines_of(cell, width)
        if number and cell.kind == "echo":
            start = _line_of_echo(sheet, row, number, start, last)
        for offset, (style, text) in enumerate(lines):
            sheet.lines.append(Line(start + offset, cell.lane, style, text))
        last[cell.lane] = start + len(lines) - 1
        _mark_bands(states[cell.lane], cell, start, [style for style, _ in lines], now[cell.lane])
        if cell.inside and not cell.band:
            sheet.ends[cell.lane].add(last[cell.lane])
    sheet.height = max(last.values()) + 1
    for lane, bands in enumerate(sheet.bands):
        for at in range(top, sheet.height):
            now[lane] = states[lane].get(at, now[lane])
            bands.append(now[lane])
        now[lane] = states[lane].get(sheet.height, now[lane])


def _line_of_echo(sheet: Sheet, row: Row, number: int, start: int, last: dict[int, int]) -> int:
    """Beside the end of who let this one go on, below whatever its arrow would cross."""
    cell = row.cells[number]
    by = cell.freed_by
    source = last.get(row.cells[0].lane if by is None else by, start)
    start = max(source, start, last.get(cell.lane, -1) + 1)
    if by is not None:
        between = range(min(by, cell.lane) + 1, max(by, cell.lane))
        start = max([start, *(last[lane] + 1 for lane in between if lane in last)])
        sheet.arrows.append(Arrow((source, by), (start, cell.lane)))
    return start


def _mark_bands(states: dict[int, Band], cell: Cell, start: int, styles: Sequence[Style], before: Band) -> None:
    if not cell.inside:
        states[start] = states[start + len(styles)] = ""
        return
    for offset, style in enumerate(styles):
        if before == "failed" or style == "error":
            states[start + offset] = "open" if style == "error" and cell.band == "open" else "failed"
        else:
            states[start + offset] = "waiting" if style == "wait" else "open"
    states[start + len(styles)] = cell.band


def _lines_of(cell: Cell, width: int) -> list[tuple[Style, str]]:
    refused = cell.kind == "mark" and cell.tone == "error"
    head = [(HEADS[cell.kind] if not refused else "refused", line) for line in _wrapped(cell.head, width, "head")]
    details: list[tuple[Style, str]] = [
        ("detail", line) for detail in cell.details for line in _wrapped(detail, width, "detail")
    ]
    outcome: list[tuple[Style, str]] = [(cell.tone, line) for line in _wrapped(cell.outcome, width, "outcome")]
    return [*details, *head, *outcome] if cell.kind == "mark" else [*head, *details, *outcome]


def _wrapped(text: str, width: int, part: str) -> list[str]:
    """The text in lines of ``width`` characters, broken before a clause of SQL where there is one."""
    prefix = COUNTED.match(text)
    indent = " " * (2 + len(prefix[0] if prefix and part == "detail" else ""))
    lines: list[str] = []
    for clause in CLAUSE.split(text) if part != "outcome" else [text]:
        if lines and len(lines[-1]) + 1 + len(clause) <= width:
            lines[-1] += " " + clause
        else:
            first = indent if lines else ""
            lines += textwrap.wrap(
                clause, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
            )
    limit = LONGEST[part]
    return lines if len(lines) <= limit else [*lines[: limit - 1], f"{lines[limit - 1][: width - 2]} …"]
