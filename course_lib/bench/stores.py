"""Engines as a program lives with them: filled, searched within a tenant, changed, saved, opened again.

``engines`` asks how fast a graph is searched. Here each engine is set up as its documentation says, the source beside
the setting, and does what it does by itself: what it has no means for is done as its documentation advises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from course_lib.bench.chunk_table import EF_CONSTRUCTION, M
from course_lib.bench.points import K, Numbers, Vectors
from course_lib.models import DIMENSIONS


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
