"""Searching passages: the right ones, only the user's own, in one statement, by whichever way suits the size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import URL, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.data.fresh import FreshDatabase, make_database
from course_lib.db import copy_rows, make_engine, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.models import Document, DocumentChunk, User
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import INDEX, Embedding, create_index, embed_question
from course_lib.repositories.rag import search as searching

MODEL = "drawn-by-lot"
COLUMNS = ["document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model"]
CHUNKS = 10
OWNERS = {"large": 160, "middle": 130, "small": 9, "tiny": 1}
"""Documents of each, with ten passages: 3,000 in all."""

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def vectors(count: int, seed: int) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((count, 256)).astype(np.float32)
    drawn += np.repeat(np.random.default_rng(1).standard_normal((20, 256)).astype(np.float32), -(-count // 20), 0)[
        :count
    ]
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


async def build_library(url: URL) -> None:
    """The owners' documents, vectors independent of the owner, and the index."""
    engine = make_engine(url, binary_vectors=True)
    chance = np.random.default_rng(3)
    owners = chance.permutation([name for name, count in OWNERS.items() for _ in range(count)])
    drawn = vectors(len(owners) * CHUNKS, 2)[chance.permutation(len(owners) * CHUNKS)]
    day = datetime(2026, 1, 1, tzinfo=UTC)
    async with make_session_factory(engine).begin() as session:
        users = {name: User(email=f"{name}@example.org", name=name) for name in OWNERS}
        session.add_all(users.values())
        await session.flush()
        documents = [
            Document(
                id=uuid4(), user_id=users[owner].id, source=f"{n}", title=f"Title {n}", status="ready",
                created_at=day, updated_at=day + timedelta(days=n % 10),
            )
            for n, owner in enumerate(owners)
        ]  # fmt: skip
        session.add_all(documents)
        rows = (
            (document.id, index, f"{document.source}/{index}", 3, drawn[n * CHUNKS + index], MODEL)
            for n, document in enumerate(documents)
            for index in range(CHUNKS)
        )
        await copy_rows(session, DocumentChunk, COLUMNS, rows)
    assert await create_index(engine, m=8, concurrently=False)
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    await engine.dispose()


@pytest.fixture(scope="module")
def library() -> Iterator[URL]:
    """Built once for this module, because no test changes it."""

    async def build() -> FreshDatabase:
        database = await make_database("99", "migrated")
        await build_library(database.url)
        return database

    database = asyncio.run(build())
    yield database.url
    asyncio.run(database.drop())


@pytest.fixture
async def shelves(library: URL) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = make_engine(library, binary_vectors=True)
    yield make_session_factory(engine)
    await engine.dispose()


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a library of 3,000 passages an owner is large from 50, and the index pays."""
    monkeypatch.setattr(searching, "EXACT_UP_TO", 50)
    searching.search_statement.cache_clear()
    yield
    searching.search_statement.cache_clear()


def question(seed: int = 9) -> Embedding:
    return Embedding(vectors(20, seed)[seed % 20], MODEL)


async def owner(session: AsyncSession, name: str) -> UUID:
    found = await session.scalar(select(User.id).where(User.name == name))
    assert found is not None
    return found


async def brute_force(session: AsyncSession, user_id: UUID, asked: Embedding, *conditions: Any) -> list[UUID]:
    """All of the user's passages, in order, computed here."""
    rows = (
        await session.execute(
            select(DocumentChunk.id, DocumentChunk.embedding)
            .join(Document)
            .where(Document.user_id == user_id, DocumentChunk.embedding_model == asked.model, *conditions)
        )
    ).all()
    distances = 1 - np.float32([row.embedding for row in rows]) @ asked.vector
    return [rows[place].id for place in np.argsort(distances)]


@pytest.mark.parametrize("name", OWNERS)
async def test_the_nearest_ten_for_everybody(name: str, shelves: async_sessionmaker[AsyncSession]) -> None:
    async with shelves() as session:
        user_id = await owner(session, name)
        for seed in range(5):
            found = await RagRepository(session).search(user_id, question(seed))
            assert [passage.id for passage in found] == (await brute_force(session, user_id, question(seed)))[:10]
            assert [passage.distance for passage in found] == sorted(passage.distance for passage in found)


@pytest.mark.parametrize("name", ["large", "middle", "small"])
@pytest.mark.soak(after=1)
async def test_by_the_index_everybody_gets_ten_and_nearly_all_are_right(
    name: str, small_limit: None, shelves: async_sessionmaker[AsyncSession]
) -> None:
    """``small`` has 3% of the rows: ef_search alone would give three."""
    right = 0
    async with shelves() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))  # 3,000 rows are read faster than an index
        user_id = await owner(session, name)
        for seed in range(20):
            found = await RagRepository(session).search(user_id, question(seed))
            assert len(found) == 10
            true = (await brute_force(session, user_id, question(seed)))[:10]
            right += len({passage.id for passage in found} & set(true))
    assert right >= 0.9 * 200


async def index_scans(session: AsyncSession) -> int:
    await session.execute(text("SELECT pg_stat_force_next_flush()"))
    await session.commit()
    scans = await session.scalar(
        text("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = :n"), {"n": INDEX}
    )
    await session.commit()
    return scans or 0


async def test_the_index_is_read_for_large_owners_only(
    small_limit: None, shelves: async_sessionmaker[AsyncSession]
) -> None:
    async with shelves() as session:
        ids = {name: await owner(session, name) for name in OWNERS}
        await session.commit()
        read = {}
        for name, user_id in ids.items():
            before = await index_scans(session)
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            await RagRepository(session).search(user_id, question())
            await session.commit()
            read[name] = await index_scans(session) - before
            before = await index_scans(session)
            await RagRepository(session).search(user_id, question(), exact=True)
            assert await index_scans(session) == before
    assert read == {"large": 1, "middle": 1, "small": 1, "tiny": 0}


async def test_an_owner_of_few_long_documents_is_large_too(
    small_limit: None, shelves: async_sessionmaker[AsyncSession]
) -> None:
    """The table's average says ten passages each; this one has 200."""
    async with shelves() as session:
        user = User(email="one@example.org", name="one")
        session.add(user)
        await session.flush()
        document = Document(user_id=user.id, source="long", title="Long", status="ready")
        session.add(document)
        await session.flush()
        drawn = vectors(200, 5)
        rows = [(document.id, n, "x", 1, drawn[n], MODEL) for n in range(200)]
        await copy_rows(session, DocumentChunk, COLUMNS, rows)
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        for seed in range(8):  # beyond five the server may keep one plan for all users
            asked = Embedding(drawn[seed], MODEL)
            found = await RagRepository(session).search(user.id, asked, ef_search=400)
            true = (await brute_force(session, user.id, asked))[:10]
            assert len({passage.id for passage in found} & set(true)) >= 8 and len(found) == 10
        settings = await session.scalar(text("SELECT current_setting('hnsw.iterative_scan')"))
        assert settings == "relaxed_order"  # what only the index's branch sets
        await session.rollback()


async def test_the_settings_end_with_the_transaction(
    small_limit: None, shelves: async_sessionmaker[AsyncSession]
) -> None:
    now = text("SELECT current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')")
    async with shelves() as session:
        user_id = await owner(session, "large")
        await RagRepository(session).search(user_id, question(), ef_search=77)
        assert tuple((await session.execute(now)).one()) == ("77", "relaxed_order")
        await session.commit()
        assert tuple((await session.execute(now)).one()) == ("40", "off")


@pytest.mark.parametrize("exact", [True, False])
async def test_one_statement_and_one_round_trip(exact: bool, shelves: async_sessionmaker[AsyncSession]) -> None:
    async with shelves() as session:
        user_id = await owner(session, "large")
        with QueryLog(session.bind) as log:
            await RagRepository(session).search(
                user_id, question(), since=datetime(2026, 1, 3, tzinfo=UTC), ef_search=50, exact=exact
            )
        assert (log.count, log.rows) == (1, 10)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", ["large", "small"])
async def test_a_choice_of_documents_and_a_date_narrow_it(
    name: str, exact: bool, shelves: async_sessionmaker[AsyncSession]
) -> None:
    day = datetime(2026, 1, 6, tzinfo=UTC)
    async with shelves() as session:
        user_id = await owner(session, name)
        rag = RagRepository(session)
        mine = list(await session.scalars(select(Document.id).where(Document.user_id == user_id).limit(4)))
        others = list(await session.scalars(select(Document.id).where(Document.user_id != user_id).limit(4)))
        chosen, late = DocumentChunk.document_id.in_(mine), Document.updated_at >= day
        for narrow, conditions in (
            ({"document_ids": [*mine, *others]}, [chosen]),
            ({"since": day}, [late]),
            ({"document_ids": set(mine), "since": day}, [chosen, late]),
        ):
            found = await rag.search(user_id, question(), exact=exact, **narrow)
            assert [p.id for p in found] == (await brute_force(session, user_id, question(), *conditions))[:10]
        assert await rag.search(user_id, question(), document_ids=[], exact=exact) == []
        assert await rag.search(user_id, question(), document_ids=others, exact=exact) == []
        assert await rag.search(user_id, question(), since=datetime.now(UTC) + timedelta(1), exact=exact) == []


@pytest.mark.parametrize("limit", ["small", "usual", "exact"])
async def test_vectors_of_another_model_and_documents_in_the_making_are_not_found(
    limit: str, shelves: async_sessionmaker[AsyncSession], request: pytest.FixtureRequest
) -> None:
    if limit == "small":
        request.getfixturevalue("small_limit")
    async with shelves() as session:
        user_id = await owner(session, "large")
        rag = RagRepository(session)
        nearest = (await rag.search(user_id, question()))[0]
        await session.execute(
            update(DocumentChunk).where(DocumentChunk.id == nearest.id).values(embedding_model="another")
        )
        now = await rag.search(user_id, question(), exact=limit == "exact")
        assert nearest.id not in {passage.id for passage in now}
        [alone] = await rag.search(user_id, Embedding(question().vector, "another"), exact=limit == "exact")
        assert alone.id == nearest.id
        await session.execute(update(Document).where(Document.id == now[0].document_id).values(status="processing"))
        later = await rag.search(user_id, question(), exact=limit == "exact")
        assert now[0].document_id not in {passage.document_id for passage in later}
        assert await rag.search(user_id, Embedding(question().vector, "a third")) == []


async def test_a_passage_says_where_it_stands(shelves: async_sessionmaker[AsyncSession]) -> None:
    async with shelves() as session:
        [found] = await RagRepository(session).search(await owner(session, "tiny"), question(), k=1)
        chunk = await session.get_one(DocumentChunk, found.id)
        document = await session.get_one(Document, found.document_id)
        assert (found.source, found.title, found.chunk_index) == (document.source, document.title, chunk.chunk_index)
        assert (found.content, chunk.document_id) == (chunk.content, document.id)
        assert found.distance == pytest.approx(1 - np.float32(chunk.embedding) @ question().vector, abs=1e-5)


@pytest.mark.parametrize("k", [1, 7, 100])
async def test_k_of_them_or_as_many_as_there_are(k: int, shelves: async_sessionmaker[AsyncSession]) -> None:
    async with shelves() as session:
        rag = RagRepository(session)
        assert len(await rag.search(await owner(session, "large"), question(), k=k)) == k
        assert len(await rag.search(await owner(session, "tiny"), question(), k=k)) == min(k, 10)
        assert await rag.search(uuid4(), question(), k=k) == []


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "10"])
async def test_what_is_no_number_of_passages(k: Any, shelves: async_sessionmaker[AsyncSession]) -> None:
    async with shelves() as session:
        with pytest.raises(CourseError, match="k is how many passages"):
            await RagRepository(session).search(uuid4(), question(), k=k)


async def test_with_the_stock_type_and_without_an_index(engine: AsyncEngine) -> None:
    """As lesson 04 begins: vectors as text, no index yet. Real texts, and the offline model."""
    asked = await embed_question("Which oven bakes evenly?")
    async with make_session_factory(engine)() as session:
        user_id = await owner_of(session, "bruno")
        found = await RagRepository(session).search(user_id, asked, k=5)
        assert [p.id for p in found] == (await brute_force(session, user_id, asked))[:5]


async def owner_of(session: AsyncSession, slug: str) -> UUID:
    found = await session.scalar(select(User.id).where(User.email == f"{slug}@example.org"))
    assert found is not None
    return found


async def test_a_text_is_embedded_first_unless_a_transaction_would_wait(binary: AsyncEngine) -> None:
    async with make_session_factory(binary)() as session:
        user_id = await owner_of(session, "bruno")
        rag = RagRepository(session)
        with pytest.raises(CourseError, match="keep its connection") as caught:
            await rag.search(user_id, "Which oven bakes evenly?")
        assert "await embed_question" in caught.value.mend
        await session.commit()
        by_text = await rag.search(user_id, "Which oven bakes evenly?")
        by_vector = await rag.search(user_id, await embed_question("Which oven bakes evenly?"))
        assert by_text == by_vector and len(by_text) == 10
