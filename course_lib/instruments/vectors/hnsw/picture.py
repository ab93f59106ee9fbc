"""The graph as planes above each other, and a search as a way down through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, SOFT, Picture, card, written
from course_lib.instruments.vectors.plane import MARKERS, Plane, flatten

if TYPE_CHECKING:
    from course_lib.instruments.vectors.hnsw.graph import HnswGraph, HnswSearch, Walk

WIDTH, SHEAR = 8.6, 0.8  # inches: the card, and how far a plane's far edge is moved to the right
UPPER, LOWEST, BETWEEN = 1.15, 2.1, 0.16  # inches: a plane as it is seen, and between planes
HEAD, FOOT, SIDE, INSET = 0.15, 0.66, 0.2, 0.22
HALO = [withStroke(linewidth=3, foreground="white")]
WAY = INKS[5]
LETTERS = 0.15  # inches: as high as a name is
Box = tuple[float, float, float, float]  # left, top, right, bottom, in inches


def draw(graph: HnswGraph, search: HnswSearch | None = None) -> Picture:
    """A plane for each layer, the highest on top; of a search the links it followed and the way it came."""
    return _Drawing(graph, search).picture


class _Drawing:
    """Coordinates are inches from the upper left corner."""

    def __init__(self, graph: HnswGraph, search: HnswSearch | None) -> None:
        self.graph, self.search = graph, search
        points = {"": graph.vectors}
        flat, (asked,) = flatten(points, None if search is None else np.atleast_2d(search.question))
        self.flat, self.asked = _between_0_and_1(flat[""], asked)
        self.taken: list[Box] = []
        self.groups = list(dict.fromkeys(group for group, _ in graph.labels))
        self.tops = [HEAD]
        for layer in reversed(range(len(graph.layers))):
            self.tops.append(self.tops[-1] + self.depth(layer) + BETWEEN)
        height = self.tops[-1] - BETWEEN + FOOT
        self.picture, self.axes = card(WIDTH, height, str(search or graph))
        self.picture.set_layout_engine("none")
        self.axes.set_position((0, 0, 1, 1))
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(height, 0)
        for layer in reversed(range(len(graph.layers))):
            self._draw_layer(layer)
        if search is not None:
            for walk in search.walks:
                self._draw_walk(walk)
            self._draw_found(search)
        self._draw_legend(height)

    @staticmethod
    def depth(layer: int) -> float:
        return LOWEST if layer == 0 else UPPER

    def place(self, at: Plane, layer: int) -> tuple[float, float]:
        """Where a point of the plane, 0 to 1 both ways, is seen."""
        top, depth = self.tops[len(self.graph.layers) - 1 - layer], self.depth(layer)
        wide = WIDTH - 2 * SIDE - SHEAR - 2 * INSET
        return float(SIDE + INSET + at[0] * wide + at[1] * SHEAR), float(top + depth - 0.12 - at[1] * (depth - 0.24))

    def _draw_layer(self, layer: int) -> None:
        top, depth = self.tops[len(self.graph.layers) - 1 - layer], self.depth(layer)
        corners = [
            (SIDE, top + depth), (WIDTH - SIDE - SHEAR, top + depth), (WIDTH - SIDE, top), (SIDE + SHEAR, top),
        ]  # fmt: skip
        self.axes.add_patch(Polygon(corners, facecolor="white", edgecolor=LINE, linewidth=1.2, zorder=0))
        links = self.graph.layers[layer]
        points = f"{len(links)} point" + ("" if len(links) == 1 else "s")
        self.axes.text(SIDE, top + 0.08, f"layer {layer}", size=9, color=INK, weight="bold", va="center")
        self.axes.text(SIDE, top + 0.24, points, size=8.5, color=SOFT, va="center")
        for point, others in links.items():
            for other in others:
                if point < other or point not in links[other]:
                    self._line((point, other), layer, color=FAINT, linewidth=0.7, alpha=0.6, zorder=1)
        for number, group in enumerate(self.groups):
            places = [self.place(self.flat[point], layer) for point in links if self.graph.labels[point][0] == group]
            if places:
                xs, ys = np.array(places).T
                self.axes.scatter(
                    xs, ys, s=30, marker=MARKERS[number % len(MARKERS)],
                    color=COLOURS[number % len(COLOURS)], edgecolor="white", linewidth=0.6, zorder=3,
                )  # fmt: skip

    def _line(self, points: tuple[int, int], layer: int, **look: object) -> None:
        ends = [self.place(self.flat[point], layer) for point in points]
        self.axes.plot(*zip(*ends, strict=True), **look)  # type: ignore[arg-type]

    def _draw_walk(self, walk: Walk) -> None:
        """Each link that led to a comparison, thin; the way to the nearest, thick; and the fall to the next layer."""
        for point, source in walk.came_from.items():
            if source is not None:
                self._line((source, point), walk.layer, color=COLOURS[1], linewidth=1.6, zorder=1.5)
        for source, point in zip(walk.path, walk.path[1:], strict=False):
            self._arrow(self.place(self.flat[source], walk.layer), self.place(self.flat[point], walk.layer))
        if walk.layer:
            at = self.flat[walk.found[0]]
            self._arrow(self.place(at, walk.layer), self.place(at, walk.layer - 1), dashed=True)
        if self.asked is not None:
            x, y = self.place(self.asked, walk.layer)
            self.axes.plot(x, y, marker="*", markersize=12, color=WAY, markeredgecolor="white", zorder=8)

    def _arrow(self, start: tuple[float, float], end: tuple[float, float], *, dashed: bool = False) -> None:
        self.axes.annotate(
            "", end, xytext=start, zorder=4,
            arrowprops={
                "arrowstyle": "-|>", "color": WAY, "linewidth": 1.4 if dashed else 2.2, "shrinkA": 3, "shrinkB": 3,
                "linestyle": (0, (4, 3)) if dashed else "-",
            },
        )  # fmt: skip

    def _draw_found(self, search: HnswSearch) -> None:
        marked = [self.place(self.flat[point], 0) for point in search.found]
        if self.asked is not None:
            marked.append(self.place(self.asked, 0))
        self.taken = [(x - 0.09, y - 0.09, x + 0.09, y + 0.09) for x, y in marked]
        for x, y in marked[: len(search.found)]:
            self.axes.scatter(x, y, s=110, facecolor="none", edgecolor=WAY, linewidth=1.8, zorder=5)
        first = search.walks[0]
        self._name(first.path[0], first.layer)
        for point in search.found:
            self._name(point, 0)

    def _name(self, point: int, layer: int) -> None:
        """The name of a point, in that corner around it where least is in the way."""
        name, (x, y) = self.graph.name(point), self.place(self.flat[point], layer)
        wide = written(name, 9, "bold")
        corners = [
            (x + dx, y + dy, x + dx + wide, y + dy + LETTERS)
            for dy in (-0.06 - LETTERS, 0.06)
            for dx in (0.1, -0.1 - wide)
        ]
        corner = min(corners, key=self._in_the_way)
        self.taken.append(corner)
        self.axes.text(
            corner[0], corner[3], name, size=9, weight="bold", color=INK, va="bottom", path_effects=HALO, zorder=7
        )

    def _in_the_way(self, box: Box) -> float:
        """Square inches of other names and of what was found, and of what lies beyond the card."""
        left, top, right, bottom = box
        shared = [
            max(0.0, min(right, other[2]) - max(left, other[0])) * max(0.0, min(bottom, other[3]) - max(top, other[1]))
            for other in self.taken
        ]
        return sum(shared) + max(0.0, right - WIDTH) + max(0.0, -left)

    def _draw_legend(self, height: float) -> None:
        handles = [
            Line2D([], [], linestyle="", marker=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
                   label=group)
            for number, group in enumerate(self.groups) if group
        ]  # fmt: skip
        if self.search is not None:
            handles += [
                Line2D([], [], linestyle="", marker="*", markersize=10, color=WAY, label="the question"),
                Line2D([], [], color=WAY, linewidth=2.2, label="the way"),
                Line2D([], [], color=COLOURS[1], linewidth=1.6, label="links looked along"),
            ]
        if handles:
            self.axes.legend(
                handles=handles, loc="lower left", bbox_to_anchor=(SIDE / WIDTH - 0.012, 0.01), ncols=len(handles),
                frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.4, columnspacing=1.4, borderaxespad=0,
            )  # fmt: skip
        words = "a flat picture of many dimensions: what lies side by side here need not be near"
        self.axes.text(SIDE, height - 0.36, words, size=8, color=SOFT, va="center")


def _between_0_and_1(points: Plane, asked: Plane | None) -> tuple[Plane, Plane | None]:
    every = points if asked is None else np.vstack([points, asked])
    low, wide = every.min(axis=0), np.ptp(every, axis=0)
    wide = np.where(wide == 0, 1.0, wide)
    return (points - low) / wide, None if asked is None else (asked - low) / wide
