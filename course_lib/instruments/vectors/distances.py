"""How far a question is from every passage, as a picture with one lane per group."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, SOFT, Picture, card


def distance_lanes(
    passages: Sequence[tuple[str, float]], *, asker: str, title: str = "Distance from the question to every passage"
) -> Picture:
    """Every passage as a dot at its distance, in the lane of its group; nearest of all and nearest of ``asker`` named.

    Args:
        passages: (group, cosine distance from 0 to 2) of each, in any order.
        asker: the group whose lane is picked out.
    """
    lanes: dict[str, list[float]] = {}
    for group, distance in passages:
        lanes.setdefault(group, []).append(float(distance))
    groups = sorted(lanes, key=lambda group: min(lanes[group]), reverse=True)  # the nearest lane on top
    nearest = groups[-1]
    words = f"{title}: nearest is a passage of {nearest}, at {min(lanes[nearest]):.2f}"
    if asker != nearest:
        words += f"; nearest of {asker}'s own is at {min(lanes[asker]):.2f}"
    picture, axes = card(8.6, 0.42 * len(groups) + 1.1, words)
    left, right = min(map(min, lanes.values())), max(map(max, lanes.values()))
    for height, group in enumerate(groups):
        _draw_lane(axes, height, group, lanes[group], (left, right), bold=group == asker)
    _point_at(axes, groups.index(nearest), min(lanes[nearest]), "nearest of all")
    if asker != nearest:
        _point_at(axes, groups.index(asker), min(lanes[asker]), f"nearest of {asker}'s own")
    axes.text(left, -1.1, "← nearer in meaning", color=SOFT, size=9, ha="left")
    axes.text(right, -1.1, "further away →", color=SOFT, size=9, ha="right")
    axes.set_title(title, loc="left", color=INK, size=12, pad=12)
    axes.set_ylim(-1.4, len(groups) - 0.2)
    axes.set_xlim(left - 0.17 * (right - left), right + 0.02)
    return picture


def _draw_lane(
    axes: Axes, height: int, group: str, distances: list[float], ends: tuple[float, float], *, bold: bool
) -> None:
    left, right = ends
    colour = COLOURS[0] if bold else FAINT
    axes.plot([left, right], [height, height], color=LINE, linewidth=1, zorder=1)
    axes.scatter(distances, [height] * len(distances), s=42, color=colour, alpha=0.75, linewidth=0, zorder=2)
    axes.text(
        left - 0.02 * (right - left), height, group, ha="right", va="center", size=10,
        color=INK if bold else SOFT, weight="bold" if bold else "normal",
    )  # fmt: skip


def _point_at(axes: Axes, height: int, distance: float, words: str) -> None:
    axes.scatter([distance], [height], s=120, facecolor="none", edgecolor=INKS[5], linewidth=1.8, zorder=3)
    axes.annotate(
        words, (distance, height), xytext=(0, 11), textcoords="offset points",
        color=INKS[5], size=9, ha="left", va="bottom",
    )  # fmt: skip
