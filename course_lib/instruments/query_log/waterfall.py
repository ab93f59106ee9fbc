"""Logs as waterfalls: one bar per statement, from when it was sent until the answer was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from course_lib.instruments.pictures import COLOURS, FAINT, INK, LINE, Picture, card
from course_lib.instruments.query_log.log import QueryLog, named_logs
from course_lib.instruments.query_log.rendering import headline, plural
from course_lib.instruments.query_log.statement import Statement

WIDTH = 9  # inches, as are the next five
ROW, SMALLEST, TALLEST = 0.17, 0.6, 5.0  # of a row, and of all rows of one log or of several
HEADER, BETWEEN = 0.3, 0.16  # above a block's first row, and below its last
THINNEST = 0.002  # of the axis; a shorter bar could not be seen
LONGEST_LABEL = 96  # characters


@dataclass
class _Block:
    """The statements of one log, and where in the picture they stand: inches from the top, downwards."""

    name: str
    entries: Sequence[Statement]
    top: float = 0.0
    row: float = ROW

    def __post_init__(self) -> None:
        self.statements = [entry for entry in self.entries if not entry.is_control]
        self.zero = self.entries[0].started if self.entries else 0.0

    @property
    def headline(self) -> str:
        transactions = len({entry.transaction for entry in self.entries if entry.transaction is not None})
        return headline(self.entries, transactions)

    @property
    def height(self) -> float:
        return self.row * len(self.statements)

    def milliseconds(self, started: float) -> float:
        """Since this block's first entry."""
        return 1000 * (started - self.zero)

    @property
    def end(self) -> float:
        """When the last answer was there, or the last transaction was ended, in milliseconds."""
        return max((self.milliseconds(entry.started + (entry.seconds or 0)) for entry in self.entries), default=0.0)


def draw(entries: Sequence[Statement]) -> Picture:
    """Milliseconds since the first statement to the right, statements downwards, a shaded band per transaction."""
    block = _Block("", entries)
    words = f"{block.headline}, as {plural(len(block.statements), 'bar')} over time"
    picture, axes = _draw([block], words)
    axes.set_title(block.headline, loc="left", size=11, color=INK)
    return picture


def waterfalls(logs: Mapping[str, QueryLog]) -> Picture:
    """Several logs on one clock: a block of bars for each, all beginning at zero, with the time it was over.

    Args:
        logs: name to log, drawn from top to bottom.

    Raises:
        CourseError: there is no log, or something else than a log among them.
    """
    blocks = [_Block(name, log.entries) for name, log in named_logs(logs, "waterfalls").items()]
    words = "; ".join(f"{block.name}: {block.headline}" for block in blocks)
    picture, axes = _draw(blocks, f"{words}; as bars on one clock", header=HEADER, between=BETWEEN)
    picture.spoken = "; ".join(f"{block.name}: {block.headline}, over at {block.end:,.0f} ms" for block in blocks)
    for block in blocks:
        heading = axes.annotate(
            block.name, (0, block.top), (0, 5), textcoords="offset points", size=10, weight="bold", color=INK
        )
        axes.annotate(
            block.headline, (1, block.top), (10, 5), xycoords=(heading, "data"), textcoords="offset points", size=9,
            color=INK,
        )  # fmt: skip
        if block.statements:
            axes.annotate(
                f"{block.end:,.0f} ms", (block.end, block.top + block.height - block.row / 2), (4, 0),
                textcoords="offset points", va="center", size=9, color=INK,
            )  # fmt: skip
    axes.set_xlim(right=1.09 * max(block.end for block in blocks) or 1)
    return picture


def _draw(blocks: list[_Block], words: str, *, header: float = 0.0, between: float = 0.0) -> tuple[Picture, Axes]:
    rows = sum(len(block.statements) for block in blocks)
    below = 0.0
    for block in blocks:
        block.row = min(ROW, TALLEST / max(rows, 1))
        block.top = below + header
        below = block.top + block.height + between
    body = max(SMALLEST, below)
    colours = _colours([statement for block in blocks for statement in block.statements])
    picture, axes = card(WIDTH, body + 0.8 + 0.2 * len(colours), words)
    _draw_time_axis(axes)
    thinnest = THINNEST * max((block.end for block in blocks), default=0.0)
    for block in blocks:
        _draw_transactions(axes, block)
        for number, statement in enumerate(block.statements):
            _draw_bar(axes, block, number, colours.get(statement.shape, FAINT), thinnest)
    axes.set_ylim(body + 0.03, -0.03)
    _draw_legend(picture, blocks, colours)
    return picture, axes


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


def _draw_transactions(axes: Axes, block: _Block) -> None:
    for number in sorted({entry.transaction for entry in block.entries if entry.transaction is not None}):
        inside = [entry for entry in block.entries if entry.transaction == number]
        rows = [row for row, statement in enumerate(block.statements) if statement.transaction == number]
        if rows:
            begin, end = inside[0].started, max(entry.started + (entry.seconds or 0) for entry in inside)
            span = (block.milliseconds(begin), 1000 * (end - begin))
            high = (block.top + rows[0] * block.row, (rows[-1] - rows[0] + 1) * block.row)
            axes.broken_barh([span], high, color=LINE, alpha=0.35, linewidth=0, zorder=0)


def _draw_bar(axes: Axes, block: _Block, number: int, colour: str, thinnest: float) -> None:
    statement = block.statements[number]
    left, width = block.milliseconds(statement.started), 1000 * (statement.seconds or 0)
    middle = block.top + (number + 0.5) * block.row
    axes.barh(middle, max(width, thinnest), left=left, height=0.8 * block.row, color=colour, linewidth=0)
    if statement.error:
        axes.text(left + width, middle, f" ✗ {statement.error}", va="center", size=8, color=INK)


def _draw_legend(picture: Picture, blocks: Sequence[_Block], colours: dict[str, str]) -> None:
    """What each colour stands for. One log also counts its statements here; of several each bar tells its own."""
    shapes = [statement.shape for block in blocks for statement in block.statements]
    if not shapes:
        return
    counted = len(blocks) == 1
    handles = [
        # an unescaped dollar would begin a formula
        Patch(color=colour, label=(f"{shapes.count(shape):,} × " * counted + _short(shape)).replace("$", r"\$"))
        for shape, colour in colours.items()
    ]
    if others := sum(shape not in colours for shape in shapes):
        handles.append(Patch(color=FAINT, label=f"{others:,} × another" if counted else "another"))
    picture.legend(
        handles=handles, loc="outside lower left", fontsize=8, frameon=False, labelcolor=INK, handlelength=1, ncols=1
    )


def _short(shape: str) -> str:
    return shape if len(shape) <= LONGEST_LABEL else shape[: LONGEST_LABEL - 1] + "…"
