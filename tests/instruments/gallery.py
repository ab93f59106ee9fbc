"""One picture of each kind, with names as long as lessons have them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import joinedload, selectinload

from course_lib.instruments import (
    PoolGauge,
    QueryLog,
    Stage,
    Traffic,
    bars,
    bytes_and_recall,
    curves,
    distance_lanes,
    draw_schema,
    explain,
    grid,
    hnsw_graph,
    index_pages,
    intervals,
    page_walk,
    panels,
    read_schema,
    recall_curve,
    result_shapes,
    size_steps,
    spans,
    vector_plane,
    waterfalls,
)
from course_lib.instruments.pictures import Picture
from course_lib.instruments.vectors.hnsw.picture import draw as draw_hnsw
from course_lib.models import Conversation, Document, DocumentChunk, User
from course_lib.repositories.rag.evaluation import Estimate

WAYS = ("HNSW, filter after", "iterative, strict", "B-tree, then exact")
TEN = select(Conversation).order_by(Conversation.id).limit(10)
NEAREST = (
    select(DocumentChunk.id)
    .join(Document)
    .where(DocumentChunk.token_count > 1, Document.title != "?")
    .order_by(DocumentChunk.embedding.cosine_distance([0.1] * 256))
    .limit(5)
)


async def logs(engine: AsyncEngine) -> dict[str, QueryLog]:
    found = {}
    for name, option in (("joinedload", joinedload), ("selectinload", selectinload)):
        with QueryLog(engine) as found[name]:
            async with async_sessionmaker(engine)() as session:
                (await session.scalars(TEN.options(option(Conversation.messages)))).unique().all()
    return found


async def stage(engine: AsyncEngine) -> Stage:
    add = "UPDATE users SET tokens_used = tokens_used + 10 WHERE email = :email"
    async with Stage(engine) as scene:
        ada, bruno, chidi = scene.actors("Ada", "Bruno", "Chidi", isolation_level="REPEATABLE READ")
        await chidi("SELECT count(*) FROM users")
        await ada(add, email="ada@example.org")
        await bruno(add, email="ada@example.org")
        await ada.commit()
    return scene


async def gauge(engine: AsyncEngine) -> PoolGauge:
    async def request() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.01)"))

    with PoolGauge(engine) as gauge:
        await asyncio.gather(*(request() for _ in range(20)))
    return gauge


async def plan(engine: AsyncEngine) -> Picture:
    async with engine.connect() as connection:
        await connection.execute(text("CREATE INDEX document_chunks_embedding_hnsw_cosine ON document_chunks "
                                      "USING hnsw (embedding vector_cosine_ops)"))  # fmt: skip
        for setting in ("enable_sort", "enable_seqscan", "enable_hashjoin"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))
        return (await explain(connection, NEAREST, analyze=True)).plot()


async def curve_of_recall(engine: AsyncEngine) -> Picture:
    queries = np.random.default_rng(4).normal(size=(4, 256))
    return await recall_curve(engine, DocumentChunk.embedding, queries, ef_search=(10, 40))


def groups(dimensions: int, size: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    names = ("Ada", "Bruno", "Chidi", "Dagny", "Emeka", "Farah")
    return {name: random.normal(size=(size, dimensions)) + 3 * random.normal(size=dimensions) for name in names}


async def as_it_is(picture: Picture) -> Picture:
    return picture


Draw = Callable[[AsyncEngine], Awaitable[Picture]]


async def waterfall(engine: AsyncEngine) -> Picture:
    return (await logs(engine))["joinedload"].plot()


async def several_waterfalls(engine: AsyncEngine) -> Picture:
    return waterfalls(await logs(engine))


async def shapes(engine: AsyncEngine) -> Picture:
    return result_shapes(await logs(engine))


async def swim_lanes(engine: AsyncEngine) -> Picture:
    return (await stage(engine)).plot()


async def pool(engine: AsyncEngine) -> Picture:
    return (await gauge(engine)).plot()


async def traffic(engine: AsyncEngine) -> Picture:
    """A change that waits for a reader, and everybody for it."""
    sql = (
        "ALTER TABLE messages ADD COLUMN opened_by text NOT NULL DEFAULT gen_random_uuid()::text, ADD COLUMN note text"
    )
    looks = {"the version that is out": "SELECT content FROM messages WHERE id = :id"}
    async with engine.connect() as reading, Traffic(engine, "messages", readers=looks, inserters=2) as seen:
        await reading.execute(text("SELECT content FROM messages"))
        async with engine.connect() as changing:
            change = asyncio.create_task(changing.execute(text(sql)))
            await asyncio.sleep(0.1)
            await reading.rollback()
            await change
            await changing.commit()
        async with engine.begin() as dropping:
            await dropping.execute(text("ALTER TABLE messages DROP COLUMN content"))
    return seen.plot("ADD COLUMN behind one reader who has not committed")


async def schema(engine: AsyncEngine) -> Picture:
    return draw_schema(await read_schema(engine))


async def whole_plan(engine: AsyncEngine) -> Picture:
    return (await explain(engine, select(User).options(joinedload(User.documents)))).plot()


def still(draw: Callable[[], Picture]) -> Draw:
    """A picture that is drawn without a database."""
    return lambda engine: as_it_is(draw())


ESTIMATES = {"words beside": Estimate(0.07, 0.03, 0.11), "places": Estimate(0.01, -0.05, 0.07)}
KEPT = {"vector": (12_700_000, 0.99), "bits": (2_000_000, 0.55), "bits, 320 re-ranked": (12_600_000, 0.98)}
GRAPH = hnsw_graph(groups(20, 6))
GALLERY: dict[str, Draw] = {
    "bars": still(lambda: bars({"COPY": 70_000, "commit_each": 12}, "Rows", unit="rows a second", note="a note")),
    "spans": still(lambda: spans({"one thread": [[("database", 0.0, 0.1), ("waiting for the model", 0.1, 2)]]}, "Ask")),
    "pages": still(lambda: page_walk([[1, 2, 3], [3, 4, 5]], range(1, 7), "Pages by OFFSET, without an order")),
    "panels": still(lambda: panels({way: {"rows of 10": 9.96, "recall": 0.9} for way in WAYS}, "A", note="cold")),
    "curves": still(lambda: curves({"holding on 15": {1: 3, 30: 412.5}}, "Waits", x="n", y="ms", mark=("enough", 9))),
    "intervals": still(lambda: intervals(ESTIMATES, "Gains", mark=("no difference", 0), note="120 questions")),
    "grid": still(lambda: grid({way: {"stored": "$3 {x}", "lent": 1} for way in WAYS}, "A", bad={1}, corner="way")),
    "points": still(lambda: vector_plane(groups(40, 20), [0.5] * 40, nearest=[("Ada", 2)], title="Six of them")),
    "arrows": still(lambda: vector_plane(groups(2, 1), [1, 2], title="Which arrow is nearest?")),
    "hnsw": still(lambda: draw_hnsw(hnsw_graph(groups(20, 6)))),
    "hnsw search": still(lambda: draw_hnsw(GRAPH, GRAPH.search([0.5] * 20, k=3))),
    "lanes": still(lambda: distance_lanes([("Ada", 0.2), ("Bruno Castellani", 0.5), ("Chidi", 1.1)], asker="Chidi")),
    "index pages": still(lambda: index_pages([256, 1024, 2000])),
    "size steps": still(lambda: size_steps({"vector": {1024: 8197}, "bit": {3000: 700}})),
    "bytes and recall": still(lambda: bytes_and_recall(KEPT)),
    "recall": curve_of_recall,
    "waterfall": waterfall,
    "waterfalls": several_waterfalls,
    "shapes": shapes,
    "stage": swim_lanes,
    "pool": pool,
    "traffic": traffic,
    "schema": schema,
    "plan": plan,
    "tree": whole_plan,
}
