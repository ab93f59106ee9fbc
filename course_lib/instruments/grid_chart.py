"""A table that is looked at: a tile per cell with what was seen in it, filled where it should not have been seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from course_lib.errors import CourseError
from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, SOFT, Picture, card, fitted, written

ROW, LETTERS, PADDING = 0.34, 9.5, 0.14  # inches, points, inches beside the letters
NARROWEST = 0.55  # inches of a column


def grid(
    rows: Mapping[str, Mapping[str, object]], title: str, *, bad: Collection[object] = (), corner: str = ""
) -> Picture:
    """Rows of tiles under the names of the columns. As text it is the same table, so it is for what never varies.

    Args:
        rows: name of each row to what was seen, by the column's name; a column that a row has not stays empty.
        bad: what should not have been seen: its tiles are filled, and marked in the text.
        corner: what the rows are.

    Raises:
        CourseError: there is nothing to draw.
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if not columns:
        raise CourseError("A grid needs rows with something in them.", 'Try: grid({"a row": {"a column": 1}}, "…")')
    cells = [[str(row[column]) if column in row else "" for column in columns] for row in rows.values()]
    wrong = [[column in row and row[column] in bad for column in columns] for row in rows.values()]
    first = max(written(text, LETTERS) for text in (*rows, corner)) + PADDING
    widths = [
        max(NARROWEST, *(written(text, LETTERS) + 2 * PADDING for text in (column, *(row[at] for row in cells))))
        for at, column in enumerate(columns)
    ]
    words = _as_text([[corner, *columns], *([name, *row] for name, row in zip(rows, cells, strict=True))], wrong)
    width = max(first + sum(widths), written(title, 12)) + 0.3
    picture, axes = card(width, ROW * (len(rows) + 1) + 0.6, f"{title}\n{words}")
    _name_columns(axes, corner, columns, first, widths)
    for at, name in enumerate(rows):
        axes.text(0, at, fitted(name, LETTERS, first), ha="left", va="center", size=LETTERS, color=INK)
        left = first
        for wide, text, is_bad in zip(widths, cells[at], wrong[at], strict=True):
            _draw_tile(axes, left, at, wide, text, is_bad)
            left += wide
    axes.set_xlim(0, width - 0.2)
    axes.set_ylim(len(rows) - 0.45, -1.5)
    axes.set_title(title, loc="left", color=INK, size=12, pad=8)
    return picture


def _name_columns(axes: Axes, corner: str, columns: list[str], left: float, widths: list[float]) -> None:
    axes.text(0, -1, corner, ha="left", va="center", size=LETTERS, color=SOFT)
    for column, wide in zip(columns, widths, strict=True):
        axes.text(left + wide / 2, -1, column, ha="center", va="center", size=LETTERS, color=SOFT)
        left += wide


def _draw_tile(axes: Axes, left: float, row: int, wide: float, text: str, is_bad: bool) -> None:
    if not text:
        axes.text(left + wide / 2, row, "·", ha="center", va="center", size=LETTERS, color=FAINT)
        return
    colour = INKS[5] if is_bad else COLOURS[0]
    tile = FancyBboxPatch(
        (left + 0.04, row - 0.4), wide - 0.08, 0.8, boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=colour if is_bad else f"{colour}22", edgecolor=colour, linewidth=1,
    )  # fmt: skip
    axes.add_patch(tile)
    ink = "white" if is_bad else INK
    axes.text(left + wide / 2, row, text.replace("$", r"\$"), ha="center", va="center", size=LETTERS, color=ink)


def _as_text(table: list[list[str]], wrong: list[list[bool]]) -> str:
    """In columns; ``!`` after what should not be there."""
    marked = [table[0]] + [
        [row[0], *(f"{text} !" if is_bad else text for text, is_bad in zip(row[1:], bad, strict=True))]
        for row, bad in zip(table[1:], wrong, strict=True)
    ]
    widths = [max(len(row[at]) for row in marked) for at in range(len(table[0]))]
    return "\n".join(
        "  ".join(text.ljust(wide) for text, wide in zip(row, widths, strict=True)).rstrip() for row in marked
    )
