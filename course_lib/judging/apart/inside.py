"""Whether this process is one in which answers are judged apart: there a check inside of a cell judges nothing."""

from __future__ import annotations

_inside = False


def go_inside() -> None:
    """From now on this process runs the cells of somebody's notebook, to judge them."""
    global _inside
    _inside = True


def is_inside() -> bool:
    return _inside
