"""Build a small HNSW graph and search it, by the steps of those who devised it.

Y. A. Malkov and D. A. Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
Navigable Small World graphs", arXiv:1603.09320: algorithms 1 (insert), 2 (search a layer), 4 (select neighbours, those
pruned fill what is left, as in pgvector) and 5 (search). Distance is the cosine distance, in all dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from course_lib.errors import CourseError

Vectors = NDArray[np.float64]
Layer = dict[int, list[int]]  # a point's links
MOST = 200  # points; more could not be seen


@dataclass
class Walk:
    """The search of one layer.

    Attributes:
        layer: 0 is the lowest, with every point.
        entry: the nearest of the points it began with.
        came_from: each compared point, and the one whose link led there; None for those it began with.
        found: the nearest it kept, nearest first.
    """

    layer: int
    entry: int
    came_from: dict[int, int | None] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)

    @property
    def path(self) -> list[int]:
        """The links that led from where it began to the nearest it found."""
        steps, at = [], self.found[0] if self.found else None
        while at is not None:
            steps.append(at)
            at = self.came_from[at]
        return steps[::-1]


def hnsw_graph(
    vectors: Mapping[str, ArrayLike] | ArrayLike, *, m: int = 3, ef_construction: int = 16, seed: int = 7
) -> HnswGraph:
    """An HNSW graph over some dozens of vectors, the same for the same ``seed``.

    Args:
        vectors: n x d numbers, or groups of them by name, as for ``vector_plane``.
        m: links of a new point in each layer; a point keeps so many, and twice as many in the lowest layer.
        ef_construction: how many candidates the build keeps while it looks for neighbours.
        seed: of the draw that decides how high a point reaches.

    Raises:
        CourseError: the vectors are none, too many or of different lengths, or a parameter does not fit.
    """
    groups = vectors if isinstance(vectors, Mapping) else {"": vectors}
    arrays = [np.atleast_2d(np.asarray(group, dtype=float)) for group in groups.values()]
    count = sum(len(array) for array in arrays if array.size)
    if not 0 < count <= MOST or len({array.shape[1] for array in arrays}) != 1:
        raise CourseError(
            f"A graph to look at has 1 to {MOST} vectors of one length, and these are {count}.",
            "Take some of each group: {name: vectors[:8] for name, vectors in groups.items()}",
        )
    if m < 2 or ef_construction < m:
        raise CourseError("m is 2 or more, and ef_construction is not below m.", "Try: hnsw_graph(vectors, m=3)")
    labels = [(name, row) for name, array in zip(groups, arrays, strict=True) for row in range(len(array))]
    graph = HnswGraph(np.vstack(arrays), labels, m, ef_construction)
    draw = Random(seed)
    for point in range(count):
        graph.insert(point, level=int(-math.log(1.0 - draw.random()) / math.log(m)))
    return graph


class HnswGraph:
    """Layers of linked points. Shows itself as a picture.

    Attributes:
        vectors: n x d numbers.
        labels: (group, row within it) of each.
        layers: from the lowest up, each point's links.
        entry: the point at which every search begins.
    """

    def __init__(self, vectors: Vectors, labels: Sequence[tuple[str, int]], m: int, ef_construction: int) -> None:
        self.vectors = vectors
        self.labels = list(labels)
        self.m = m
        self.ef_construction = ef_construction
        self.layers: list[Layer] = []
        self.entry = 0
        self._unit = _unit(vectors)

    def name(self, point: int) -> str:
        """``Bruno 3``; for vectors without groups the row."""
        group, row = self.labels[point]
        return f"{group} {row}".strip()

    def distances(self, vector: ArrayLike) -> Vectors:
        """The cosine distance of every point from ``vector``."""
        found: Vectors = 1.0 - self._unit @ _unit(np.asarray(vector, dtype=float))
        return found

    def insert(self, point: int, level: int) -> None:
        """Link a point into the layers up to ``level``, counted from 0."""
        far = self.distances(self.vectors[point])
        near = [self.entry]
        for layer in reversed(range(len(self.layers))):
            if layer > level:
                near = self.search_layer(far, near, 1, layer).found
            else:
                near = self.search_layer(far, near, self.ef_construction, layer).found
                self._link(point, self._neighbours(near, far, self.m), layer)
        while len(self.layers) <= level:
            self.layers.append({point: []})
            self.entry = point

    def search_layer(self, far: Vectors, begin: Sequence[int], ef: int, layer: int) -> Walk:
        """The ``ef`` nearest that are found from ``begin``, by following the links of the nearest not yet followed.

        Args:
            far: the distance of each point from what is sought.
        """
        walk = Walk(layer, min(begin, key=lambda point: far[point]), came_from=dict.fromkeys(begin))
        candidates = sorted((far[point], point) for point in begin)
        nearest = list(candidates)
        while candidates:
            distance, point = heappop(candidates)
            if len(nearest) >= ef and distance > nearest[-1][0]:
                break
            for other in self.layers[layer][point]:
                if other not in walk.came_from:
                    walk.came_from[other] = point
                    if len(nearest) < ef or far[other] < nearest[-1][0]:
                        heappush(candidates, (far[other], other))
                        nearest = sorted([*nearest, (far[other], other)])[:ef]
        walk.found = [point for _, point in nearest]
        return walk

    def search(self, vector: ArrayLike, k: int = 1, ef_search: int = 4) -> HnswSearch:
        """The ``k`` nearest to ``vector`` that a walk finds which keeps ``ef_search`` candidates; with the walk.

        Raises:
            CourseError: the vector has another length, or ``k`` is more than ``ef_search``.
        """
        asked = np.asarray(vector, dtype=float)
        if asked.shape != self.vectors.shape[1:]:
            raise CourseError(
                f"The graph is of {self.vectors.shape[1]} dimensions, and the question is of {asked.shape}.",
                "Embed the question with the model that the vectors come from.",
            )
        if not 1 <= k <= ef_search:
            raise CourseError(f"A walk that keeps {ef_search} cannot find {k}.", "Choose ef_search as large as k.")
        far, walks, near = self.distances(asked), [], [self.entry]
        for layer in reversed(range(len(self.layers))):
            walks.append(self.search_layer(far, near, ef_search if layer == 0 else 1, layer))
            near = walks[-1].found
        return HnswSearch(self, asked, k, walks, np.argsort(far, kind="stable")[:k].tolist())

    def _neighbours(self, candidates: Sequence[int], far: Vectors, most: int) -> list[int]:
        """At most so many of ``candidates``, nearest first: none that is nearer to one taken than to the point itself.

        So a point's links lead into different directions. What is left over fills up.
        """
        taken: list[int] = []
        for one in sorted(candidates, key=lambda point: far[point]):
            if all(far[one] < 1.0 - self._unit[one] @ self._unit[other] for other in taken):
                taken.append(one)
        pruned = [one for one in sorted(candidates, key=lambda point: far[point]) if one not in taken]
        return [*taken, *pruned][:most]

    def _link(self, point: int, others: Sequence[int], layer: int) -> None:
        links, most = self.layers[layer], self.m * (2 if layer == 0 else 1)
        links[point] = list(others)
        for other in others:
            links[other].append(point)
            if len(links[other]) > most:
                links[other] = self._neighbours(links[other], self.distances(self.vectors[other]), most)

    def __str__(self) -> str:
        sizes = ", ".join(str(len(layer)) for layer in reversed(self.layers))
        return (
            f"{len(self.vectors)} points in {len(self.layers)} layers, from the top {sizes}; "
            f"up to {self.m} links each, {2 * self.m} in the lowest"
        )

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        from course_lib.instruments.vectors.hnsw.picture import draw

        return draw(self)._repr_mimebundle_(include, exclude)


@dataclass(frozen=True)
class HnswSearch:
    """A search from the top layer down. Shows itself as a picture, and in words layer by layer.

    Attributes:
        walks: one for each layer, from the top.
        nearest: the ``k`` that are truly nearest.
    """

    graph: HnswGraph
    question: Vectors
    k: int
    walks: list[Walk]
    nearest: list[int]

    @property
    def found(self) -> list[int]:
        """The ``k`` nearest it found."""
        return self.walks[-1].found[: self.k]

    @property
    def compared(self) -> int:
        """With how many different points the question was compared."""
        return len({point for walk in self.walks for point in walk.came_from})

    def __str__(self) -> str:
        name = self.graph.name
        lines = [str(self.graph)]
        for walk in self.walks:
            steps = " → ".join(map(name, walk.path))
            lines.append(f"layer {walk.layer}: {steps}" + ("" if len(walk.path) > 1 else ", no link leads nearer"))
        right = len(set(self.found) & set(self.nearest))
        lines.append(f"found {', '.join(map(name, self.found))}: {right} of the {self.k} nearest")
        lines.append(f"compared with {self.compared} of {len(self.graph.vectors)} points")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        from course_lib.instruments.vectors.hnsw.picture import draw

        return draw(self.graph, self)._repr_mimebundle_(include, exclude)


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Vectors = vectors / np.where(length == 0, 1.0, length)
    return unit
