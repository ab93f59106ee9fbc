"""Vectors, tenants and right answers: what every engine is judged by."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from course_lib.bench import points as module
from course_lib.bench.points import SHARES, Found, K, Points, Series, make_points, quietest, smallest

ROWS = 5_000


@pytest.fixture
def points(tmp_path: Path) -> Points:
    return make_points(tmp_path, ROWS, 20)


def everything(points: Points) -> np.ndarray:
    return np.concatenate([block for _, block in points.blocks()])


def test_blocks_hold_every_vector_once_in_order(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything(points)
    assert whole.shape == (ROWS, 256)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    monkeypatch.setattr(module, "BLOCK", 1_700)
    parts = list(points.blocks())
    assert [start for start, _ in parts] == [0, 1_700, 3_400]
    assert np.array_equal(np.concatenate([block for _, block in parts]), whole)


def test_the_same_in_every_run(points: Points, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    again = make_points(tmp_path / "again", ROWS, 20)
    assert np.array_equal(everything(points), everything(again))
    assert np.array_equal(points.queries, again.queries)
    assert np.array_equal(points.tenants, again.tenants)


def test_each_tenant_has_its_share_wherever_its_vectors_lie(points: Points) -> None:
    for tenant, share in SHARES.items():
        assert (points.tenants == tenant).sum() == ROWS * share
    halves = points.tenants[: ROWS // 2] == 1, points.tenants[ROWS // 2 :] == 1
    assert all(0.4 < half.mean() < 0.6 for half in halves)


def test_the_nearest_over_blocks_are_the_nearest_of_all(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    near = points.queries @ everything(points).T
    monkeypatch.setattr(module, "BLOCK", 777)
    found = points.nearest(points.queries)
    for row, ids in zip(near, found, strict=True):
        assert set(ids) == set(np.argsort(-row)[:K])


def test_the_nearest_of_a_tenant_are_its_own_and_may_be_few(points: Points) -> None:
    near = points.queries @ everything(points).T
    near[:, points.tenants != 2] = -np.inf
    for row, ids in zip(near, points.nearest(points.queries, 2), strict=True):
        assert set(ids) == set(np.argsort(-row)[:K])
    mine = np.flatnonzero(points.tenants == 3)  # 5 of 5,000
    for ids in points.nearest(points.queries, 3):
        assert sorted(ids) == [*[-1] * (K - len(mine)), *mine]


def test_a_series_counts_what_was_found() -> None:
    series = Series(np.array([[1, 2, 3, 4], [5, 6, -1, -1]]))
    series.note(perf_counter(), [1, 2, 9])
    series.note(perf_counter(), [5, 6])
    found = series.found(40)
    assert (found.setting, found.recall, found.rows, found.searches) == (40, 0.75, 2.5, 2)
    assert 0 <= found.p50 <= found.p95


def test_the_smallest_setting_that_reaches_the_target() -> None:
    curve = [Found(setting, recall, 10, 0.001, 0.002, 5) for setting, recall in ((10, 0.8), (20, 0.951), (40, 0.99))]
    assert smallest(curve) is curve[1]
    assert smallest(curve[:1]) is None


def test_the_quietest_pass_is_the_fastest() -> None:
    passes = [Found(40, 0.96, 10, seconds, 0.02, 5) for seconds in (0.004, 0.002, 0.003)]
    assert quietest(passes) is passes[1]
