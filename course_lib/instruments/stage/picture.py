"""The scene as swim-lanes: a column per actor, time downwards, each transaction a band."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from course_lib.instruments.pictures import (
    DOTS_PER_INCH,
    INK,
    INKS,
    LINE,
    PAPER,
    SANS,
    SHARPNESS,
    SOFT,
    Picture,
    card,
    written,
)
from course_lib.instruments.stage.cells import Band, Row
from course_lib.instruments.stage.layout import Arrow, Line, Sheet, lay_out
from course_lib.instruments.stage.rendering import MEANINGS, render_speech, render_text

WIDTH, MARGIN, GUTTER, BAR = 9.0, 0.40, 0.22, 0.10  # inches: card, step numbers, bar to text, the bar itself
LANES, NARROWEST = 8.5, 1.9  # inches of all lanes together, and of one at least
PITCH, GAP, HEAD, FOOT = 0.168, 0.13, 0.46, 0.46  # inches: a line, between rows, above, below
ACTORS = [INKS[0], INKS[2], INKS[3], INKS[6], INKS[7]]
WRONG = INKS[5]
MONO = "DejaVu Sans Mono"
SIZE, SMALL = 8.6, 8.0  # points
LOOKS: dict[str, dict[str, Any]] = {
    "sql": {"family": MONO, "size": SIZE, "color": INK},
    "call": {"family": MONO, "size": SIZE, "color": INK, "weight": "bold"},
    "detail": {"family": MONO, "size": SMALL, "color": SOFT},
    "plain": {"family": SANS, "size": 8.6, "color": INK, "weight": "bold"},
    "wait": {"family": SANS, "size": 8.6, "color": INK, "style": "italic"},
    "error": {"family": SANS, "size": 8.6, "color": WRONG, "weight": "bold"},
    "quiet": {"family": SANS, "size": 8.2, "color": SOFT},
}


def draw(titles: Sequence[tuple[str, str]], rows: Sequence[Row]) -> Picture:
    """The scene of the actors ``titles`` (name, isolation level); its description is the table for a terminal."""
    lanes = max(1, len(titles))
    drawing = _Drawing(titles, rows, max(NARROWEST, LANES / lanes))
    return drawing.picture


class _Drawing:
    """One picture. Coordinates are inches from the upper left corner."""

    def __init__(self, titles: Sequence[tuple[str, str]], rows: Sequence[Row], pitch: float) -> None:
        self.pitch = pitch
        self.lanes = max(1, len(titles))
        room = int((pitch - GUTTER - 0.2) / letter(SIZE))
        self.sheet = lay_out(rows, len(titles), room)
        self.row_of = self._rows()
        self.head = HEAD + (0.17 if any(level for _, level in titles) else 0.0)
        width = max(WIDTH, MARGIN + self.lanes * pitch + 0.1)
        self.bottom = self.top(self.sheet.height - 1) + PITCH if self.sheet.height else self.head
        height = self.bottom + FOOT
        self.picture, self.axes = card(width, height, render_text(titles, rows))
        self.picture.spoken = render_speech(titles, rows)
        self.picture.set_layout_engine("none")
        self.axes.set_position((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self._draw(titles, width)

    def _draw(self, titles: Sequence[tuple[str, str]], width: float) -> None:
        self._rule_rows(width)
        for lane, title in enumerate(titles):
            self._draw_title(lane, *title)
            self._draw_bands(lane)
        for line in self.sheet.lines:
            self._draw_line(line)
        for arrow in self.sheet.arrows:
            self._draw_arrow(arrow)
        self._draw_legend()

    # where things are

    def _rows(self) -> list[int]:
        """The number of the row that each line belongs to."""
        rows, number = [], -1
        for at in range(self.sheet.height):
            number += at in self.sheet.labels
            rows.append(number)
        return rows

    def left(self, lane: int) -> float:
        return MARGIN + lane * self.pitch

    def top(self, at: int) -> float:
        return self.head + at * PITCH + (self.row_of[at] + 1) * GAP

    def middle(self, at: int) -> float:
        return self.top(at) + PITCH / 2

    def end_of_text(self, at: int, lane: int) -> float:
        """The right end of what is written there."""
        x = self.left(lane) + GUTTER
        found = [line for line in self.sheet.lines if (line.at, line.lane) == (at, lane)]
        return max([x, *(x + width_of(line) for line in found)])

    # what is drawn

    def _rule_rows(self, width: float) -> None:
        for at, label in self.sheet.labels.items():
            y = self.top(at) - GAP / 2
            self.axes.plot([0.12, width - 0.12], [y, y], color=LINE, linewidth=0.7, zorder=0)
            self.axes.text(0.15, self.middle(at), label, ha="left", va="center_baseline", size=8.6, color=SOFT)

    def _draw_title(self, lane: int, name: str, isolation_level: str) -> None:
        x = self.left(lane)
        self.axes.text(x, 0.27, name, size=11.5, weight="bold", color=colour_of(lane), va="center")
        if isolation_level:
            self.axes.text(x, 0.48, isolation_level, size=8, color=SOFT, va="center")

    def _draw_bands(self, lane: int) -> None:
        for band, begin, end, is_last in runs(self.sheet, lane):
            top = self.top(begin)
            bottom = self.top(end) + PITCH if is_last else self.top(end + 1)
            self._draw_band(self.left(lane), top - 0.02, bottom - top + (0.04 if is_last else 0.0), band, lane)

    def _draw_band(self, x: float, y: float, height: float, band: Band, lane: int) -> None:
        colour = WRONG if band == "failed" else colour_of(lane)
        tint = {"open": 0.075, "waiting": 0.035, "failed": 0.05}[band]
        area = Rectangle((x, y), self.pitch - 0.14, height, facecolor=colour, alpha=tint, linewidth=0, zorder=0.5)
        self.axes.add_patch(area)
        self.axes.add_patch(bar((x, y), height, band, colour))

    def _draw_line(self, line: Line) -> None:
        x, y = self.left(line.lane) + GUTTER, self.middle(line.at)
        if line.style in ("mark", "refused"):
            self._draw_mark(x, y, line)
            return
        text = line.text.replace("$", r"\$")  # an unescaped dollar would begin a formula
        self.axes.text(x, y, text, ha="left", va="center_baseline", zorder=3, **LOOKS[line.style])

    def _draw_mark(self, x: float, y: float, line: Line) -> None:
        colour = colour_of(line.lane) if line.style == "mark" else WRONG
        is_commit = line.style == "mark" and line.text == "COMMIT"
        box = FancyBboxPatch(
            (x, y - 0.08), width_of(line), 0.16, boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=colour if is_commit else PAPER, edgecolor=colour, linewidth=1.1, zorder=2.5,
        )  # fmt: skip
        self.axes.add_patch(box)
        self.axes.text(
            x + width_of(line) / 2, y, line.text, ha="center", va="center_baseline", size=8, weight="bold",
            color=PAPER if is_commit else colour, zorder=3,
        )  # fmt: skip

    def _draw_arrow(self, arrow: Arrow) -> None:
        (from_line, from_lane), (to_line, to_lane) = arrow.start, arrow.end
        y, to_right = self.middle(to_line), to_lane > from_lane
        start = self.end_of_text(from_line, from_lane) + 0.05 if to_right else self.left(from_lane) - 0.03
        end = self.left(to_lane) - 0.02 if to_right else self.end_of_text(to_line, to_lane) + 0.05
        colour = colour_of(from_lane)
        if from_line != to_line:  # first down to the height of who goes on
            start = self.left(from_lane) + (GUTTER + 0.25 if to_right else -0.06)
            top = self.middle(from_line) + (0.09 if to_right else 0.0)
            self.axes.plot([start, start], [top, y], color=colour, linewidth=1.3, solid_capstyle="butt", zorder=2)
        self.axes.add_patch(
            FancyArrowPatch(
                (start, y), (end, y), arrowstyle="-|>,head_length=4.5,head_width=2.4", shrinkA=0, shrinkB=0,
                color=colour, linewidth=1.3, zorder=2, mutation_scale=1,
            )
        )  # fmt: skip

    def _draw_legend(self) -> None:
        y, x = self.bottom + 0.26, MARGIN
        seen = {band for bands in self.sheet.bands for band in bands}
        for band in (band for band in MEANINGS if band in seen):
            self.axes.add_patch(bar((x, y - 0.07), 0.14, band, WRONG if band == "failed" else SOFT))
            self.axes.text(x + 0.17, y, MEANINGS[band], size=8, color=SOFT, va="center_baseline")
            x += 0.17 + written(MEANINGS[band], 8) + 0.32
        if self.sheet.arrows:
            arrow = FancyArrowPatch((x, y), (x + 0.26, y), arrowstyle="-|>,head_length=4.5,head_width=2.4", color=SOFT)
            self.axes.add_patch(arrow)
            self.axes.text(x + 0.33, y, "lets the other go on", size=8, color=SOFT, va="center_baseline")


def runs(sheet: Sheet, lane: int) -> Iterator[tuple[Band, int, int, bool]]:
    """Stretches of a lane with one state: the state, first and last line, and whether the transaction ends there."""
    bands, ends = sheet.bands[lane], sheet.ends[lane]
    numbers = [sum(end < at for end in ends) for at in range(len(bands))]  # of the transaction on each line
    for (band, number), group in groupby(range(len(bands)), key=lambda at: (bands[at], numbers[at])):
        lines = list(group)
        if band:
            after = lines[-1] + 1
            goes_on = after < len(bands) and bands[after] and numbers[after] == number
            yield band, lines[0], lines[-1], not goes_on


def bar(corner: tuple[float, float], height: float, band: Band, colour: str) -> Rectangle:
    """The edge of a band: full while the transaction is open, hatched while it waits, empty once it has failed."""
    hollow = band != "open"
    return Rectangle(
        corner, BAR, height, facecolor=PAPER if hollow else colour, edgecolor=colour,
        hatch="//////" if band == "waiting" else None, linewidth=0.9 if hollow else 0, zorder=1.5,
    )  # fmt: skip


def colour_of(lane: int) -> str:
    return ACTORS[lane % len(ACTORS)]


def width_of(line: Line) -> float:
    """Inches of a written line."""
    if line.style in ("mark", "refused"):
        return written(line.text, 8, weight="bold") + 0.14
    look = LOOKS[line.style]
    if look["family"] == MONO:
        return len(line.text) * letter(look["size"])
    return written(line.text, look["size"], weight=look.get("weight", "normal"))


def letter(size: float) -> float:
    """Inches of a monospaced letter: matplotlib sets them on whole pixels."""
    dots = SHARPNESS * DOTS_PER_INCH
    return round(0.602 * size * dots / 72) / dots
