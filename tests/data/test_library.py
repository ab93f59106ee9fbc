"""The recipe "vectors": who owns what, and an index whose recall a lesson can raise."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
from pgvector import Vector
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from course_lib.data import library
from course_lib.data.clustered import clustered_queries
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine

NEAREST = "SELECT id FROM document_chunks ORDER BY embedding <=> :query LIMIT 10"
NEAREST_OF = """
    SELECT c.id FROM document_chunks AS c JOIN documents AS d ON d.id = c.document_id
    WHERE d.user_id = :owner ORDER BY c.embedding <=> :query LIMIT 10
"""


@pytest.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    async with fresh_database("test", "vectors") as database:
        engine = make_engine(database.url, binary_vectors=True)
        async with engine.connect() as connection:
            await connection.execute(text("SET plan_cache_mode = force_custom_plan"))
            yield connection
        await engine.dispose()


async def nearest(connection: AsyncConnection, query: np.ndarray, owner: object = None, **settings: str) -> set[object]:
    for name, value in settings.items():
        name = f"hnsw.{name}" if name in ("ef_search", "iterative_scan") else name
        await connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
    statement = NEAREST_OF if owner else NEAREST
    values = {"query": Vector(query)} | ({"owner": owner} if owner else {})
    return set((await connection.execute(text(statement), values)).scalars())


async def test_each_user_owns_its_share_and_every_cluster(connection: AsyncConnection) -> None:
    rows = await connection.execute(
        text("""
            SELECT u.name, count(*) FROM users AS u JOIN documents AS d ON d.user_id = u.id
            JOIN document_chunks AS c ON c.document_id = d.id WHERE c.embedding_model = :model GROUP BY u.name
        """),
        {"model": library.MODEL},
    )
    counts = dict(rows.all())
    assert counts == {name: round(share * library.CHUNKS) for name, share in library.SHARES.items()}
    assert sum(counts.values()) == library.CHUNKS


async def test_recall_is_low_by_default_and_can_be_raised(connection: AsyncConnection) -> None:
    queries = clustered_queries(40, of=library.CHUNKS)
    recall = {}
    exact = [await nearest(connection, query, enable_indexscan="off") for query in queries]
    for effort in ("40", "200"):
        settings = {"enable_indexscan": "on", "ef_search": effort}
        found = [await nearest(connection, query, **settings) for query in queries]
        recall[effort] = np.mean([len(a & b) / 10 for a, b in zip(found, exact, strict=True)])
    assert recall["40"] < 0.9
    assert recall["200"] > 0.95


async def test_a_filtered_search_comes_back_short_unless_it_goes_on(connection: AsyncConnection) -> None:
    small = await connection.scalar(text("SELECT id FROM users WHERE name = 'small'"))
    queries = clustered_queries(20, of=library.CHUNKS)
    short = [len(await nearest(connection, query, small, iterative_scan="off")) for query in queries]
    going_on = [len(await nearest(connection, query, small, iterative_scan="relaxed_order")) for query in queries]
    assert np.mean(short) < 5
    assert set(going_on) == {10}


async def test_the_fingerprint_is_its_own() -> None:
    from course_lib.data.seed import fingerprint

    assert library.fingerprint() == library.fingerprint() != fingerprint()
