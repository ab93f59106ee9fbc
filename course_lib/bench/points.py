"""The vectors that every engine searches, the questions, and the right answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from course_lib.data.clustered import clustered_blocks, clustered_queries
from course_lib.models import DIMENSIONS

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]

K = 10
TARGET = 0.95
BLOCK = 10_000
PASSES = 3  # over the same queries, see ``quietest``
SHARES = {1: 0.5, 2: 0.01, 3: 0.001}
"""Tenants by number, and which share of all rows is theirs; the rest is of many small ones."""
FIRST_SMALL, SMALL = 100, 400  # the small tenants' first number, and how many they are
SEED = 5


@dataclass(frozen=True)
class Points:
    """``rows`` unit vectors in a file, row ``i`` having the id ``i``; each belongs to a tenant, whatever it says."""

    path: Path
    rows: int
    tenants: Numbers  # (rows,)
    queries: Vectors  # (n, 256)

    @property
    def ranks(self) -> Numbers:
        """For each row its place among its tenant's rows, from 0 on; shape (rows,)."""
        order = np.argsort(self.tenants, kind="stable")
        _, starts, counts = np.unique(self.tenants[order], return_index=True, return_counts=True)
        ranks = np.empty(self.rows, dtype=np.int64)
        ranks[order] = np.arange(self.rows) - np.repeat(starts, counts)
        return ranks

    def blocks(self) -> Iterator[tuple[int, Vectors]]:
        """The vectors in order, with the id of each block's first. Read, not mapped: it is nobody's memory."""
        with self.path.open("rb") as file:
            for start in range(0, self.rows, BLOCK):
                read = np.fromfile(file, dtype=np.float32, count=min(BLOCK, self.rows - start) * DIMENSIONS)
                yield start, read.reshape(-1, DIMENSIONS)

    def nearest(self, queries: Vectors, tenant: int | None = None) -> Numbers:
        """The ids of the K nearest to each query, found by looking at every vector; shape (n, K).

        A tenant with fewer than K rows has -1 in the places that stay empty.
        """
        best = np.full((len(queries), K), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), K), -1, dtype=np.int64)
        for start, block in self.blocks():
            numbers = np.arange(start, start + len(block))
            if tenant is not None:
                mine = self.tenants[start : start + len(block)] == tenant
                block, numbers = block[mine], numbers[mine]
            near = np.concatenate([best, queries @ block.T], axis=1)
            known = np.concatenate([ids, np.broadcast_to(numbers, (len(queries), len(numbers)))], axis=1)
            order = np.argpartition(-near, K - 1, axis=1)[:, :K]
            best, ids = np.take_along_axis(near, order, axis=1), np.take_along_axis(known, order, axis=1)
        return ids


def make_points(folder: Path, rows: int, queries: int) -> Points:
    """Clustered vectors (see ``course_lib.data.clustered``), written to ``folder``."""
    path = folder / "vectors.f32"
    with path.open("wb") as file:
        for block in clustered_blocks(rows):
            block.tofile(file)
    return Points(path, rows, _tenants(rows), clustered_queries(queries, of=rows))


def _tenants(rows: int) -> Numbers:
    generator = np.random.Generator(np.random.PCG64(SEED))
    tenants = FIRST_SMALL + np.arange(rows) % SMALL
    start = 0
    for number, share in SHARES.items():
        behind = start + round(rows * share)
        tenants[start:behind] = number
        start = behind
    return generator.permutation(tenants)


@dataclass(frozen=True)
class Found:
    """How a series of searches went under one ``setting`` (ef_search; None where there is none to make).

    Attributes:
        recall: the mean share of the right answers that was returned.
        rows: the mean number of rows returned.
        p50, p95: seconds.
    """

    setting: int | None
    recall: float
    rows: float
    p50: float
    p95: float
    searches: int


class Series:
    """Searches, timed one by one and compared with ``truth``, in its order."""

    def __init__(self, truth: Numbers) -> None:
        self._truth = truth
        self._seconds: list[float] = []
        self._shares: list[float] = []
        self._rows: list[int] = []

    def note(self, began: float, ids: Sequence[int]) -> None:
        """A search that began at ``began`` (perf_counter) and has just returned ``ids``."""
        self._seconds.append(perf_counter() - began)
        right = {int(number) for number in self._truth[len(self._rows)] if number >= 0}
        self._shares.append(len(right.intersection(map(int, ids))) / len(right))
        self._rows.append(len(ids))

    def found(self, setting: int | None = None) -> Found:
        p50, p95 = np.percentile(self._seconds, [50, 95])
        shares, rows = float(np.mean(self._shares)), float(np.mean(self._rows))
        return Found(setting, shares, rows, float(p50), float(p95), len(self._seconds))


def quietest(series: Sequence[Found]) -> Found:
    """Of several series of the same searches the one that other programs disturbed least."""
    return min(series, key=lambda found: found.p50)


def smallest(curve: Sequence[Found]) -> Found | None:
    """The first of a rising series that reaches TARGET."""
    return next((found for found in curve if found.recall >= TARGET), None)
