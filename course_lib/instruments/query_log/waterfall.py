"""The log as a waterfall: one bar per statement, from when it was sent until the answer was there."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from course_lib.instruments.pictures import COLOURS, FAINT, INK, LINE, PAPER, Picture, card
from course_lib.instruments.query_log.rendering import headline, plural
from course_lib.instruments.query_log.statement import Statement

ROW, SMALLEST, TALLEST = 0.17, 0.6, 5.0  # inches
LONGEST_LABEL = 96  # characters


def draw(entries: Sequence[Statement]) -> Picture:
    """Milliseconds since the first statement to the right, statements downwards, a shaded band per transaction."""
    statements = [entry for entry in entries if not entry.is_control]
    transactions = len({entry.transaction for entry in entries if entry.transaction is not None})
    colours = _colours(statements)
    title = headline(entries, transactions)
    body = min(TALLEST, max(SMALLEST, ROW * len(statements)))
    picture, axes = card(9, body + 0.8 + 0.2 * len(colours), f"{title}, as {plural(len(statements), 'bar')} over time")
    _draw_time_axis(axes)
    zero = entries[0].started if entries else 0.0
    _draw_transactions(axes, entries, statements, zero)
    for row, statement in enumerate(statements):
        _draw_bar(axes, row, statement, zero, colours.get(statement.shape, FAINT))
    axes.set_ylim(max(len(statements), 1) - 0.3, -0.7)
    axes.set_title(title, loc="left", size=11, color=INK)
    _draw_legend(picture, statements, colours)
    return picture


def _colours(statements: Sequence[Statement]) -> dict[str, str]:
    """A colour for each of the first shapes; what comes after them is grey."""
    shapes = list(dict.fromkeys(statement.shape for statement in statements))
    return dict(zip(shapes, COLOURS[:7], strict=False))


def _draw_time_axis(axes: Axes) -> None:
    axes.set_axis_on()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    axes.set_yticks([])
    axes.set_xlabel("milliseconds", size=8, color=INK)


def _draw_transactions(axes: Axes, entries: Sequence[Statement], statements: Sequence[Statement], zero: float) -> None:
    for number in sorted({entry.transaction for entry in entries if entry.transaction is not None}):
        inside = [entry for entry in entries if entry.transaction == number]
        rows = [row for row, statement in enumerate(statements) if statement.transaction == number]
        if rows:
            begin, end = inside[0].started, max(entry.started + (entry.seconds or 0) for entry in inside)
            span = (1000 * (begin - zero), 1000 * (end - begin))
            axes.broken_barh(
                [span], (rows[0] - 0.5, rows[-1] - rows[0] + 1), color=LINE, alpha=0.35, linewidth=0, zorder=0
            )


def _draw_bar(axes: Axes, row: int, statement: Statement, zero: float, colour: str) -> None:
    left, width = 1000 * (statement.started - zero), 1000 * (statement.seconds or 0)
    axes.barh(row, width, left=left, height=0.8, color=colour, edgecolor=PAPER, linewidth=0.3)
    if statement.error:
        axes.text(left + width, row, f" ✗ {statement.error}", va="center", size=8, color=INK)


def _draw_legend(picture: Picture, statements: Sequence[Statement], colours: dict[str, str]) -> None:
    if not statements:
        return
    counts = {shape: sum(statement.shape == shape for statement in statements) for shape in colours}
    handles = [
        # an unescaped dollar would begin a formula
        Patch(color=colour, label=f"{counts[shape]:,} × {_short(shape)}".replace("$", r"\$"))
        for shape, colour in colours.items()
    ]
    if (others := len(statements) - sum(counts.values())) > 0:
        handles.append(Patch(color=FAINT, label=f"{others:,} × another"))
    picture.legend(
        handles=handles, loc="outside lower left", fontsize=8, frameon=False, labelcolor=INK, handlelength=1, ncols=1
    )


def _short(shape: str) -> str:
    return shape if len(shape) <= LONGEST_LABEL else shape[: LONGEST_LABEL - 1] + "…"
