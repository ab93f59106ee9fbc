"""Search within one tenant's rows: what each way returns, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter

from sqlalchemy import URL

from course_lib.bench.chunk_table import (
    MODEL,
    TABLE,
    Connection,
    build_index,
    indexes_used,
    search_all,
    search_text,
    under,
    user_id,
)
from course_lib.bench.points import SHARES, TARGET, Found, Numbers, Points, Series, Vectors
from course_lib.bench.report import seconds_text, write_table
from course_lib.db import make_engine, make_session_factory
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import Embedding

QUERIES = 100
BIG_SHARE = 0.1  # an index of its own for more than that takes as long to build as a good part of the whole
SMALL_TABLE = 100_000  # rows up to which that is done nevertheless
BY_GRAPH = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}
BY_B_TREE = {"enable_indexscan": "off"}  # the bitmap of a B-tree stays allowed; HNSW has none
REPOSITORY = "RagRepository.search()"
HEAD = ["share", "way", "rows of 10", "recall", "p50", "p95", "built in", "index in the plan"]


@dataclass(frozen=True)
class Filtered:
    """One way for one tenant. ``index`` is what the plan used; ``build`` seconds for what the way needs besides."""

    share: float
    way: str
    found: Found
    index: str
    build: float | None = None

    @property
    def row(self) -> list[str]:
        found, build = self.found, "" if self.build is None else seconds_text(self.build)
        times = [seconds_text(found.p50), seconds_text(found.p95)]
        return [f"{self.share:.1%}", self.way, f"{found.rows:.1f}", f"{found.recall:.3f}", *times, build, self.index]


class Filters:
    """The ways on one table that has an HNSW index over all rows, and no other on tenant_id."""

    def __init__(self, connection: Connection, points: Points, ef_search: int) -> None:
        self._connection = connection
        self._points = points
        self._queries: Vectors = points.queries[:QUERIES]
        self._ef_search = ef_search
        self._truth: dict[int, Numbers] = {t: points.nearest(self._queries, t) for t in SHARES}

    async def measure(self, url: URL) -> list[Filtered]:
        """All ways for all tenants, by share and then from the plainest way on."""
        found: list[Filtered] = []
        async with under(self._connection, {"plan_cache_mode": "force_custom_plan"}):
            for tenant in SHARES:
                found += [await self._search(tenant, way, {**BY_GRAPH, **more}) for way, more in self._graph_ways()]
            found += await self.by_repository(url)
            found += await self._by_b_tree()
            for tenant in self._tenants_with_their_own():
                found += [await self._partial_index(tenant), await self._partition(tenant)]
        return sorted(found, key=lambda one: -one.share)

    def _graph_ways(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        yield "HNSW, iterative scan off", {"hnsw.iterative_scan": "off"}
        yield "HNSW, relaxed_order", {"hnsw.iterative_scan": "relaxed_order"}
        yield "HNSW, strict_order", {"hnsw.iterative_scan": "strict_order"}
        raised = {"hnsw.max_scan_tuples": self._points.rows, "hnsw.scan_mem_multiplier": 100}
        yield "HNSW, relaxed_order, limits raised", {"hnsw.iterative_scan": "relaxed_order", **raised}

    async def _search(
        self,
        tenant: int,
        way: str,
        settings: Mapping[str, object],
        table: str = TABLE,
        build: float | None = None,
    ) -> Filtered:
        text = search_text(f"WHERE tenant_id = {tenant}", table)
        async with under(self._connection, {"hnsw.ef_search": self._ef_search, **settings}):
            index = await indexes_used(self._connection, text, self._queries[0])
            found = await search_all(self._connection, text, self._queries, self._truth[tenant])
        return Filtered(SHARES[tenant], way, found, index, build)

    async def by_repository(self, url: URL) -> list[Filtered]:
        """The product's own search, by user and not by tenant_id, a new session for each; whole passages come back."""
        engine = make_engine(url, binary_vectors=True)
        sessions, found = make_session_factory(engine), []
        for tenant in SHARES:
            for queries in (self._queries[:10], self._queries):  # a few before, untimed
                series = Series(self._truth[tenant])
                for query in queries:
                    began = perf_counter()
                    async with sessions() as session:
                        passages = await RagRepository(session).search(user_id(tenant), Embedding(query, MODEL))
                    series.note(began, [passage.id.int for passage in passages])
            found.append(Filtered(SHARES[tenant], REPOSITORY, series.found(), "as it chooses"))
        await engine.dispose()
        return found

    async def _by_b_tree(self) -> list[Filtered]:
        await self._connection.execute(f"CREATE INDEX {TABLE}_tenant ON {TABLE} (tenant_id)")
        await self._connection.execute(f"ANALYZE {TABLE}")
        found = []
        for tenant in SHARES:
            found.append(await self._search(tenant, "B-tree, then exact", BY_B_TREE))
            found.append(await self._search(tenant, "B-tree and HNSW, the planner's choice", {}))
        await self._connection.execute(f"DROP INDEX {TABLE}_tenant")
        return found

    def _tenants_with_their_own(self) -> list[int]:
        small = self._points.rows <= SMALL_TABLE
        return [tenant for tenant, share in SHARES.items() if small or share <= BIG_SHARE]

    async def _partial_index(self, tenant: int) -> Filtered:
        name = f"{TABLE}_of_{tenant}"
        build = await build_index(self._connection, name, TABLE, f"WHERE tenant_id = {tenant}")
        found = await self._search(tenant, "partial HNSW index", {}, build=build)
        await self._connection.execute(f"DROP INDEX {name}")
        return found

    async def _partition(self, tenant: int) -> Filtered:
        """A partition for the tenant, with an HNSW index of its own; the rest of the table need not be there."""
        await self._connection.execute(
            f"CREATE TABLE parted (LIKE {TABLE} INCLUDING DEFAULTS) PARTITION BY LIST (tenant_id)"
        )
        part = f"parted_{tenant}"
        await self._connection.execute(f"CREATE TABLE {part} PARTITION OF parted FOR VALUES IN ({tenant})")
        await self._connection.execute(f"INSERT INTO parted SELECT * FROM {TABLE} WHERE tenant_id = {tenant}")
        build = await build_index(self._connection, f"{part}_embedding", part)
        await self._connection.execute("ANALYZE parted")
        found = await self._search(tenant, "partition with its HNSW index", {}, "parted", build)
        await self._connection.execute("DROP TABLE parted")
        return found


def write_filters(points: Points, ef_search: int, found: list[Filtered], memory: str) -> None:
    """The table ``bench-results/filters-…``."""
    notes = [
        f"ef_search {ef_search}, the smallest that finds {TARGET:.0%} without a filter; {memory}.",
        "Ways by HNSW are forced (no sequential scan, no sort), so that the way is measured and not the planner.",
        "tenant_id stands in the table of passages; the repository goes by the documents' user_id instead.",
        "Limits raised: hnsw.max_scan_tuples to all rows, hnsw.scan_mem_multiplier to 100.",
    ]
    if points.rows > SMALL_TABLE:
        notes.append("No index of its own for half of the rows: it takes half as long to build as the one for all.")
    content = {"rows": points.rows, "filters": [asdict(one) for one in found]}
    title = f"The ten nearest within a tenant's share of {points.rows:,} rows"
    write_table(f"filters-{points.rows}", title, HEAD, [one.row for one in found], content, notes)
