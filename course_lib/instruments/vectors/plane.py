"""Vectors in a plane: arrows where they have two dimensions, else points, as far apart as a plane allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from course_lib.errors import CourseError
from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, PAPER, Picture, card

Plane = NDArray[np.float64]

SIZE = 6.2  # inches
MARKERS = "os^Dvp"  # a shape besides a colour
HALO = [withStroke(linewidth=3, foreground=PAPER)]


def vector_plane(
    groups: Mapping[str, ArrayLike],
    asker: ArrayLike | None = None,
    *,
    nearest: Sequence[tuple[str, int]] = (),
    title: str = "Vectors in a plane",
) -> Picture:
    """Each group of vectors in its colour, and a question among them.

    Vectors of two dimensions are arrows from the origin, true to scale. Others are points, in the plane in which they
    differ most (the first two principal components, of all groups together): neighbours there need not be neighbours.

    Args:
        groups: name to n x d numbers, or to one vector.
        asker: a vector to mark with a star.
        nearest: (group, row) of vectors to join with ``asker`` by a line.

    Raises:
        CourseError: the vectors are of different lengths, or there is none.
    """
    arrays = {name: np.atleast_2d(np.asarray(vectors, dtype=float)) for name, vectors in groups.items()}
    star = None if asker is None else np.atleast_2d(np.asarray(asker, dtype=float))
    lengths = {array.shape[1] for array in [*arrays.values(), *([] if star is None else [star])]}
    if len(lengths) != 1:
        found = " and ".join(map(str, sorted(lengths))) or "no"
        raise CourseError(f"Vectors of {found} dimensions have no plane in common.", "Draw those of one model.")
    flat, (asked,) = flatten(arrays, star)
    count = sum(map(len, flat.values()))
    words = f"{title}: {count} vectors in {len(flat)} groups" + ("" if star is None else ", and a question")
    arrows = lengths == {2}
    picture, axes = card(SIZE * 1.35, SIZE * (0.6 if arrows else 0.82), words)
    for number, (name, points) in enumerate(flat.items()):
        (_draw_arrows if arrows else _draw_points)(axes, name, points, number)
    if asked is not None:
        for group, row in nearest:
            axes.plot(*zip(asked, flat[group][row], strict=True), color=INKS[5], linewidth=1.1, zorder=4)
        axes.plot(*asked, marker="*", markersize=15, color=INKS[5], markeredgecolor=PAPER, zorder=6)
        _name(axes, asked, "the question", INKS[5])
    axes.set_title(title, loc="left", color=INK, size=12, pad=8)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    return picture


def flatten(arrays: Mapping[str, Plane], star: Plane | None) -> tuple[dict[str, Plane], tuple[Plane | None]]:
    """Everything with two coordinates; what has more is projected, the asker into the plane of the others."""
    together = np.vstack(list(arrays.values()))
    if together.shape[1] == 2:
        return dict(arrays), (None if star is None else star[0],)
    middle = together.mean(axis=0)
    axes = np.linalg.svd(together - middle, full_matrices=False)[2][:2].T
    axes = axes * np.sign(axes.sum(axis=0))  # a decomposition is free in its signs; a picture should not be
    flat = {name: (array - middle) @ axes for name, array in arrays.items()}
    return flat, (None if star is None else ((star - middle) @ axes)[0],)


def _draw_points(axes: Axes, name: str, points: Plane, number: int) -> None:
    axes.scatter(
        points[:, 0], points[:, 1], s=34, marker=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
        edgecolor=PAPER, linewidth=0.6, zorder=2,
    )  # fmt: skip
    _name(axes, np.median(points, axis=0), name, INKS[number % len(INKS)])


def _draw_arrows(axes: Axes, name: str, points: Plane, number: int) -> None:
    colour = INKS[number % len(INKS)]
    axes.plot(0, 0, marker="o", markersize=5, color=FAINT, zorder=3)
    for point in points:
        axes.annotate(
            "", point, xytext=(0, 0), zorder=3,
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        axes.plot([0, point[0]], [0, point[1]], color=LINE, linewidth=0)  # so that the axes make room for it
        _name(axes, point, name, colour)


def _name(axes: Axes, at: Plane, name: str, colour: str) -> None:
    axes.annotate(
        name, (at[0], at[1]), xytext=(5, 6), textcoords="offset points", size=10, weight="bold", color=colour,
        path_effects=HALO, zorder=7,
    )  # fmt: skip
