"""``course bench``: which parts are measured, and what is refused."""

from __future__ import annotations

from importlib import import_module

import pytest

from course_lib.cli.app import bench as command
from course_lib.cli.bench import PARTS, run_bench
from course_lib.errors import CourseError


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What would have been measured, in order."""
    calls: list[tuple[object, ...]] = []
    for part in PARTS:
        module = import_module(f"course_lib.bench.{part}")
        monkeypatch.setattr(module, "measure", lambda *options, part=part: calls.append((part, *options)))
    return calls


def test_everything_by_default(measured: list[tuple[object, ...]]) -> None:
    command()
    assert [part for part, *_ in measured] == list(PARTS)
    assert ("vectors", False, []) in measured
    assert ("choosing", False, []) in measured


def test_a_part_and_sizes(measured: list[tuple[object, ...]]) -> None:
    command(quick=True, only=["pools", "vectors"], rows=[100_000, 500_000])
    assert measured == [("pools", True), ("vectors", True, [100_000, 500_000])]


def test_choosing_has_sizes_too(measured: list[tuple[object, ...]]) -> None:
    command(only=["choosing"], rows=[100_000])
    assert measured == [("choosing", False, [100_000])]


def test_sizes_alone_mean_vectors(measured: list[tuple[object, ...]]) -> None:
    command(rows=[5_000])
    assert measured == [("vectors", False, [5_000])]


def test_what_is_refused() -> None:
    with pytest.raises(CourseError, match="no part 'vector' to measure"):
        run_bench(False, ["vector"], [])
    with pytest.raises(CourseError, match="from 2,000 rows on"):
        run_bench(False, [], [100])
