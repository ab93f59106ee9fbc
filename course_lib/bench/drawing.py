"""Pictures of the measurements, on the lessons' card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from course_lib.bench.filters import Filtered
from course_lib.bench.points import TARGET, Found
from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, PAPER, Picture

WIDTH, HEIGHT = 8.6, 4.8  # inches
SHORT_NAME, LETTER = 36, 0.075  # letters that have room, inches for one more
LEAST_RECALL = 0.7  # what finds less is of no use, and would take half of the picture


def sheet(width: float, height: float, title: str, description: str) -> tuple[Picture, Axes]:
    """A picture with one field, titled, without a frame; sizes in inches."""
    picture = Picture.sized(width, height, description)
    axes = picture.add_subplot()
    axes.set_facecolor(PAPER)
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK, labelsize=9, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    return picture, axes


def draw_engines(rows: int, curves: Mapping[str, Sequence[Found]]) -> Picture:
    """Recall to the right, milliseconds upwards, one line for each engine."""
    return _curves(curves, f"Recall and time of one search in {rows:,} vectors")


def draw_sizes(curves: Mapping[int, Sequence[Found]]) -> Picture:
    """The same with one line for each number of rows."""
    return _curves({f"{rows:,}": curve for rows, curve in curves.items()}, "pgvector: recall and time by rows")


def _curves(curves: Mapping[str, Sequence[Found]], title: str) -> Picture:
    picture, axes = sheet(WIDTH, HEIGHT, title, f"{title}: {', '.join(curves)}")
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        points = [(found.recall, found.p50 * 1000) for found in curve if found.recall >= LEAST_RECALL]
        recalls, times = [recall for recall, _ in points], [time for _, time in points]
        axes.plot(recalls, times, color=colour, linewidth=2, marker="o", markersize=5, label=name, zorder=3)
    axes.axvline(TARGET, color=INKS[5], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        f"recall {TARGET}", (TARGET, 1), xycoords=("data", "axes fraction"), xytext=(5, -9),
        textcoords="offset points", color=INKS[5], size=9,
    )  # fmt: skip
    _milliseconds(axes, "y")
    axes.set_xlabel("recall of the ten nearest", color=INK, size=9)
    axes.set_ylabel("milliseconds, median", color=INK, size=9)
    axes.grid(color=LINE, linewidth=0.6)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4
    )
    return picture


def _milliseconds(axes: Axes, which: str) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.axes.set_yscale("log") if which == "y" else axis.axes.set_xscale("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_filters(rows: int, found: Sequence[Filtered]) -> Picture:
    """For each share a dot for each way: where its time is, full where it finds enough, what it returns beside it."""
    title = f"The ten nearest within a tenant's share of {rows:,} rows"
    return draw_ways(title, [(one.share, one.way, one.found) for one in found])


def draw_ways(title: str, found: Sequence[tuple[float, str, Found]]) -> Picture:
    """The same for shares, names of ways and what each found, in this order."""
    description = f"{title}, by {len({way for _, way, _ in found})} ways"
    width = WIDTH + LETTER * max(0, max(len(way) for _, way, _ in found) - SHORT_NAME)
    picture, axes = sheet(width, 0.27 * len(found) + 2.0, title, description)
    place, places, names, before = 0.0, [], [], None
    least = min(one.p50 for *_, one in found) * 1000
    for share, way, one in found:
        if share != before:
            place += 1.3 if before is not None else 0
            axes.text(0, place, f"{share:.1%} of the rows", transform=axes.get_yaxis_transform(),
                      color=INK, size=10, weight="bold", va="center")  # fmt: skip
            before, place = share, place + 1
        good = one.recall >= TARGET
        milliseconds = one.p50 * 1000
        axes.plot([least / 2, milliseconds], [place, place], color=LINE, linewidth=1.4, zorder=2)
        axes.plot(milliseconds, place, "o", markersize=9, zorder=3, **_dot(good))
        words = f"{one.rows:.1f} rows, recall {one.recall:.3f}"
        axes.text(milliseconds * 1.25, place, words, va="center", size=8.5, color=INK, zorder=4)
        places.append(place)
        names.append(way)
        place += 1
    axes.set_yticks(places, names)
    _milliseconds(axes, "x")
    axes.set_xlim(least / 2, max(one.p50 for *_, one in found) * 1000 * 8)
    axes.set_ylim(place, -1)
    axes.set_xlabel(f"milliseconds, median; full: recall of {TARGET} or more", color=INK, size=9)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return picture


def _dot(good: bool) -> dict[str, Any]:
    edge = COLOURS[0] if good else COLOURS[5]
    return {"markeredgecolor": edge, "markerfacecolor": edge if good else PAPER, "markeredgewidth": 2}


def draw_pools(title: str, held: Mapping[str, float], released: Mapping[str, float]) -> Picture:
    """Two bars for each case, in seconds: the connection held, and released, while the model thinks."""
    picture, axes = sheet(WIDTH, 0.62 * len(held) + 1.6, title, f"{title}: {', '.join(held)}")
    for row, name in enumerate(held):
        for offset, seconds, colour in ((-0.19, held[name], COLOURS[5]), (0.19, released[name], COLOURS[0])):
            axes.barh(row + offset, seconds, height=0.34, color=colour, linewidth=0, zorder=3)
            axes.text(seconds, row + offset, f"  {seconds:.2f} s", va="center", size=9, color=INK, zorder=4)
    axes.barh(0, 0, color=COLOURS[5], label="held while the model thinks")
    axes.barh(0, 0, color=COLOURS[0], label="released")
    axes.set_yticks(range(len(held)), list(held))
    axes.set_ylim(len(held) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(*held.values(), *released.values()))
    axes.set_xlabel("seconds until the last request is answered", color=INK, size=9)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    return picture
