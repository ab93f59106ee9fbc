"""The gauge as a picture: requests as lanes, and below them on the same clock how the pool stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from course_lib.instruments.pictures import COLOURS, FAINT, INK, LINE, PAPER, Picture
from course_lib.instruments.pool.lanes import Lane, Span
from course_lib.instruments.pool.rendering import headline, render_text

if TYPE_CHECKING:
    from course_lib.instruments.pool.gauge import PoolGauge
    from course_lib.instruments.pool.recorder import Sample

WIDTH, COUNTS, AROUND = 9.0, 1.15, 1.15  # inches: the card, the lower axes, title and legend
ROW, LANES = 0.2, 4.6  # inches: a lane, and all lanes at most
MOST = 100  # lanes; of more, some are left out
PITCH = 0.15  # inches that a name needs
LONGEST_NAME = 22  # characters
ENDINGS = {2: "nd", 3: "rd"}
THINNEST = 0.0025  # of the clock; a shorter bar could not be seen
WAITING, HELD, WORK, OVERFLOW, TROUBLE = "#B4BCC5", COLOURS[0], COLOURS[1], COLOURS[4], COLOURS[5]


def draw(gauge: PoolGauge, title: str | None, seconds: float | None) -> Picture:
    """The picture; its description is the gauge's text, which has no times."""
    lanes, step = thinned(gauge.lanes)
    clock = Clock(gauge, seconds)
    row = min(ROW, LANES / max(len(lanes), 1))
    height = max(0.5, row * len(lanes)) + COUNTS + AROUND
    picture = Picture.sized(WIDTH, height, render_text(gauge))
    upper, lower = picture.subplots(
        2, 1, sharex=True, height_ratios=[max(0.5, row * len(lanes)), COUNTS], gridspec_kw={"hspace": 0.02}
    )
    for axes in (upper, lower):
        make_plain(axes)
    draw_lanes(upper, lanes, clock, row)
    draw_counts(lower, gauge, clock)
    note = f" · every {ordinal(step)} is shown" if step > 1 else ""
    upper.set_title((title or headline(gauge)) + note, loc="left", color=INK, size=12, pad=8)
    lower.set_xlim(0, clock.end)
    lower.set_xlabel(clock.unit, color=INK, size=9)
    draw_legend(picture, gauge, lanes)
    return picture


class Clock:
    """Seconds in the unit that is drawn, from the opening of the gauge to the last thing that happened."""

    def __init__(self, gauge: PoolGauge, seconds: float | None) -> None:
        self.now = gauge.seconds
        spans = [wait.span(self.now) for lane in gauge.lanes for wait in lane.waits]
        spans += [hold.span(self.now) for lane in gauge.lanes for hold in lane.holds]
        last = seconds or 1.02 * max((ended for _, ended in spans), default=self.now)
        self.factor, self.unit = (1000.0, "milliseconds") if last < 2 else (1.0, "seconds")
        self.end = max(last, 1e-6) * self.factor

    def bars(self, spans: Sequence[Span], thinnest: float = 0.0) -> list[Span]:
        """Left end and width of each, wide enough to be seen."""
        least = thinnest * self.end
        return [(began * self.factor, max((ended - began) * self.factor, least)) for began, ended in spans]


def thinned(lanes: list[Lane]) -> tuple[list[Lane], int]:
    """At most so many lanes as can be told apart, every so many-th taken."""
    step = max(1, -(-len(lanes) // MOST))
    return lanes[::step], step


def ordinal(number: int) -> str:
    return f"{number}{ENDINGS.get(number, 'th')}"


def make_plain(axes: Axes) -> None:
    axes.set_facecolor(PAPER)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)


def draw_lanes(axes: Axes, lanes: Sequence[Lane], clock: Clock, row: float) -> None:
    for place, lane in enumerate(lanes):
        draw_lane(axes, place, lane, clock)
    step = max(1, round(PITCH / row + 0.49))
    places = [place for place in range(len(lanes)) if place % step == 0]
    axes.set_yticks(places, [short(lanes[place].name) for place in places])
    axes.set_ylim(len(lanes) - 0.4, -0.6)


def draw_lane(axes: Axes, place: int, lane: Lane, clock: Clock) -> None:
    now = clock.now
    waits = clock.bars([wait.span(now) for wait in lane.waits])
    axes.broken_barh(waits, (place - 0.36, 0.72), color=WAITING, linewidth=0)
    holds = clock.bars([hold.span(now) for hold in lane.holds], THINNEST)
    axes.broken_barh(holds, (place - 0.36, 0.72), color=HELD, linewidth=0)
    work = clock.bars([span for hold in lane.holds for span in hold.spans_of_work(now)], THINNEST)
    axes.broken_barh(work, (place - 0.36, 0.72), color=WORK, linewidth=0)
    gone = [wait.span(now)[1] for wait in lane.waits if wait.outcome in ("timed out", "gave up")]
    gone += [hold.span(now)[1] for hold in lane.holds if hold.lost]
    axes.scatter(
        [at * clock.factor for at in gone], [place] * len(gone), marker="x", s=24, linewidth=1.6, color=TROUBLE,
        zorder=4,
    )  # fmt: skip


def short(name: str) -> str:
    name = name.replace("$", r"\$")  # an unescaped dollar would begin a formula
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def draw_counts(axes: Axes, gauge: PoolGauge, clock: Clock) -> None:
    """Steps: who is out as an area, split at the pool's size, and who waits as a line."""
    samples = [*gauge.samples, gauge.samples[-1]._replace(at=gauge.seconds)]
    at = [sample.at * clock.factor for sample in samples]
    top = 1.25 * max(gauge.most_out, gauge.most_waiting, gauge.pool_size, 1)
    axes.fill_between(at, [inside(gauge, sample) for sample in samples], step="post", color=HELD, linewidth=0)
    if gauge.has_limit:
        low, high = [inside(gauge, sample) for sample in samples], [sample.out for sample in samples]
        axes.fill_between(at, low, high, step="post", color=OVERFLOW, linewidth=0)
        axes.plot(at, [sample.waiting for sample in samples], drawstyle="steps-post", color=INK, linewidth=1.4)
        draw_limit(axes, gauge.pool_size, "pool_size")
        if gauge.most_overflow and gauge.pool_size + gauge.max_overflow <= top:  # a label off the axes takes its room
            draw_limit(axes, gauge.pool_size + gauge.max_overflow, "with overflow")
    axes.set_ylim(0, top)
    axes.set_yticks(sorted({0, gauge.most_out, gauge.most_waiting} - {0}) or [0])


def inside(gauge: PoolGauge, sample: Sample) -> int:
    """Those out that do not go beyond the pool's size."""
    return min(sample.out, gauge.pool_size) if gauge.has_limit else sample.out


def draw_limit(axes: Axes, height: int, name: str) -> None:
    axes.axhline(height, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{name} {height}", (1, height), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        va="center", size=8, color=INK,
    )  # fmt: skip


def draw_legend(picture: Picture, gauge: PoolGauge, lanes: Sequence[Lane]) -> None:
    seen: list[Patch | Line2D] = []
    if gauge.most_waiting:
        seen += [
            Patch(color=WAITING, label="waits for a connection"),
            Line2D([], [], color=INK, linewidth=1.4, label="how many wait"),
        ]
    seen += [Patch(color=HELD, label="holds one"), Patch(color=WORK, label="something runs on it")]
    if gauge.most_overflow:
        seen.append(Patch(color=OVERFLOW, label="overflow"))
    marks = [wait.outcome for lane in lanes for wait in lane.waits]
    words = ["timed out"] * ("timed out" in marks) + ["gave up"] * ("gave up" in marks) + ["lost"] * bool(gauge.lost)
    if words:
        seen.append(
            Line2D([], [], color=TROUBLE, marker="x", linestyle="", markeredgewidth=1.6, label=" or ".join(words))
        )
    picture.legend(
        handles=seen, loc="outside lower left", fontsize=8.5, frameon=False, labelcolor=INK, handlelength=1, ncols=6,
        columnspacing=1.6,
    )  # fmt: skip
