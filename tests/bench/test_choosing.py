"""Choosing from an empty folder to the tables, in small: what is found, changed, killed and written. No times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from course_lib.bench import choosing, installed_stores, lanes
from course_lib.bench.installed_stores import STORES
from course_lib.bench.points import SHARES, Points, make_points
from course_lib.bench.stores import BareEdgeStore, Store
from course_lib.data.clustered import clustered_queries
from tests.postgres import conftest

ROWS = 3_000
shared_folder, shared_home = conftest.shared_folder, conftest.shared_home


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Path]:
    """The reports of one small run of pgvector, with an engine that is not installed."""
    with pytest.MonkeyPatch.context() as patch, conftest.course_home(shared_folder / "home"):
        patch.chdir(tmp_path_factory.mktemp("reports"))
        patch.setattr(choosing, "QUICK_QUERIES", 40)
        patch.setattr(lanes, "SOME", 20)
        patch.setattr(choosing, "STORES", {"absent": ("no_such_engine", STORES["faiss"][1])})
        choosing.measure(True, [ROWS])
        yield Path.cwd() / "bench-results"


def test_pgvector_keeps_what_it_promises(reports: Path) -> None:
    content = json.loads((reports / f"choosing-{ROWS}.json").read_text())
    (pgvector,) = content["engines"]
    assert content["missing"][0].startswith("absent: not installed; for it: ")
    assert max(found["recall"] for found in pgvector["searched"]["curve"]) >= 0.95
    assert pgvector["changed"]["torn"] == 0, "a failed transaction leaves nothing"
    assert pgvector["changed"]["deleted"]["returned"] == 0
    assert pgvector["changed"]["inserted"]["at_once"] >= 0.95, "as many as the graph leads to"
    assert (pgvector["killed"]["there"], pgvector["killed"]["added"]) == (500, 500)
    assert "sees 500 of the 500" in pgvector["killed"]["second"]


def test_filters_lose_rows_by_default_and_none_as_documented(reports: Path) -> None:
    content = json.loads((reports / f"choosing-{ROWS}.json").read_text())
    by = {(one["share"], one["way"]): one["found"] for one in content["engines"][0]["searched"]["within"]}
    assert by[0.01, "HNSW forced, iterative scan off"]["rows"] < 5
    for share in SHARES.values():
        assert by[share, "B-tree on the tenant and iterative scan"]["rows"] == min(10, share * ROWS)
        assert by[share, "RagRepository.search()"]["recall"] > 0.85


def test_tables_and_pictures_are_written(reports: Path) -> None:
    for name in ("", "-filters", "-change", "-loss"):
        assert "| pgvector | " in (reports / f"choosing-{ROWS}{name}.md").read_text()
    for name in ("", "-filters", "-change"):
        assert (reports / f"choosing-{ROWS}{name}.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_left_behind(reports: Path, shared_folder: Path) -> None:
    assert not (shared_folder / "home" / "bench").exists()


@pytest.fixture
def points(tmp_path: Path) -> Points:
    (tmp_path / "points").mkdir()
    return make_points(tmp_path / "points", ROWS, 40)


def filled(kind: type[Store], folder: Path, points: Points) -> Store:
    return choosing._filled(kind(folder, points.rows), points)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", sorted(installed_stores.STORES))
def test_each_store_searches_changes_and_comes_back(name: str, tmp_path: Path, points: Points) -> None:
    module, kind = STORES[name]
    pytest.importorskip(module)
    store = filled(kind, tmp_path, points)
    assert max(found.recall for found in lanes.rising(store, points, points.nearest(points.queries))) >= 0.95
    deleted = lanes.deleting(store, points, 200)
    assert deleted.returned == 0 and deleted.found.recall > 0.9
    fresh = clustered_queries(300, of=ROWS)
    inserted = lanes.inserting(store, points, fresh[:200], 200)
    assert inserted.at_once > 0.95
    assert lanes.torn(store, ROWS + 200, fresh[200:]) == 50, "the first half stays"
    store.save()
    there = np.arange(ROWS, ROWS + 200)
    store.close()
    again = kind.open(tmp_path)
    assert again.count_of(there) == 200
    again.close()


@pytest.mark.parametrize("name", sorted(installed_stores.STORES))
def test_what_is_there_after_a_kill(name: str, tmp_path: Path, points: Points) -> None:
    module, kind = STORES[name]
    pytest.importorskip(module)
    (tmp_path / "place").mkdir()
    store = filled(kind, tmp_path / "place", points)
    store.save()
    store.close()
    fresh = clustered_queries(500, of=ROWS)
    _, block = next(points.blocks())
    killed = choosing.kill_process(name, tmp_path / "place", ROWS, fresh, (7, block[7]), 100)
    assert killed.there == killed.copied == (500 if name == "qdrant-edge" else 0)
    assert killed.second.startswith("is refused" if name == "qdrant-edge" else "opens it and sees 0")


def test_an_engine_loses_rows_when_its_payload_index_is_missing_or_late(tmp_path: Path, points: Points) -> None:
    pytest.importorskip("qdrant_edge")
    found = list(lanes.within_tenants(filled(BareEdgeStore, tmp_path, points), points, 100))
    assert all(one.found.rows < 5 for one in found if one.share == 0.01)
