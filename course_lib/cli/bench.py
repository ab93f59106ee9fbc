"""``course bench``: which parts, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from course_lib.cli.checks import server_in_memory
from course_lib.errors import CourseError

PARTS = (
    "foundation", "checks", "instruments", "loading", "searching", "pools", "service", "classroom", "traffic",
    "migrations", "isolation", "sizes", "vectors", "choosing", "lessons",
)  # fmt: skip
"""Modules of ``course_lib.bench``, each with ``measure(quick)``; those that take longest come last."""
SIZED = ("vectors", "choosing")
"""Those of them that are measured at any size."""
LEAST_ROWS = 2_000  # a tenth of a percent of fewer is no tenant


def run_bench(quick: bool, only: Sequence[str], rows: Sequence[int]) -> None:
    """Measure all parts, or ``only`` some; ``rows`` are sizes for vectors.

    Raises:
        CourseError: a part is unknown, or a size too small.
    """
    unknown = [part for part in only if part not in PARTS]
    if unknown:
        raise CourseError(f"There is no part {unknown[0]!r} to measure.", f"Choose of: {', '.join(PARTS)}")
    if any(size < LEAST_ROWS for size in rows):
        raise CourseError(f"Vectors are measured from {LEAST_ROWS:,} rows on.", "Try: --rows 100000")
    parts = only or (["vectors"] if rows else PARTS)
    for part in parts:
        module = import_module(f"course_lib.bench.{part}")
        # a thousand databases in minutes, which nobody makes who learns; the tests' server says why not on a disk
        with server_in_memory() if part == "checks" else nullcontext():
            module.measure(quick, rows) if part in SIZED else module.measure(quick)
