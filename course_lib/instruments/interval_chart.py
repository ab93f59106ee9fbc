"""Estimates with their intervals: a dot for the value, a line for what else it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from course_lib.errors import CourseError
from course_lib.instruments.pictures import COLOURS, INK, INKS, LINE, SOFT, Picture, card

WIDTH, ROW, LETTER = 8.6, 0.36, 0.088  # inches


class Interval(Protocol):
    """Such as ``course_lib.repositories.rag.evaluation.Estimate``."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def intervals(
    estimates: Mapping[str, Interval], title: str, *, mark: tuple[str, float] | None = None, note: str = ""
) -> Picture:
    """One row for each estimate, from its low to its high end. Where the line of ``mark`` is touched, it is grey.

    Its text names what is compared and holds no number, as that of ``panels``.

    Args:
        estimates: name to estimate, drawn from top to bottom.
        mark: name and place of a line from top to bottom, such as ``("no difference", 0)``.
        note: a line below.

    Raises:
        CourseError: there is nothing to draw.
    """
    if not estimates:
        raise CourseError("There are no estimates to draw.", 'Give it {"way": mean(values), …}')
    height = ROW * (len(estimates) + bool(mark)) + (1.25 if note else 1.0)
    picture, axes = card(WIDTH, height, f"{title}: {', '.join(estimates)}")
    picture.spoken = f"{title}. " + ". ".join(
        f"{name}: {one.value:.2f}, from {one.low:.2f} to {one.high:.2f}" for name, one in estimates.items()
    )
    ends = [end for one in estimates.values() for end in (one.low, one.high)] + ([mark[1]] if mark else [])
    left, span = min(ends), (max(ends) - min(ends)) or 1.0
    for row, (name, one) in enumerate(estimates.items()):
        undecided = mark is not None and one.low <= mark[1] <= one.high
        colour, ink = (SOFT, SOFT) if undecided else (COLOURS[0], INK)
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=3, solid_capstyle="round", zorder=2)
        axes.plot([one.value], [row], color=colour, marker="o", markersize=8, zorder=3)
        axes.text(left - 0.02 * span, row, name, ha="right", va="center", size=10, color=INK)
        said = f"{one.value:.2f}  [{one.low:.2f}, {one.high:.2f}]"
        axes.text(left + 1.03 * span, row, said, ha="left", va="center", size=9.5, color=ink)
    bottom = len(estimates) - 0.4
    if mark is not None:
        axes.plot([mark[1]] * 2, [-0.6, bottom], color=INKS[5], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.text(mark[1], bottom + 0.1, mark[0], ha="center", va="top", size=9, color=INKS[5])
    else:
        axes.plot([left] * 2, [-0.6, bottom], color=LINE, linewidth=1, zorder=1)
    names = (LETTER * max(map(len, estimates)) + 0.3) / WIDTH
    numbers = 1.75 / WIDTH
    room = span / (1 - names - numbers)
    axes.set_xlim(left - names * room, left + span + numbers * room)
    axes.set_ylim(bottom + (0.75 if mark else 0.1), -0.7)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    if note:
        picture.supxlabel(note, x=0.01, ha="left", color=INK, size=9)
    return picture
