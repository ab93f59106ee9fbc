"""Three plain charts: amounts as bars, work over time as spans, a walk through pages as tiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from course_lib.instruments.pictures import COLOURS, INK, INKS, SOFT, Picture, card, written

Span = tuple[str, float, float]  # what was done, when it began, when it ended, in seconds

WIDTH, TILE, LETTER = 8.6, 0.34, 0.085  # inches


def bars(amounts: Mapping[str, float], title: str, *, unit: str = "", note: str = "") -> Picture:
    """One bar per amount, its number beside it.

    Args:
        amounts: name to amount, drawn from top to bottom.
        unit: what is counted, after each number.
        note: a line under the bars.
    """
    numbers = {name: f"{amount:,.0f} {unit}".strip() for name, amount in amounts.items()}
    words = f"{title}: " + "; ".join(f"{name} {number}" for name, number in numbers.items())
    picture, axes = card(WIDTH, 0.42 * len(amounts) + (1.0 if note else 0.8), words)
    most = max(amounts.values()) or 1
    for row, (name, amount) in enumerate(amounts.items()):
        axes.barh(row, amount, height=0.62, color=COLOURS[0])
        axes.text(-0.015 * most, row, name, ha="right", va="center", size=10, color=INK)
        axes.text(amount + 0.012 * most, row, numbers[name], ha="left", va="center", size=9.5, color=INK)
    if note:
        axes.text(0, len(amounts) - 0.3, note, ha="left", va="top", size=9, color=SOFT)
    axes.set_xlim(-_room_for(amounts, 1.22) * most, 1.22 * most)
    axes.set_ylim(len(amounts) - (0.0 if note else 0.4), -0.6)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    return picture


def spans(groups: Mapping[str, Sequence[Sequence[Span]]], title: str) -> Picture:
    """Who did what when: a block of lanes per group, a bar per span, all groups on one clock that starts at zero.

    Args:
        groups: name to lanes; a lane is a sequence of (what, began, ended).
    """
    kinds = list(dict.fromkeys(kind for lanes in groups.values() for lane in lanes for kind, _, _ in lane))
    colours = dict(zip(kinds, (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]), strict=False))
    lengths = {name: _length(lanes) for name, lanes in groups.items()}
    words = f"{title}: " + "; ".join(f"{name} {seconds:.1f} s" for name, seconds in lengths.items())
    total = sum(len(lanes) + 1.2 for lanes in groups.values())
    picture, axes = card(WIDTH, 0.115 * total + 1.1, words)
    longest = max(lengths.values())
    top = 0.0
    for name, lanes in groups.items():
        zero = min(began for lane in lanes for _, began, _ in lane)
        for row, lane in enumerate(lanes):
            for kind, began, ended in lane:
                axes.barh(top + row, ended - began, left=began - zero, height=0.74, color=colours[kind], linewidth=0)
        middle = top + (len(lanes) - 1) / 2
        axes.text(-0.015 * longest, middle, name, ha="right", va="center", size=10, color=INK)
        right = lengths[name] + 0.012 * longest
        axes.text(right, middle, f"{lengths[name]:.1f} s", ha="left", va="center", size=9.5, color=INK)
        top += len(lanes) + 1.2
    _name_the_colours(axes, colours, longest, top)
    axes.set_xlim(-_room_for(groups, 1.1) * longest, 1.1 * longest)
    axes.set_ylim(top + 1.2, -0.8)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    return picture


def _room_for(names: Iterable[str], right: float) -> float:
    """How far an axis that ends at ``right`` must reach to the left of zero for the names to fit there."""
    inches = LETTER * max(map(len, names)) + 0.2
    return right * inches / (WIDTH - inches)


def _length(lanes: Sequence[Sequence[Span]]) -> float:
    return max(end for lane in lanes for _, _, end in lane) - min(begin for lane in lanes for _, begin, _ in lane)


def _name_the_colours(axes: Axes, colours: Mapping[str, str], longest: float, height: float) -> None:
    for index, (kind, colour) in enumerate(colours.items()):
        left = 0.27 * longest * index
        axes.barh(height, 0.02 * longest, left=left, height=0.9, color=colour, linewidth=0)
        axes.text(left + 0.03 * longest, height, kind, va="center", size=9, color=INK)


def page_walk(pages: Sequence[Sequence[int]], everything: Iterable[int], title: str) -> Picture:
    """The pages somebody turned, one line each, a tile per row they met; what came twice and what never is marked."""
    times = Counter(number for page in pages for number in page)
    twice = sorted(number for number, count in times.items() if count > 1)
    never = sorted(set(everything) - set(times))
    words = f"{title}: {len(pages)} pages; {_listed(twice, 'seen twice')}; {_listed(never, 'never seen')}"
    widest = max(map(len, pages))
    rows = len(pages) + (1 if never else 0)
    width = max(TILE * (widest + 5), written(title, 12) + 0.4)
    picture, axes = card(width, TILE * 1.12 * rows + 0.7, words)
    for row, page in enumerate(pages):
        axes.text(-0.65, row, f"page {row + 1}", ha="right", va="center", size=10, color=INK)
        for place, number in enumerate(page):
            _draw_tile(axes, place, row, number, COLOURS[5] if number in twice else COLOURS[0])
    if never:
        axes.text(-0.65, len(pages), "never", ha="right", va="center", size=10, color=INKS[5])
        for place, number in enumerate(never[:widest]):
            _draw_tile(axes, place, len(pages), number, None)
    axes.set_xlim(-2.9, width / TILE - 4.4)
    axes.set_ylim(rows - 0.35, -0.65)
    axes.set_title(title, loc="left", color=INK, size=12, pad=8)
    return picture


def _listed(numbers: Sequence[int], what: str) -> str:
    return f"{', '.join(map(str, numbers)) or 'none'} {what}"


def _draw_tile(axes: Axes, place: int, row: int, number: int, colour: str | None) -> None:
    """A filled tile, or an empty one with a broken edge when ``colour`` is None."""
    tile = FancyBboxPatch(
        (place - 0.4, row - 0.36), 0.8, 0.72, boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=colour or "none", edgecolor=colour or INKS[5], linewidth=1.2,
        linestyle="-" if colour else (0, (2, 2)),
    )  # fmt: skip
    axes.add_patch(tile)
    axes.text(place, row, str(number), ha="center", va="center", size=9, color="white" if colour else INKS[5])
