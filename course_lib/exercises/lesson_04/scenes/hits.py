"""What a search returns, read: pairs of what was found and a number."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from course_lib.judging.asking import expect_list, is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.quoting import article, kind_of

TOLERANCE = 1e-4  # vectors are stored in four bytes a number, and halves and sums of them are rounded
Hits = list[tuple[Any, float]]


def read_pairs(attempt: Attempt, found: Any, kind: type) -> Hits:
    """``found`` as a list of (something of this kind, number).

    Raises:
        Wrong: "nothing returned", "not a list", or "not pairs", which the exercise has to name.
    """
    items = expect_list(attempt, found)
    odd = [item for item in items if not _is_pair(item, kind)]
    attempt.expect(not odd, "not pairs", kind=_described(odd[0]) if odd else "")
    return [(item[0], float(item[1])) for item in items]


def _is_pair(item: Any, kind: type) -> bool:
    if not (is_list(item) and len(item) == 2 and isinstance(item[0], kind)):
        return False
    return isinstance(item[1], Real) and not isinstance(item[1], bool)


def _described(item: Any) -> str:
    """``a Row of 3``, ``a tuple of (UUID, str)``, ``a float``."""
    if not is_list(item):
        return article(item)
    kinds = ", ".join(kind_of(part) for part in item)
    return f"{article(item)} of ({kinds})"


def differ(one: Sequence[float], other: Sequence[float], by: float = TOLERANCE) -> int:
    """In how many places two lists of numbers differ."""
    return sum(not abs(a - b) <= by for a, b in zip(one, other, strict=True))
