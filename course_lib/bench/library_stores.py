"""hnswlib and faiss as stores: what a program has to add to a library."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from course_lib.bench.engines import Faiss, Hnswlib
from course_lib.bench.points import K, Numbers, Vectors
from course_lib.bench.stores import Store
from course_lib.models import DIMENSIONS

SPARE = 20_000  # rows that may come after the first ones, for engines that have to know


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
