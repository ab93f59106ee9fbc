"""How long a lesson takes, by one rule that anybody can apply."""

from __future__ import annotations

from typing import Any

SECONDS_PER_WORD = 60 / 200
SECONDS_PER_LINE = 4  # of code, which is read more slowly than prose
SECONDS_PER_RUN = 4
SECONDS_PER_PREDICTION = 30
PREDICTION = "**Predict"
RETURN = "Run All Above"
"""What a break's mark tells those who come back tomorrow."""


def seconds_to_read(cell: dict[str, Any]) -> float:
    """What a reader spends on one notebook cell: its words, or its lines of code and one run, and its predictions."""
    source: str = cell["source"]
    if cell["cell_type"] == "code":
        lines = sum(bool(line.strip()) for line in source.splitlines())
        return SECONDS_PER_LINE * lines + SECONDS_PER_RUN
    return SECONDS_PER_WORD * len(source.split()) + SECONDS_PER_PREDICTION * source.count(PREDICTION)


def minutes_to_read(cells: list[dict[str, Any]]) -> float:
    """Minutes that these cells take."""
    return sum(seconds_to_read(cell) for cell in cells) / 60


def stretches(cells: list[dict[str, Any]]) -> list[float]:
    """Minutes from each mark of a break to the next, in order; one number where a lesson has no mark."""
    parts: list[list[dict[str, Any]]] = [[]]
    for cell in cells:
        parts[-1].append(cell)
        if cell["cell_type"] == "markdown" and RETURN in cell["source"]:
            parts.append([])
    return [minutes_to_read(part) for part in parts]
