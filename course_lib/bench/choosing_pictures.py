"""Pictures of what was measured for choosing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_lib.bench.drawing import WIDTH, draw_ways, sheet
from course_lib.bench.lanes import Inserted, Within
from course_lib.instruments.pictures import COLOURS, INK, LINE, Picture


def draw_within(title: str, found: Sequence[tuple[str, Within]]) -> Picture:
    """A dot for each engine and way, by share: where its time is, full where it finds enough."""
    return draw_ways(title, [(one.share, f"{engine}: {one.way}", one.found) for engine, one in found])


def draw_change(title: str, inserted: Mapping[str, Inserted]) -> Picture:
    """For each engine the median search alone and beside inserts, in milliseconds; rows a second in words."""
    picture, axes = sheet(WIDTH, 0.62 * len(inserted) + 1.8, title, f"{title}: {', '.join(inserted)}")
    for row, came in enumerate(inserted.values()):
        for offset, found, colour in ((-0.19, came.alone, COLOURS[0]), (0.19, came.beside, COLOURS[5])):
            axes.barh(row + offset, found.p50 * 1000, height=0.34, color=colour, linewidth=0, zorder=3)
            words = f"  {found.p50 * 1000:.2f} ms"
            if found is came.beside:
                words += f", p95 {found.p95 * 1000:.1f} ms, {came.rows / came.seconds:,.0f} rows/s"
            axes.text(found.p50 * 1000, row + offset, words, va="center", size=9, color=INK, zorder=4)
    axes.barh(0, 0, color=COLOURS[0], label="searches alone")
    axes.barh(0, 0, color=COLOURS[5], label="while rows are added")
    axes.set_yticks(range(len(inserted)), list(inserted))
    axes.set_ylim(len(inserted) - 0.4, -0.6)
    axes.set_xlim(0, 1.75 * max(max(one.alone.p50, one.beside.p50) for one in inserted.values()) * 1000)
    axes.set_xlabel("milliseconds, median of one search", color=INK, size=9)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    return picture
