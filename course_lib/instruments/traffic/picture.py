"""Traffic as a picture: the workers as lanes, and beneath them what others did and which locks they held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, MARGIN, PAPER, SOFT, Picture
from course_lib.instruments.traffic.lanes import Session, named_statements, sessions_of
from course_lib.instruments.traffic.record import Lane, SeenStatement, Span
from course_lib.instruments.traffic.rendering import (
    headline,
    lane_names,
    milliseconds,
    render_speech,
    render_text,
    session_names,
    spoken_statement,
)

if TYPE_CHECKING:
    from course_lib.instruments.traffic.traffic import Traffic

WIDTH, AROUND = 9.6, 1.25  # inches: the card; title, axis and legend
WORKER, STATEMENTS, LOCK, KEY = 0.27, 0.36, 0.21, 0.165  # inches: heights of the rows
BEFORE, SHORTEST_BEFORE = 0.2, 0.05  # what is drawn of the time before the block: of the rest, and seconds
THINNEST, THINNEST_REQUEST = 0.0018, 0.0006  # of the clock; a shorter bar could not be seen, or not among many
CLOSEST = 0.02  # of the clock: numbers that stand nearer would overlap
LONGEST_LINE = 128  # characters of a statement that is written out
MONO = "DejaVu Sans Mono"
OUTSIDE = "#E2E6EA"  # before and after the block
ANSWERED, AT_LOCK, HELD, OPEN, TROUBLE = COLOURS[0], COLOURS[1], COLOURS[3], "#B4BCC5", COLOURS[5]


def draw(traffic: Traffic, title: str | None, seconds: float | None) -> Picture:
    """The picture; its description is the traffic's text."""
    record = traffic.record
    last = max((request.ended for lane in record.lanes for request in lane.requests), default=record.ended)
    end = seconds or max(last, record.ended)
    clock = Clock(max(record.began, -max(BEFORE * end, SHORTEST_BEFORE)), end)
    sessions, others = sessions_of(record, clock.length)
    named = named_statements(sessions, traffic.table)
    upper = WORKER * len(record.lanes)
    lower = sum(STATEMENTS + LOCK * len(session.rows()) for session in sessions)
    key = KEY * len(named)
    heights = [upper, *([lower] if sessions else []), *([key] if named else [])]
    picture = Picture.sized(WIDTH, sum(heights) + AROUND, render_text(traffic))
    picture.set_layout_engine("constrained", w_pad=MARGIN, h_pad=0.06, hspace=0)
    picture.spoken = render_speech(traffic, title or headline(traffic), sessions, named)
    axes = list(picture.subplots(len(heights), 1, height_ratios=heights, squeeze=False).flat)
    timed = axes[: 2 if sessions else 1]
    for one in timed:
        make_plain(one, clock, record.ended)
    draw_workers(axes[0], traffic, clock)
    if sessions:
        draw_sessions(axes[1], sessions, named, clock)
        axes[0].tick_params(labelbottom=False)
    if named:
        draw_key(axes[2], named)
    note = f" · {others} more sessions" if others else ""
    axes[0].set_title((title or headline(traffic)) + note, loc="left", color=INK, size=12, pad=8)
    timed[-1].set_xlabel(clock.unit, color=INK, size=9)
    draw_legend(picture, record.lanes, sessions)
    return picture


class Clock:
    """Seconds in the unit that is drawn."""

    def __init__(self, began: float, ended: float) -> None:
        self.length = ended - began
        self.factor, self.unit = (1000.0, "milliseconds") if ended < 2 else (1.0, "seconds")
        self.began, self.ended = began * self.factor, (ended + 0.01 * self.length) * self.factor

    def bars(self, spans: Sequence[Span], thinnest: float = THINNEST) -> list[Span]:
        """Left end and width of each, wide enough to be seen."""
        least = thinnest * self.length
        return [(began * self.factor, max(ended - began, least) * self.factor) for began, ended in spans]


def make_plain(axes: Axes, clock: Clock, ended: float) -> None:
    axes.set_facecolor(PAPER)
    axes.axvspan(clock.began, 0, color=OUTSIDE, linewidth=0)
    axes.axvspan(ended * clock.factor, clock.ended, color=OUTSIDE, linewidth=0)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(clock.began, clock.ended)


def draw_workers(axes: Axes, traffic: Traffic, clock: Clock) -> None:
    lanes = traffic.record.lanes
    for place, lane in enumerate(lanes):
        draw_worker(axes, place, lane, clock)
    axes.set_yticks(range(len(lanes)), [name.replace("$", r"\$") for name in lane_names(lanes)])
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.annotate(
        "longest wait",
        (1, 1),
        xycoords="axes fraction",
        xytext=(8, 6),
        textcoords="offset points",
        size=8.5,
        color=SOFT,
    )


def draw_worker(axes: Axes, place: int, lane: Lane, clock: Clock) -> None:
    for at_lock, colour in ((False, ANSWERED), (True, AT_LOCK)):
        spans = [(one.began, one.ended) for one in lane.requests if one.at_lock is at_lock]
        axes.broken_barh(clock.bars(spans, THINNEST_REQUEST), (place - 0.36, 0.72), color=colour, linewidth=0)
    failed = [one.ended * clock.factor for one in lane.requests if one.failure is not None]
    axes.scatter(failed, [place] * len(failed), marker="x", s=20, linewidth=1.4, color=TROUBLE, zorder=4)
    longest = max((one.seconds for one in lane.during), default=0.0)
    before = max((one.seconds for one in lane.before), default=0.0)
    words = f"{milliseconds(longest)}, before {milliseconds(before)}" + f", {len(failed)} failed" * bool(failed)
    axes.annotate(
        words, (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points", va="center",
        size=8.5, color=INK,
    )  # fmt: skip


def draw_sessions(
    axes: Axes, sessions: Sequence[Session], named: Sequence[Sequence[SeenStatement]], clock: Clock
) -> None:
    """From the top: a row of statements for each session, and one for each mode of its locks. Heights are inches."""
    numbers = {id(one): number for number, group in enumerate(named, start=1) for one in group}
    top, places, labels = 0.0, [], []
    for name, session in zip(session_names(sessions), sessions, strict=True):
        bar = (top + 0.17, 0.15)
        axes.broken_barh(clock.bars(session.transactions), (top + 0.22, 0.05), color=OPEN, linewidth=0)
        axes.broken_barh(clock.bars([(s.began, s.ended) for s in session.statements]), bar, color=ANSWERED, linewidth=0)
        waits = [wait for statement in session.statements for wait in statement.waits]
        axes.broken_barh(clock.bars(waits), bar, color=AT_LOCK, linewidth=0)
        draw_numbers(axes, session, numbers, top, clock)
        places.append(top + 0.245)
        labels.append(name)
        top += STATEMENTS
        for mode, held, waited in session.rows():
            axes.broken_barh(clock.bars(waited), (top + 0.03, 0.15), color=AT_LOCK, linewidth=0)
            axes.broken_barh(clock.bars(held), (top + 0.03, 0.15), color=HELD, linewidth=0)
            places.append(top + LOCK / 2)
            labels.append(mode)
            top += LOCK
    axes.set_yticks(places, [label.replace("$", r"\$") for label in labels])
    axes.set_ylim(top, 0)


def draw_numbers(axes: Axes, session: Session, numbers: dict[int, int], top: float, clock: Clock) -> None:
    """Above the bars of the statements that are written out below, where there is room."""
    free = clock.began
    for statement in sorted(session.statements, key=lambda one: one.began):
        at = max(statement.began * clock.factor, free)
        if id(statement) in numbers and at <= (statement.ended + THINNEST * clock.length) * clock.factor:
            axes.text(at, top + 0.155, str(numbers[id(statement)]), size=8, color=INKS[0], weight="bold", va="bottom")
            free = at + CLOSEST * clock.length * clock.factor


def draw_key(axes: Axes, named: Sequence[Sequence[SeenStatement]]) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(named), 0)
    for number, group in enumerate(named, start=1):
        line = spoken_statement(group, LONGEST_LINE)
        axes.annotate(
            f"{number}", (0, number - 0.5), xycoords=("figure fraction", "data"), xytext=(10, 0),
            textcoords="offset points", va="center", size=8, color=INKS[0], weight="bold",
        )  # fmt: skip
        axes.annotate(
            line.replace("$", r"\$"), (0, number - 0.5), xycoords=("figure fraction", "data"), xytext=(22, 0),
            textcoords="offset points", va="center", size=8, color=INK, family=MONO,
        )  # fmt: skip


def draw_legend(picture: Picture, lanes: Sequence[Lane], sessions: Sequence[Session]) -> None:
    requests = [request for lane in lanes for request in lane.requests]
    seen: list[Patch | Line2D] = [Patch(color=ANSWERED, label="a request or statement")]
    if any(request.at_lock for request in requests):
        seen.append(Patch(color=AT_LOCK, label="waits for a lock"))
    if any(session.rows() for session in sessions):
        seen.append(Patch(color=HELD, label="holds the lock"))
    if any(session.transactions for session in sessions):
        seen.append(Patch(color=OPEN, label="in a transaction"))
    if any(request.failure for request in requests):
        seen.append(Line2D([], [], color=TROUBLE, marker="x", linestyle="", markeredgewidth=1.4, label="fails"))
    seen.append(Patch(color=OUTSIDE, label="before and after the block"))
    picture.legend(
        handles=seen, loc="outside lower left", fontsize=8.5, frameon=False, labelcolor=INK, handlelength=1, ncols=6,
        columnspacing=1.5,
    )  # fmt: skip
