"""One search through every layer between the index and the product, and what each of them adds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
from pgvector.asyncpg import register_vector
from sqlalchemy import Select, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.bench.report import Measurement, write_report
from course_lib.bench.shelves import MODEL, fill
from course_lib.data.clustered import Vectors, clustered_queries
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine, make_session_factory
from course_lib.models import Document, DocumentChunk
from course_lib.postgres.address import libpq_uri
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import Embedding, create_index
from course_lib.repositories.rag.search import EF_SEARCH

ROWS, QUERIES, K = 100_000, 100, 10
IN_A_ROW = 10
FEW = 20  # queries of the other tenants, for whom the wrong way takes a tenth of a second each
MOST = 1.5  # times the driver alone, for the repository
LEAST_RECALL = 0.95
SETTINGS = {"hnsw.ef_search": EF_SEARCH, "hnsw.iterative_scan": "relaxed_order"}
"""Of every connection, so that all layers search alike."""

BY_HAND = """
    SELECT c.id, c.document_id, d.source, d.title, c.chunk_index, c.content, c.embedding <=> $3 AS distance
    FROM document_chunks c JOIN documents d ON d.id = c.document_id
    WHERE d.user_id = $1 AND d.status = 'ready' AND c.embedding_model = $2
    ORDER BY c.embedding <=> $3 LIMIT 10
"""
ONE_BY_ONE = BY_HAND.replace("ORDER BY c.embedding <=> $3", "ORDER BY (c.embedding <=> $3) + 0")

Ask = Callable[[Any], Awaitable[list[UUID]]]


@dataclass
class Layer:
    """One way to ask, and what it took. ``right`` are the answers to each query, for recall."""

    what: str
    ask: Ask
    note: str = ""
    rounds: list[float] = field(default_factory=list)
    right: list[int] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return sum(self.right) / (len(self.right) * K)


def measure(quick: bool) -> None:
    """Print and write ``bench-results/searching``."""
    asyncio.run(_measure(*((20_000, 3) if quick else (ROWS, 9))))


async def _measure(rows: int, rounds: int) -> None:
    async with fresh_database("98", "migrated") as database, AsyncExitStack() as stack:
        binary = make_engine(database.url, binary_vectors=True)
        stock = make_engine(database.url)
        for engine in (binary, stock):
            event.listen(engine.sync_engine, "connect", _configure)
            stack.push_async_callback(engine.dispose)
        driver = await asyncpg.connect(libpq_uri(database.url))
        stack.push_async_callback(driver.close)
        await register_vector(driver)
        await driver.execute("; ".join(f"SET {name} = {value}" for name, value in SETTINGS.items()))
        users = await fill(binary, rows)
        await create_index(binary, concurrently=False)
        await driver.execute("VACUUM ANALYZE")
        bench = Searching(driver, binary, stock, clustered_queries(QUERIES, of=rows), rounds, stack)
        found = [*await bench.large(users["large"]), *await bench.others(users)]
    write_report("searching", f"The nearest {K} of {rows:,} passages, through every layer", found)


def _configure(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for name, value in SETTINGS.items():
        cursor.execute(f"SET {name} = {value}")
    connection.commit()
    cursor.close()


class Searching:
    """The layers take turns, ten questions each, and each comes first as often.

    Ten in a row, because the first on a connection that stood idle pays for waking its server process. The median
    leaves it out. In turns, because what else the machine does then falls on all alike.
    """

    def __init__(
        self,
        driver: asyncpg.Connection[Any],
        binary: AsyncEngine,
        stock: AsyncEngine,
        queries: Vectors,
        rounds: int,
        stack: AsyncExitStack,
    ) -> None:
        self.driver, self.binary, self.stock = driver, binary, stock
        self.queries, self.rounds, self.stack = queries, rounds, stack

    async def large(self, user_id: UUID) -> list[Measurement]:
        """All layers, for the tenant with 59% of the passages."""
        layers = [
            Layer("asyncpg, the statement by hand", self._by_driver(user_id, BY_HAND)),
            *await self._held(user_id),
            Layer("repository, a new session each time", self._by_new_session(user_id), "BEGIN and ROLLBACK too"),
            Layer("asyncpg, a transaction each time", self._by_driver_transaction(user_id)),
        ]
        server = await self._on_the_server(user_id)
        await self._run(layers, await self._truth(user_id))
        for before, layer in zip([None, *layers], layers, strict=False):
            added = "" if before is None else f"{(median(layer.rounds) - server) * 1000:.2f} ms above the server"
            layer.note = ", ".join(part for part in (f"recall {layer.recall:.3f}", added, layer.note) if part)
        times = {layer.what: layer for layer in layers}
        repository, alone = times["repository"], layers[0]
        return [
            Measurement("server: EXPLAIN ANALYZE", server, server, server, QUERIES, note="planning and execution"),
            *(Measurement.of(layer.what, layer.rounds, note=layer.note) for layer in layers),
            _ratio("repository, of the driver alone", repository, alone, MOST),
            _ratio("repository in a new session, of the driver with a transaction", layers[-2], layers[-1]),
            Measurement.of("recall through the repository", [repository.recall], LEAST_RECALL, "", "recall", True),
        ]

    async def others(self, users: dict[str, UUID]) -> list[Measurement]:
        """Other tenants: the repository against the better way by hand, which somebody has to know."""
        found = []
        for name in ("middle", "tenth", "small", "tiny"):
            user_id = users[name]
            layers = [
                Layer("by the index", self._by_driver(user_id, BY_HAND)),
                Layer("one by one", self._by_driver(user_id, ONE_BY_ONE)),
                Layer("repository", self._by_repository(user_id, await self._session(self.binary))),
            ]
            await self._run(layers, await self._truth(user_id, FEW))
            found += [
                Measurement.of(f"tenant {name}: {layer.what}", layer.rounds, note=f"recall {layer.recall:.3f}")
                for layer in layers
            ]
        return found

    async def _run(self, layers: Sequence[Layer], truth: list[set[UUID]]) -> None:
        """Medians of each round, after a round that opens connections and fills caches."""
        for turn in range(self.rounds + 1):
            seconds: dict[str, list[float]] = {layer.what: [] for layer in layers}
            for start in range(0, len(truth), IN_A_ROW):
                for place in range(len(layers)):
                    layer = layers[(turn + start // IN_A_ROW + place) % len(layers)]
                    for number in range(start, min(start + IN_A_ROW, len(truth))):
                        began = perf_counter()
                        answer = await layer.ask(self.queries[number])
                        seconds[layer.what].append(perf_counter() - began)
                        layer.right.append(len(truth[number].intersection(answer)))
            if turn:
                for layer in layers:
                    layer.rounds.append(median(seconds[layer.what]))

    async def _truth(self, user_id: UUID, count: int = QUERIES) -> list[set[UUID]]:
        ask = self._by_driver(user_id, ONE_BY_ONE)
        return [set(await ask(query)) for query in self.queries[:count]]

    async def _on_the_server(self, user_id: UUID) -> float:
        """Median seconds of planning and execution, as the server says."""
        seconds = []
        for query in self.queries:
            rows = await self.driver.fetch(
                f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {BY_HAND}", user_id, MODEL, query
            )
            plan = json.loads(rows[0][0])[0]
            seconds.append((plan["Planning Time"] + plan["Execution Time"]) / 1000)
        return float(median(seconds))

    # the layers

    def _by_driver(self, user_id: UUID, sql: str) -> Ask:
        async def ask(query: Any) -> list[UUID]:
            return [row["id"] for row in await self.driver.fetch(sql, user_id, MODEL, query)]

        return ask

    def _by_driver_transaction(self, user_id: UUID) -> Ask:
        ask_plainly = self._by_driver(user_id, BY_HAND)

        async def ask(query: Any) -> list[UUID]:
            async with self.driver.transaction():
                return await ask_plainly(query)

        return ask

    async def _held(self, user_id: UUID) -> list[Layer]:
        """Layers on a session or connection that is open already, in a transaction."""
        connection = await self.stack.enter_async_context(self.binary.connect())

        async def by_core(query: Any) -> list[UUID]:
            return [row.id for row in await connection.execute(_columns(user_id, query))]

        binary, stock, other = [await self._session(engine) for engine in (self.binary, self.stock, self.binary)]
        return [
            Layer("Core, binary vectors", by_core),
            Layer("ORM entities, binary vectors", _by_orm(user_id, binary), "reads the vectors too"),
            Layer("ORM entities, vectors as text", _by_orm(user_id, stock), "reads the vectors too"),
            Layer("repository", self._by_repository(user_id, other)),
        ]

    async def _session(self, engine: AsyncEngine) -> AsyncSession:
        session = await self.stack.enter_async_context(make_session_factory(engine)())
        await session.execute(text("SELECT 1"))
        return session

    def _by_repository(self, user_id: UUID, session: AsyncSession) -> Ask:
        rag = RagRepository(session)

        async def ask(query: Any) -> list[UUID]:
            return [passage.id for passage in await rag.search(user_id, Embedding(query, MODEL), K)]

        return ask

    def _by_new_session(self, user_id: UUID) -> Ask:
        sessions = make_session_factory(self.binary)

        async def ask(query: Any) -> list[UUID]:
            async with sessions() as session:
                found = await RagRepository(session).search(user_id, Embedding(query, MODEL), K)
                return [passage.id for passage in found]

        return ask


def _ratio(what: str, layer: Layer, alone: Layer, limit: float | None = None) -> Measurement:
    """Of the medians of all rounds, each of which asked both in turn."""
    ratio = median(layer.rounds) / median(alone.rounds)
    rounds = [mine / theirs for mine, theirs in zip(layer.rounds, alone.rounds, strict=True)]
    note = f"of the medians; in single rounds {min(rounds):.2f} to {max(rounds):.2f}"
    return Measurement(what, ratio, ratio, ratio, len(rounds), limit, note, "times")


def _columns(user_id: UUID, query: Any) -> Select[Any]:
    distance = DocumentChunk.embedding.cosine_distance(query)
    chunk = DocumentChunk
    columns = (chunk.id, chunk.document_id, Document.source, Document.title, chunk.chunk_index, chunk.content, distance)
    return _scoped(select(*columns), user_id).order_by(distance).limit(K)


def _by_orm(user_id: UUID, session: AsyncSession) -> Ask:
    async def ask(query: Any) -> list[UUID]:
        distance = DocumentChunk.embedding.cosine_distance(query)
        entities = select(DocumentChunk, Document.source, Document.title, distance)
        rows = (await session.execute(_scoped(entities, user_id).order_by(distance).limit(K))).all()
        session.expunge_all()  # or the second time nothing would be built
        return [row[0].id for row in rows]

    return ask


def _scoped(statement: Select[Any], user_id: UUID) -> Select[Any]:
    return statement.join(Document, Document.id == DocumentChunk.document_id).where(
        Document.user_id == user_id, Document.status == "ready", DocumentChunk.embedding_model == MODEL
    )
