"""A plan as boxes, root at the top, each step above those it takes its rows from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from course_lib.instruments.pictures import COLOURS, FAINT, INK, Picture, card
from course_lib.instruments.plan.rendering import spoken_rows, title

if TYPE_CHECKING:
    from course_lib.instruments.plan.tree import Plan, PlanNode

COLUMN, ROW = 2.3, 1.05  # inches of a place in the tree
BOX_WIDTH, BOX_HEIGHT = 0.9, 0.72  # share of that place
LONGEST_LABEL = 36  # characters


def draw(plan: Plan) -> Picture:
    """Boxes shaded by each step's own share of the time, or of the estimated cost unless analyzed."""
    places = _places(plan.node)
    columns, rows = max(x for x, _ in places.values()) + 1, max(y for _, y in places.values()) + 1
    measure = "time" if plan.analyzed else "estimated cost"
    used = f" using {', '.join(plan.indexes)}" if plan.indexes else ""
    words = f"a plan of {len(places)} boxes{used}, the darker, the larger its share of the {measure}"
    picture, axes = card(max(4.0, COLUMN * columns), ROW * rows + 0.35, words)
    shares = _shares(plan)
    for node in plan:
        for child in node.children:
            (x, y), (child_x, child_y) = places[id(node)], places[id(child)]
            axes.plot([x, child_x], [y + BOX_HEIGHT / 2, child_y - BOX_HEIGHT / 2], color=FAINT, linewidth=1, zorder=0)
        _draw_box(axes, node, places[id(node)], shares[id(node)])
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_title(f"the darker, the larger its share of the {measure}", loc="left", size=8, color=INK)
    return picture


def _places(root: PlanNode) -> dict[int, tuple[float, float]]:
    """Column and row of each node: leaves side by side, a parent above the middle of its children."""
    places: dict[int, tuple[float, float]] = {}
    leaves = 0

    def place(node: PlanNode, depth: int) -> float:
        nonlocal leaves
        if node.children:
            below = [place(child, depth + 1) for child in node.children]
            x = (below[0] + below[-1]) / 2
        else:
            x, leaves = float(leaves), leaves + 1
        places[id(node)] = (x, float(depth))
        return x

    place(root, 0)
    return places


def _shares(plan: Plan) -> dict[int, float]:
    own = {
        id(node): node.own_milliseconds
        if node.own_milliseconds is not None
        else max(0.0, node.cost[1] - sum(child.cost[1] for child in node.children))
        for node in plan
    }
    total = sum(own.values()) or 1.0
    return {key: value / total for key, value in own.items()}


def _draw_box(axes: Axes, node: PlanNode, place: tuple[float, float], share: float) -> None:
    x, y = place
    corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
    fill = (*to_rgb(COLOURS[0]), 0.06 + 0.8 * share)
    axes.add_patch(
        FancyBboxPatch(
            corner, BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.06", facecolor=fill, edgecolor=FAINT
        )
    )
    ink = "white" if share > 0.55 else INK
    removed = f"{node.removed_by_filter:,} removed by filter" if node.removed_by_filter else ""
    counts = " · ".join(filter(None, (spoken_rows(node), removed)))
    lines = [line for line in (node.relation, node.index and f"using {node.index}", counts) if line]
    middle: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    top = y - 0.085 * len(lines)
    axes.text(x, top, title(node), size=9, weight="bold", **middle)
    for position, line in enumerate(lines):
        short = line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"
        axes.text(x, top + 0.17 * (position + 1), short, size=7.5, **middle)
