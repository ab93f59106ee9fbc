"""Sizes from an empty database to the tables, in small: what is compared, refused and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from course_lib.bench import sizes
from course_lib.bench.sizes import Compared


def test_everything_is_compared_and_the_worst_is_named(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sizes, "DIMENSIONS", (128, 2100))
    monkeypatch.setattr(sizes, "QUICK_ROWS", (40, 400))
    sizes.measure(quick=True)
    content = json.loads((results / "sizes.json").read_text())
    parts = {(one["rows"], one["dimensions"], one["kind"], one["part"]) for one in content["compared"]}
    assert {(400, 128, "vector", "hnsw, m 16"), (400, 2100, "halfvec", "TOAST"), (40, 128, "bit", "table")} <= parts
    assert [text.partition(" of vector")[0] for text in content["refused"]] == ["hnsw", "ivfflat"]
    text = (results / "sizes.md").read_text()
    assert "400 rows: " in text and "the worst " in text
    assert "| 2100 | halfvec | hnsw, m 16 |" in text
    assert (results / "sizes.png").exists()


def test_a_difference_beyond_the_limit_is_broken() -> None:
    assert Compared(10, 256, "vector", "table", 106, 100).row[-1] == "+6.0% BROKEN"
    assert Compared(10, 256, "vector", "table", 96, 100).row[-1] == "-4.0%"
