"""The same search without a database: libraries and an embedded engine, each in a process of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import psutil

from course_lib.bench.chunk_table import EF_CONSTRUCTION, M
from course_lib.bench.points import PASSES, Found, K, Numbers, Points, Series, Vectors, quietest
from course_lib.models import DIMENSIONS

EF_SEARCH = (10, 20, 30, 40, 60, 80, 100, 120, 160, 200, 300, 400)
ENOUGH = 0.99  # recall from which on nothing more is tried
INSTALL = "make compare, or: pip install -e '.[compare]'"


class Engine(Protocol):
    """Takes vectors, then searches. All build with M and EF_CONSTRUCTION on all cores, and search on one."""

    def add(self, start: int, block: Vectors) -> None: ...
    def finish(self) -> None: ...
    def search(self, query: Vectors, ef: int | None) -> Sequence[int]: ...


class NumpyExact:
    """The floor: one matrix product, then the ten best. Its memory is the vectors'."""

    def __init__(self, rows: int, folder: Path) -> None:
        self._vectors: Vectors = np.empty((rows, DIMENSIONS), dtype=np.float32)

    def add(self, start: int, block: Vectors) -> None:
        self._vectors[start : start + len(block)] = block

    def finish(self) -> None: ...

    def search(self, query: Vectors, ef: int | None) -> Sequence[int]:
        near = self._vectors @ query
        best = np.argpartition(-near, K)[:K]
        found: list[int] = best[np.argsort(-near[best])].tolist()
        return found


class Hnswlib:
    """The library of the authors of HNSW."""

    def __init__(self, rows: int, folder: Path) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=DIMENSIONS)
        self._index.init_index(max_elements=rows, M=M, ef_construction=EF_CONSTRUCTION)

    def add(self, start: int, block: Vectors) -> None:
        self._index.add_items(block, np.arange(start, start + len(block)), num_threads=os.cpu_count() or 1)

    def finish(self) -> None: ...

    def search(self, query: Vectors, ef: int | None) -> Sequence[int]:
        self._index.set_ef(ef)
        found: list[int] = self._index.knn_query(query, k=K, num_threads=1)[0][0].tolist()
        return found


class Faiss:
    """Meta's library, its HNSW over plain vectors."""

    def __init__(self, rows: int, folder: Path) -> None:
        import faiss

        self._faiss: Any = faiss
        self._index = faiss.IndexHNSWFlat(DIMENSIONS, M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = EF_CONSTRUCTION

    def add(self, start: int, block: Vectors) -> None:
        self._index.add(block)

    def finish(self) -> None:
        self._faiss.omp_set_num_threads(1)

    def search(self, query: Vectors, ef: int | None) -> Sequence[int]:
        parameters = self._faiss.SearchParametersHNSW(efSearch=ef)
        found: list[int] = self._index.search(query[None], K, params=parameters)[1][0].tolist()
        return found


class QdrantEdge:
    """Qdrant's engine without its server: segments on disk, mapped into memory."""

    def __init__(self, rows: int, folder: Path) -> None:
        import qdrant_edge as qdrant

        self._qdrant: Any = qdrant
        self._folder = folder / "qdrant"
        shutil.rmtree(self._folder, ignore_errors=True)
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(DIMENSIONS, qdrant.Distance.Dot),
            hnsw_config=qdrant.HnswIndexConfig(M, EF_CONSTRUCTION, full_scan_threshold=10),
            # one segment with one graph, as the others have
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1, max_segment_size=2**31, indexing_threshold=1_000
            ),
            max_search_threads=1,
            wal_enabled=False,
        )
        self._folder.mkdir()
        self._shard = qdrant.EdgeShard.create(str(self._folder), config)

    def add(self, start: int, block: Vectors) -> None:
        points = [self._qdrant.Point(start + place, vector) for place, vector in enumerate(block.tolist())]
        self._shard.update(self._qdrant.UpdateOperation.upsert_points(points))

    def finish(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def search(self, query: Vectors, ef: int | None) -> Sequence[int]:
        request = self._qdrant.SearchRequest(
            self._qdrant.Query.Nearest(query.tolist()), K, params=self._qdrant.SearchParams(hnsw_ef=ef)
        )
        return [int(point.id) for point in self._shard.search(request)]


ENGINES: dict[str, tuple[str, Callable[[int, Path], Engine]]] = {
    "hnswlib": ("hnswlib", Hnswlib),
    "faiss": ("faiss", Faiss),
    "qdrant-edge": ("qdrant_edge", QdrantEdge),
    "numpy, exact": ("numpy", NumpyExact),
}
"""Name in the tables: the module that must be there, and how the engine is made for rows and a folder of its own."""


@dataclass(frozen=True)
class Compared:
    """An engine's figures: seconds of the build, bytes of memory, and the series with rising ef_search."""

    engine: str
    build: float
    memory: int
    curve: list[Found]


def compare_engine(name: str, points: Points, truth: Numbers) -> Compared | str:
    """Build and search in a new process; a sentence where that cannot be done."""
    module, _ = ENGINES[name]
    if find_spec(module) is None:
        return f"not installed; for it: {INSTALL}"
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_measured, name, points, truth).result()
    except BrokenProcessPool:
        return "its process was killed, probably for want of memory"


def _measured(name: str, points: Points, truth: Numbers) -> Compared:
    _, make = ENGINES[name]
    make(10, points.path.parent)  # imported before its memory is looked at
    process = psutil.Process()
    before, build = process.memory_info().rss, 0.0
    engine = make(points.rows, points.path.parent)
    for start, block in points.blocks():
        began = perf_counter()
        engine.add(start, block)
        build += perf_counter() - began
    began = perf_counter()
    engine.finish()
    build += perf_counter() - began
    curve = list(_rising(engine, points, truth))
    return Compared(name, build, process.memory_info().rss - before, curve)


def _rising(engine: Engine, points: Points, truth: Numbers) -> Iterator[Found]:
    exact = isinstance(engine, NumpyExact)
    queries = points.queries[:100] if exact else points.queries
    for ef in [None] if exact else EF_SEARCH:
        found = quietest([_searched(engine, queries, truth, ef) for _ in range(PASSES)])
        yield found
        if found.recall >= ENOUGH:
            return


def _searched(engine: Engine, queries: Vectors, truth: Numbers, ef: int | None) -> Found:
    series = Series(truth)
    for query in queries:
        began = perf_counter()
        series.note(began, engine.search(query, ef))
    return series.found(ef)
