"""A chart of measured amounts over an amount that was chosen: lines with a mark for each measurement."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, PAPER, Picture

WIDTH, HEIGHT = 7.6, 3.4  # inches
LINE_OF_TEXT = 0.075  # of the height


def curves(
    lines: Mapping[str, Mapping[float, float]],
    title: str,
    *,
    x: str,
    y: str,
    mark: tuple[str, float] | None = None,
) -> Picture:
    """One line for each name, its name at its end. As text it says what was chosen, and nothing that was measured.

    Args:
        lines: name to line; a line maps what was chosen (to the right) to what was measured (upwards, from zero).
        x: what was chosen.
        y: what was measured, or its unit.
        mark: name and place of a line from top to bottom.
    """
    chosen = sorted({place for line in lines.values() for place in line})
    places = ", ".join(f"{place:g}" for place in chosen)
    picture = Picture.sized(WIDTH, HEIGHT, f"{title}: {y}, {' and '.join(lines)}, for {x} = {places}")
    axes = picture.add_subplot()
    picture.spoken = f"{title}: {y}, by {x}. " + ". ".join(
        f"{name}: " + ", ".join(f"{at:g}: {amount:,.3g}" for at, amount in sorted(line.items()))
        for name, line in lines.items()
    )
    ends = []
    for (name, line), colour, ink in zip(lines.items(), COLOURS, INKS, strict=False):
        points = sorted(line.items())
        axes.plot(
            *zip(*points, strict=True), color=colour, linewidth=2, marker="o", markersize=6, zorder=3, clip_on=False
        )
        ends.append((points[-1], name, ink))
    if mark is not None:
        _draw_mark(axes, *mark)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    _name_at_ends(axes, ends)
    axes.set_xticks(chosen, [f"{place:g}" for place in chosen])
    axes.set_xlabel(x, color=INK, size=9)
    axes.set_ylabel(y, color=INK, size=9)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    _make_plain(axes)
    return picture


def _name_at_ends(axes: Axes, ends: list[tuple[tuple[float, float], str, str]]) -> None:
    """Each name beside the end of its line, or a line of text above the one below."""
    free = 0.0
    for (place, height), name, ink in sorted(ends, key=lambda end: end[0][1]):
        level = max(height, free)
        free = level + LINE_OF_TEXT * axes.get_ylim()[1]
        axes.annotate(
            name, (place, level), xytext=(9, 0), textcoords="offset points", color=ink, size=10, va="center",
            annotation_clip=False,
        )  # fmt: skip


def _draw_mark(axes: Axes, name: str, place: float) -> None:
    axes.axvline(place, color=INKS[5], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        name, (place, 1), xycoords=("data", "axes fraction"), xytext=(5, -9), textcoords="offset points",
        color=INKS[5], size=9,
    )  # fmt: skip


def _make_plain(axes: Axes) -> None:
    axes.set_facecolor(PAPER)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9, length=0, pad=7)  # clear of a point at zero
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
