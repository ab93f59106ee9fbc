"""A plan as boxes, root at the top, each step above those it takes its rows from."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from course_lib.instruments.pictures import COLOURS, FAINT, INK, Picture, card, fitted
from course_lib.instruments.plan.rendering import relation_of, spoken_rows, title

if TYPE_CHECKING:
    from course_lib.instruments.plan.tree import Plan, PlanNode

COLUMN, BOX = 2.35, 2.15  # inches: a place in the tree, and the box that stands in it
TITLE, LINE, PADDING, BETWEEN = 0.2, 0.165, 0.22, 0.3  # inches: lines of a box, above and below them, between boxes
HEAD, NARROWEST = 0.42, 4.4  # inches
ROOM = BOX - 0.14  # inches for a line of text
LONGEST_COUNTS = 32  # characters in one line
DARKEST = 0.36  # a stronger fill would swallow the letters, on a dark page first


def draw(plan: Plan) -> Picture:
    """Boxes shaded by each step's own share of the time, or of the estimated cost unless analyzed."""
    places = _places(plan.node)
    columns = max(x for x, _ in places.values()) + 1
    measure = "time" if plan.analyzed else "estimated cost"
    used = f" using {', '.join(plan.indexes)}" if plan.indexes else ""
    words = f"a plan of {len(places)} boxes{used}, the stronger the blue, the larger its share of the {measure}"
    texts = {id(node): _lines(node) for node in plan}
    tops = _tops(plan, places, texts)
    width, height = max(NARROWEST, COLUMN * columns), tops[-1] - BETWEEN + 0.1
    picture, axes = card(width, height, words)
    picture.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(
        0.1, HEAD / 2, f"the stronger the blue, the larger its share of the {measure}", size=8.5, color=INK, va="center"
    )
    shares = _shares(plan)
    left = (width - COLUMN * columns) / 2
    where = {key: (left + (column + 0.5) * COLUMN, tops[row]) for key, (column, row) in places.items()}
    for node in plan:
        x, y = where[id(node)]
        for child in node.children:
            child_x, child_y = where[id(child)]
            axes.plot([x, child_x], [y + _height(texts[id(node)]), child_y], color=FAINT, linewidth=1, zorder=0)
        _draw_box(axes, texts[id(node)], (x, y), shares[id(node)])
    return picture


def _places(root: PlanNode) -> dict[int, tuple[float, int]]:
    """Column and row of each node: leaves side by side, a parent above the middle of its children."""
    places: dict[int, tuple[float, int]] = {}
    leaves = 0

    def place(node: PlanNode, depth: int) -> float:
        nonlocal leaves
        if node.children:
            below = [place(child, depth + 1) for child in node.children]
            x = (below[0] + below[-1]) / 2
        else:
            x, leaves = float(leaves), leaves + 1
        places[id(node)] = (x, depth)
        return x

    place(root, 0)
    return places


def _lines(node: PlanNode) -> list[str]:
    """What stands in a box: the first is its title."""
    removed = f"{node.removed_by_filter:,} removed by filter" if node.removed_by_filter else ""
    counts = " · ".join(filter(None, (spoken_rows(node), removed)))
    lines = [relation_of(node), node.index and f"using {node.index}", *textwrap.wrap(counts, LONGEST_COUNTS)]
    return [fitted(title(node), 9, ROOM, "bold"), *(fitted(line, 8, ROOM) for line in lines if line)]


def _height(lines: list[str]) -> float:
    return PADDING + TITLE + LINE * (len(lines) - 1)


def _tops(plan: Plan, places: dict[int, tuple[float, int]], texts: dict[int, list[str]]) -> list[float]:
    """Where each row of boxes begins, in inches from the top; and where one below the last would."""
    tops = [HEAD]
    for row in range(max(row for _, row in places.values()) + 1):
        tallest = max(_height(texts[id(node)]) for node in plan if places[id(node)][1] == row)
        tops.append(tops[-1] + tallest + BETWEEN)
    return tops


def _shares(plan: Plan) -> dict[int, float]:
    own = {
        id(node): node.own_cost if node.own_milliseconds is None else node.own_milliseconds for node in plan
    }  # fmt: skip
    total = sum(own.values()) or 1.0
    return {key: value / total for key, value in own.items()}


def _draw_box(axes: Axes, lines: list[str], top: tuple[float, float], share: float) -> None:
    """``top``: the middle of its upper edge."""
    x, y = top
    fill = (*to_rgb(COLOURS[0]), 0.06 + (DARKEST - 0.06) * share)
    axes.add_patch(
        FancyBboxPatch(
            (x - BOX / 2, y), BOX, _height(lines), boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=fill, edgecolor=FAINT,
        )
    )  # fmt: skip
    middle: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "parse_math": False}
    axes.text(x, y + PADDING / 2 + TITLE / 2, lines[0], size=9, weight="bold", **middle)
    for number, line in enumerate(lines[1:]):
        axes.text(x, y + PADDING / 2 + TITLE + LINE * (number + 0.5), line, size=8, **middle)
