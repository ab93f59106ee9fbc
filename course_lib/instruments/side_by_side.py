"""Several ways side by side: one row per way, one panel of bars per thing measured."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from course_lib.errors import CourseError
from course_lib.instruments.pictures import COLOURS, INK, LINE, PAPER, Picture

WIDTH, ROW, LETTER = 8.6, 0.36, 0.088  # inches


def panels(ways: Mapping[str, Mapping[str, float]], title: str, *, note: str = "") -> Picture:
    """Bars for what was measured, every panel on a scale of its own that starts at zero.

    Its text names what is compared and holds no number, so that times may be drawn where outputs are compared.

    Args:
        ways: name of each way to what was measured, by name; the same names for every way.
        note: a line below.

    Raises:
        CourseError: nothing to draw, or the ways were not measured alike.
    """
    measures = list(next(iter(ways.values()), {}))
    if not measures or any(set(found) != set(measures) for found in ways.values()):
        raise CourseError(
            "Panels compare ways by the same measures, and these have different ones, or none.",
            'Give it {"way": {"milliseconds": 1.2, "rows": 10}, …}',
        )
    height = ROW * len(ways) + (1.35 if note else 1.1)
    picture = Picture.sized(WIDTH, height, f"{title}: {', '.join(measures)} of {', '.join(ways)}")
    picture.spoken = f"{title}. " + ". ".join(
        f"{way}: " + ", ".join(f"{measure} {_spoken(amount)}" for measure, amount in found.items())
        for way, found in ways.items()
    )
    names = LETTER * max(map(len, ways)) + 0.3
    share = (WIDTH - names) / len(measures)
    widths = [names + share] + [share] * (len(measures) - 1)
    grid = picture.subplots(1, len(measures), squeeze=False, width_ratios=widths)
    for place, (axes, measure) in enumerate(zip(grid[0], measures, strict=True)):
        left = names / share if place == 0 else 0.0
        _draw_panel(axes, measure, {way: found[measure] for way, found in ways.items()}, COLOURS[place % 4], left)
    picture.suptitle(title, x=0.01, ha="left", color=INK, size=12)
    if note:
        picture.supxlabel(note, x=0.01, ha="left", color=INK, size=9)
    return picture


def _draw_panel(axes: Axes, measure: str, amounts: Mapping[str, float], colour: str, left: float) -> None:
    """``left``: the room for the names, as a share of the panel without it; 0 where they stand already."""
    axes.set_facecolor(PAPER)
    right = 1.35 * (max(amounts.values()) or 1)
    for row, (way, amount) in enumerate(amounts.items()):
        axes.barh(row, amount, height=0.6, color=colour)
        axes.text(amount + 0.02 * right, row, _spoken(amount), ha="left", va="center", size=9.5, color=INK)
        if left:
            axes.text(-0.02 * right, row, way, ha="right", va="center", size=10, color=INK)
    axes.plot([0, 0], [-0.45, len(amounts) - 0.55], color=LINE, linewidth=1)
    axes.set_xlim(-left * right, right)
    axes.set_ylim(len(amounts) - 0.4, -0.6)
    axes.set_axis_off()
    axes.text(0, -0.62, measure, ha="left", va="bottom", size=9.5, color=INK, weight="bold")


def _spoken(amount: float) -> str:
    """Three digits, and no more behind the point than they need."""
    if amount >= 100:
        return f"{amount:,.0f}"
    return f"{amount:.{1 if amount >= 10 else 2}f}".rstrip("0").rstrip(".")
