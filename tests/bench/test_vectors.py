"""Vectors from an empty folder to the tables, in small: what is asked, found and written. No times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from course_lib.bench import engines, filters, large_server, vectors
from course_lib.bench.engines import compare_engine
from course_lib.bench.large_server import MB, Memory
from course_lib.bench.points import SHARES, make_points
from course_lib.errors import CourseError
from tests.postgres import conftest

ROWS = 4_000
shared_folder, shared_home = conftest.shared_folder, conftest.shared_home


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Path]:
    """The reports of one small run, with numpy as the only other engine, and one that is not installed."""
    chosen = {"numpy, exact": engines.ENGINES["numpy, exact"], "absent": ("no_such_engine", engines.NumpyExact)}
    with pytest.MonkeyPatch.context() as patch, conftest.course_home(shared_folder / "home"):
        patch.chdir(tmp_path_factory.mktemp("reports"))
        patch.setattr(vectors, "QUICK_QUERIES", 60)
        patch.setattr(filters, "QUERIES", 30)
        patch.setattr(vectors, "ENGINES", chosen)
        patch.setattr(engines, "ENGINES", {**engines.ENGINES, **chosen})
        vectors.measure(True, [ROWS])
        yield Path.cwd() / "bench-results"


def test_the_graph_finds_enough_and_the_exact_scan_finds_all(reports: Path) -> None:
    content = json.loads((reports / f"vectors-{ROWS}.json").read_text())
    pgvector = content["pgvector"]
    assert pgvector["exact"]["recall"] > 0.999, "PostgreSQL and numpy agree on what is nearest"
    recalls = [found["recall"] for found in pgvector["curve"]]
    assert max(recalls) >= 0.95
    assert all(found["rows"] == 10 for found in pgvector["curve"])
    assert [found["setting"] for found in pgvector["curve"]] == list(engines.EF_SEARCH[: len(recalls)])
    assert pgvector["built"]["index_bytes"] > ROWS * 1_000


def test_engines_are_judged_by_the_same_answers_and_may_be_missing(reports: Path) -> None:
    found = json.loads((reports / f"vectors-{ROWS}.json").read_text())["engines"]
    assert found["numpy, exact"]["curve"][0]["recall"] == 1
    assert found["absent"] == f"not installed; for it: {engines.INSTALL}"
    assert f"| absent |  |  |  |  |  |  | {found['absent']} |" in (reports / f"vectors-{ROWS}.md").read_text()


def test_filters_return_what_is_known_of_them(reports: Path) -> None:
    found = json.loads((reports / f"filters-{ROWS}.json").read_text())["filters"]
    by = {(one["share"], one["way"]): (one["found"], one["index"]) for one in found}
    assert len(by) == len(found)
    for share in SHARES.values():
        assert by[share, "B-tree, then exact"][0]["recall"] == 1
    short, index = by[0.01, "HNSW, iterative scan off"]
    assert short["rows"] < 5 and index == "document_chunks_embedding_hnsw"
    assert by[0.01, "HNSW, relaxed_order"][0]["rows"] > 9
    for share in SHARES.values():
        assert by[share, filters.REPOSITORY][0]["rows"] == min(10, share * ROWS)
        assert by[share, filters.REPOSITORY][0]["recall"] > 0.9
    assert by[0.5, "partial HNSW index"][1] == "document_chunks_of_1"
    assert by[0.5, "partition with its HNSW index"][0]["rows"] == 10


def test_the_sizes_are_one_table_and_pictures_are_drawn(reports: Path) -> None:
    assert f"| {ROWS:,} | " in (reports / "vectors.md").read_text()
    for name in (f"vectors-{ROWS}", f"filters-{ROWS}", "vectors"):
        assert (reports / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_left_behind(reports: Path, shared_folder: Path) -> None:
    assert not (shared_folder / "home" / "bench").exists()


def test_the_limits_stand_at_a_million_rows() -> None:
    found = {"rows": 10, "p95": 0.01, "searches": 500}
    report = {
        "rows": 1_000_000,
        "pgvector": {
            "built": {"load": 20.0, "build": 400.0, "index_bytes": 1300 * MB},
            "curve": [{"setting": 100, "recall": 0.96, "p50": 0.004, **found}],
            "exact": {"setting": None, "recall": 1.0, "p50": 0.3, **found},
        },
    }
    assert vectors._size_row(report)[-2:] == ["75", "recall ≥ 0.95 kept, p50 < 5 ms kept, ratio ≥ 100 BROKEN"]
    assert vectors._size_row({**report, "rows": 500_000})[-1] == ""


@pytest.mark.parametrize("name", sorted(engines.ENGINES))
def test_each_engine_finds_the_nearest(name: str, tmp_path: Path) -> None:
    pytest.importorskip(engines.ENGINES[name][0])
    points = make_points(tmp_path, 3_000, 50)
    found = compare_engine(name, points, points.nearest(points.queries))
    assert not isinstance(found, str)
    assert found.curve[-1].recall >= 0.98
    assert found.curve[-1].rows == 10


def test_memory_grows_with_the_rows_within_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(Memory.for_rows(1_000)) == "shared_buffers 256 MB, maintenance_work_mem 256 MB"
    monkeypatch.setattr(large_server.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 6_000 * MB}))
    large = Memory.for_rows(1_000_000)
    assert (large.shared_buffers, large.graph) == (2_000, 2_000_000_000 // MB)


async def test_one_measurement_at_a_time(reports: Path, shared_folder: Path, shared_home: Path) -> None:
    with FileLock(shared_folder / "home" / "bench.lock"), pytest.raises(CourseError, match="Another `course bench`"):
        async with large_server.large_server(1_000):
            pass


async def test_a_full_disk_is_said_before_anything_starts(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=500 * MB)
    monkeypatch.setattr(large_server.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CourseError, match=r"1,000,000 rows takes 9,455 MB of disk for a while, and 500 MB are free"):
        async with large_server.large_server(1_000_000):
            pass
