"""Engines as a program lives with them: filled, searched within a tenant, changed, saved, opened again.

``engines`` asks how fast a graph is searched. Here each engine is set up as its documentation says, the source beside
the setting, and does what it does by itself: what it has no means for is done as its documentation advises.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from course_lib.bench.chunk_table import EF_CONSTRUCTION, M
from course_lib.bench.engines import Faiss, Hnswlib
from course_lib.bench.points import K, Numbers, Vectors
from course_lib.models import DIMENSIONS

SPARE = 20_000  # rows that may come after the first ones, for engines that have to know


class Store(ABC):
    """Rows by number, each a vector of a tenant. All build with M and EF_CONSTRUCTION on all cores.

    Attributes:
        settings: what was set, and where the documentation says so.
        not_for: what it is not made for, in its own documentation's words or by its shape.
        ways: of searching within a tenant, the documented one last.
    """

    name: ClassVar[str]
    settings: ClassVar[str]
    not_for: ClassVar[str]
    ways: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Store:
        """What was saved, by whoever saved it."""

    @abstractmethod
    def add(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None: ...

    def finish(self) -> None:
        """Build what is searched."""
        return

    @abstractmethod
    def search(self, query: Vectors, ef: int, tenant: int | None = None, way: str = "") -> Sequence[int]: ...

    def explain(self, way: str, query: Vectors, tenant: int) -> str:
        """What the engine says about how it searches so; nothing where it says nothing."""
        return ""

    @abstractmethod
    def delete(self, ids: Numbers) -> None: ...

    def upkeep(self) -> None:
        """What its documentation asks for after many changes."""
        return

    def save(self) -> None:
        """Make sure that it is there after this process."""
        return

    def close(self) -> None:
        return

    @abstractmethod
    def count_of(self, ids: Numbers) -> int:
        """How many of these are there."""

    def add_in_two(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        """One unit of work in two calls, whose program fails between them."""
        half = len(ids) // 2
        self.add(ids[:half], block[:half], tenants[:half])
        raise RuntimeError("the program fails")


class _Library(Store):
    """An index in this process: one file, one lock, and tenants that only the program knows."""

    index: Any
    file: Path

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._tenants: dict[int, set[int]] = {}
        self._selectors: dict[int | None, Any] = {}
        self._deleted: set[int] = set()

    def _note(self, ids: Numbers, tenants: Numbers) -> None:
        for id, tenant in zip(ids.tolist(), tenants.tolist(), strict=True):
            self._tenants.setdefault(tenant, set()).add(id)
            self._selectors.pop(tenant, None)


class HnswlibStore(_Library):
    """hnswlib: https://github.com/nmslib/hnswlib#api-description."""

    name = "hnswlib"
    settings = "space ip; filter by a Python function; a lock, since add_items is not safe beside knn_query (README)"
    not_for = "keeping anything by itself: a library, its file is what save_index wrote last"
    ways = ("filter function",)

    def __init__(self, folder: Path, rows: int) -> None:
        super().__init__()
        self.file = folder / "hnswlib.bin"
        self.index = Hnswlib(rows + SPARE, folder)._index

    @classmethod
    def open(cls, folder: Path) -> HnswlibStore:
        import hnswlib

        store = cls.__new__(cls)
        _Library.__init__(store)
        store.file = folder / "hnswlib.bin"
        store.index = hnswlib.Index(space="ip", dim=DIMENSIONS)
        known = hnswlib.Index(space="ip", dim=DIMENSIONS)
        known.load_index(str(store.file))
        store.index.load_index(str(store.file), max_elements=known.get_current_count() + SPARE)
        return store

    def add(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        with self._changing:
            self.index.add_items(block, ids)
        self._note(ids, tenants)

    def search(self, query: Vectors, ef: int, tenant: int | None = None, way: str = "") -> Sequence[int]:
        mine = None if tenant is None else self._tenants[tenant].__contains__
        with self._changing:
            self.index.set_ef(max(ef, K))
            try:
                labels = self.index.knn_query(query, k=K, num_threads=1, filter=mine)[0][0]
            except RuntimeError:  # fewer than K were found: no rows at all
                return []
        return [int(label) for label in labels]

    def delete(self, ids: Numbers) -> None:
        with self._changing:
            for id in ids.tolist():
                self.index.mark_deleted(id)
        self._deleted.update(ids.tolist())

    def save(self) -> None:
        self.index.save_index(str(self.file))

    def count_of(self, ids: Numbers) -> int:
        return len(set(self.index.get_ids_list()).difference(self._deleted).intersection(ids.tolist()))


class FaissStore(_Library):
    """faiss, IndexHNSWFlat: https://github.com/facebookresearch/faiss/wiki/Threads-and-asynchronous-calls."""

    name = "faiss"
    settings = (
        "IndexHNSWFlat, inner product; IDSelectorBatch for a tenant (wiki, Setting search parameters for one query); "
        "a lock, since changes need one (wiki, Threads and asynchronous calls)"
    )
    not_for = "deleting from an HNSW index, which has no remove_ids; what is deleted is left out by a selector"
    ways = ("IDSelectorBatch",)

    def __init__(self, folder: Path, rows: int) -> None:
        super().__init__()
        self.file = folder / "faiss.bin"
        self.index = Faiss(rows, folder)._index

    @classmethod
    def open(cls, folder: Path) -> FaissStore:
        import faiss

        store = cls.__new__(cls)
        _Library.__init__(store)
        store.file = folder / "faiss.bin"
        store.index = faiss.read_index(str(store.file))
        return store

    def add(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        with self._changing:
            if int(ids[0]) != self.index.ntotal:
                raise ValueError(f"faiss counts by itself, and the next row is {self.index.ntotal}, not {ids[0]}")
            self.index.add(block)
        self._note(ids, tenants)

    def search(self, query: Vectors, ef: int, tenant: int | None = None, way: str = "") -> Sequence[int]:

        selector = self._selector(tenant)
        options = {} if selector is None else {"sel": selector}
        with self._changing:
            found = self.index.search(query[None], K, params=self._parameters(efSearch=ef, **options))
        return [int(id) for id in found[1][0] if id >= 0]

    def _parameters(self, **options: Any) -> Any:
        import faiss

        every: Any = faiss  # its stubs lack this class
        return every.SearchParametersHNSW(**options)

    def _selector(self, tenant: int | None) -> Any:
        """Made once for a tenant, as a program would keep it."""
        import faiss

        if tenant is None and not self._deleted:
            return None
        if tenant not in self._selectors:
            chosen: Any
            if tenant is None:
                chosen = faiss.IDSelectorNot(self._kept(faiss.IDSelectorBatch(np.array(sorted(self._deleted)))))
            else:
                chosen = faiss.IDSelectorBatch(np.array(sorted(self._tenants[tenant] - self._deleted)))
            self._selectors[tenant] = chosen
        return self._selectors[tenant]

    def _kept(self, selector: Any) -> Any:
        """What faiss refers to and does not own."""
        self._selectors[-1] = selector
        return selector

    def delete(self, ids: Numbers) -> None:
        self._deleted.update(ids.tolist())
        self._selectors.clear()

    def save(self) -> None:
        import faiss

        faiss.write_index(self.index, str(self.file))

    def count_of(self, ids: Numbers) -> int:
        there = ids[(ids >= 0) & (ids < self.index.ntotal)]
        return len(set(there.tolist()) - self._deleted)


NO_INDEX, AFTER, ACORN, DOCUMENTED = (
    "no payload index", "payload index after the build", "ACORN, no payload index", "payload index before the build"
)  # fmt: skip


class EdgeStore(Store):
    """qdrant-edge: https://qdrant.tech/documentation/edge/edge-api/."""

    name = "qdrant-edge"
    settings = (
        "dot; write-ahead log on (its default); full_scan_threshold 10,000 KB, Qdrant's default; the payload index "
        "before the data (https://qdrant.tech/documentation/manage-data/indexing/)"
    )
    not_for = "several processes: one EdgeShard may be open on a folder (edge-api/shard-lifecycle)"
    ways: ClassVar[tuple[str, ...]] = (DOCUMENTED,)
    threshold = 10_000
    payload_index = True

    def __init__(self, folder: Path, rows: int) -> None:
        import qdrant_edge as qdrant

        self._qdrant: Any = qdrant
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(DIMENSIONS, qdrant.Distance.Dot),
            hnsw_config=qdrant.HnswIndexConfig(M, EF_CONSTRUCTION, full_scan_threshold=self.threshold),
            # one segment with one graph, as the others have
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1, max_segment_size=2**31, indexing_threshold=1_000
            ),
            max_search_threads=1,
        )
        place = folder / self.name
        place.mkdir()
        self._shard = qdrant.EdgeShard.create(str(place), config)
        if self.payload_index:
            self._index_payload()

    @classmethod
    def open(cls, folder: Path) -> EdgeStore:
        import qdrant_edge as qdrant

        store = cls.__new__(cls)
        store._qdrant = qdrant
        store._shard = qdrant.EdgeShard.load(str(folder / cls.name))
        return store

    def _index_payload(self) -> None:
        kind = self._qdrant.PayloadSchemaType.Integer
        self._shard.update(self._qdrant.UpdateOperation.create_field_index("tenant", kind))

    def add(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        rows = zip(ids.tolist(), block.tolist(), tenants.tolist(), strict=True)
        points = [self._qdrant.Point(id, vector, {"tenant": tenant}) for id, vector, tenant in rows]
        self._shard.update(self._qdrant.UpdateOperation.upsert_points(points))

    def finish(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def search(self, query: Vectors, ef: int, tenant: int | None = None, way: str = "") -> Sequence[int]:
        qdrant = self._qdrant
        mine = None
        if tenant is not None:
            mine = qdrant.Filter(must=[qdrant.FieldCondition("tenant", match=qdrant.MatchValue(tenant))])
        acorn = {"acorn": qdrant.AcornSearchParams(enable=True)} if way.startswith(ACORN) else {}
        request = qdrant.SearchRequest(
            qdrant.Query.Nearest(query.tolist()), K, params=qdrant.SearchParams(hnsw_ef=ef, **acorn), filter=mine
        )
        return [int(point.id) for point in self._shard.search(request)]

    def delete(self, ids: Numbers) -> None:
        self._shard.update(self._qdrant.UpdateOperation.delete_points(ids.tolist()))

    def upkeep(self) -> None:
        self.finish()

    def save(self) -> None:
        self._shard.flush()

    def close(self) -> None:
        self._shard.close()

    def count_of(self, ids: Numbers) -> int:
        return len(self._shard.retrieve(ids.tolist(), with_payload=False, with_vector=False))


class BareEdgeStore(EdgeStore):
    """The same as a program has it that has read about vectors and not about filters."""

    settings = "full_scan_threshold 10 KB, the least, and no payload index"
    ways = (f"{NO_INDEX}, threshold 10 KB", f"{ACORN}, threshold 10 KB", f"{AFTER}, threshold 10 KB")
    threshold = 10
    payload_index = False

    def search(self, query: Vectors, ef: int, tenant: int | None = None, way: str = "") -> Sequence[int]:
        if way.startswith(AFTER) and not self.payload_index:
            self.payload_index = True
            self._index_payload()
            self.finish()
        return super().search(query, ef, tenant, way)


STORES: dict[str, tuple[str, Callable[..., Store]]] = {
    "qdrant-edge": ("qdrant_edge", EdgeStore),
    "hnswlib": ("hnswlib", HnswlibStore),
    "faiss": ("faiss", FaissStore),
}
"""Name in the tables: the module that must be there, and the class."""
PACKAGES = {"qdrant-edge": "qdrant-edge-py", "hnswlib": "hnswlib", "faiss": "faiss-cpu"}


def version_of(name: str) -> str:
    """The installed version of an engine."""
    return version(PACKAGES[name])
