"""Recall and time against one setting, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, PAPER, Picture
from course_lib.instruments.vectors.recall.found import Recall
from course_lib.instruments.vectors.recall.measure import Search, recalls
from course_lib.instruments.vectors.recall.question import ask
from course_lib.instruments.vectors.recall.settings import search_settings

EF_SEARCH = (10, 20, 40, 80, 160, 320)
WIDTH, HEIGHT = 7.6, 4.6  # inches
TARGET = 0.95


class RecallCurve(Picture):
    """A picture of several measurements. ``points`` maps each value of the setting to its ``Recall``."""

    points: Mapping[int, Recall]

    def reaches(self, target: float) -> int | None:
        """The least of the values with a recall of ``target`` or more; None if none has."""
        return next((value for value in sorted(self.points) if self.points[value].recall >= target), None)


async def recall_curve(
    engine: AsyncEngine,
    column: Any,
    queries: ArrayLike,
    k: int = 10,
    *,
    ef_search: Sequence[int] = EF_SEARCH,
    probes: Sequence[int] | None = None,
    where: ColumnElement[bool] | None = None,
    distance: str = "cosine",
    search: Search | None = None,
    iterative_scan: str | None = None,
    settings: Mapping[str, object] | None = None,
    target: float = TARGET,
    title: str | None = None,
) -> RecallCurve:
    """``recall`` for several values of ``ef_search`` (of ``probes``, if given), drawn with the time each takes.

    The exact answers are sought once. ``target`` is drawn as a line; the other arguments are those of ``recall``.
    """
    question = ask(column, queries, k, where, distance)
    name, values = ("ef_search", ef_search) if probes is None else ("probes", probes)
    ordered = sorted(set(values))
    each = [
        search_settings(None if probes else value, value if probes else None, iterative_scan, settings)
        for value in ordered
    ]
    points = dict(zip(ordered, await recalls(engine, question, each, search), strict=True))
    return draw(points, name, target, title or f"Recall of the {k} nearest, and what it costs")


def draw(points: Mapping[int, Recall], name: str, target: float, title: str) -> RecallCurve:
    """Recall above, time below, over the values of the setting."""
    words = f"{title}: recall and time for {name} = {', '.join(map(str, points))}"
    picture = RecallCurve.sized(WIDTH, HEIGHT, words)
    picture.points = dict(points)
    picture.spoken = f"{title}, for each {name}: " + ", ".join(
        f"{value}: recall {found.recall:.2f} in {found.milliseconds:.1f} ms" for value, found in points.items()
    )
    above, below = picture.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    recalls = [found.recall for found in points.values()]
    _line(above, recalls, COLOURS[0], [f"{recall:.2f}" for recall in recalls])
    above.axhline(target, color=INKS[5], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    above.annotate(
        f"{target:g}", (1, target), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        color=INKS[5], size=9, va="center",
    )  # fmt: skip
    low = min(*recalls, target)
    above.set_ylim(low - 0.12 * (1.02 - low), 1.0 + 0.14 * (1.02 - low))
    above.set_ylabel("recall", color=INK, size=9)
    above.set_title(title, loc="left", color=INK, size=12, pad=10)
    times = [found.milliseconds for found in points.values()]
    _line(below, times, COLOURS[1], [f"{time:.1f}" for time in times])
    exact = next(iter(points.values())).exact_milliseconds
    below.set_ylim(0, 1.35 * max(times))
    below.set_ylabel("milliseconds", color=INK, size=9)
    below.set_xlabel(f"{name}   (an exact search takes {exact:.1f} ms)", color=INK, size=9)
    below.set_xticks(range(len(points)), [str(value) for value in points])
    return picture


def _line(axes: Axes, heights: Sequence[float], colour: str, labels: Sequence[str]) -> None:
    axes.set_facecolor(PAPER)
    axes.plot(range(len(heights)), heights, color=colour, linewidth=2, marker="o", markersize=6, zorder=3)
    for place, (height, label) in enumerate(zip(heights, labels, strict=True)):
        axes.annotate(
            label, (place, height), xytext=(0, 8), textcoords="offset points", color=INK, size=9, ha="center",
            path_effects=[withStroke(linewidth=3, foreground=PAPER)], zorder=4,
        )  # fmt: skip
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9, length=0)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
