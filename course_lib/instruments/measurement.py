"""A number that a lesson measured, shown, and held against the bound that its text relies on."""

from __future__ import annotations

from dataclasses import dataclass

from course_lib.errors import CourseError


@dataclass(frozen=True)
class Measured:
    """Shown as ``≈ 12 times as fast (at least 3: yes)``. What stands behind ``≈`` differs from run to run."""

    value: float
    unit: str
    bounds: str

    def __str__(self) -> str:
        return f"≈ {_short(self.value)} {self.unit}{self.bounds}"

    __repr__ = __str__


def measured(value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None) -> Measured:
    """The number with its unit, once it is within the bounds.

    Args:
        value: what was measured in this run.
        unit: what it counts, for example "times as fast" or "MB".
        at_least: the smallest value for which the lesson's text is true.
        at_most: the greatest.

    Raises:
        CourseError: it is outside.
    """
    bounds = []
    for word, bound, holds in (
        ("at least", at_least, at_least is None or value >= at_least),
        ("at most", at_most, at_most is None or value <= at_most),
    ):
        if not holds:
            sentence = f"Measured: {_short(value)} {unit}, where the lesson expects {word} {bound:g}."
            raise CourseError(sentence, "Something else may have kept this machine busy. Run the cell again.")
        if bound is not None:
            bounds.append(f"{word} {bound:g}: yes")
    return Measured(value, unit, f" ({', '.join(bounds)})" if bounds else "")


def _short(value: float) -> str:
    """Two or three digits that mean something; a count is whole."""
    if value >= 10 or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"
