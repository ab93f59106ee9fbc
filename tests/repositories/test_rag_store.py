"""Storing documents: replaced whole or left alone, whatever happens, and with no connection while the model works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx2
import numpy as np
import openai
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.llm import EMBEDDING_MODEL, OfflineTransport, openai_client
from course_lib.models import Document, DocumentChunk, User
from course_lib.repositories import NotFound, RagRepository
from course_lib.repositories.rag import (
    INDEX,
    Embeddings,
    NewDocument,
    Stored,
    create_index,
    embed,
    embed_question,
    ingest,
    store,
)

TEXTS = ["Ropes are kept dry.", "A wet rope freezes overnight.", "Knots are checked by the second climber."]


@pytest.fixture
def sessions(binary: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(binary)


def drawn(count: int, seed: int = 1, model: str = "m") -> Embeddings:
    return Embeddings(np.random.default_rng(seed).standard_normal((count, 256)).astype(np.float32), model, [3] * count)


def document(source: str, texts: list[str] | None = None, title: str = "Ropes", **kind: object) -> NewDocument:
    texts = TEXTS if texts is None else texts
    return NewDocument(source, title, texts, drawn(len(texts), **kind))  # type: ignore[arg-type]


async def stored_chunks(sessions: async_sessionmaker[AsyncSession], document_id: UUID) -> list[DocumentChunk]:
    async with sessions() as session:
        chunks = select(DocumentChunk).where(DocumentChunk.document_id == document_id)
        return list(await session.scalars(chunks.order_by(DocumentChunk.chunk_index)))


async def put(sessions: async_sessionmaker[AsyncSession], user: User, *documents: NewDocument) -> list[Stored]:
    async with sessions.begin() as session:
        return await RagRepository(session).replace(user.id, documents)


async def test_a_new_document_is_ready_with_its_passages(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    [stored] = await put(sessions, user, document("ropes"))
    assert stored.changed
    chunks = await stored_chunks(sessions, stored.id)
    assert [(c.chunk_index, c.content, c.token_count, c.embedding_model) for c in chunks] == [
        (index, content, 3, "m") for index, content in enumerate(TEXTS)
    ]
    assert np.array_equal(np.float32([c.embedding for c in chunks]), drawn(3).vectors)
    async with sessions() as session:
        row = await session.get_one(Document, stored.id)
        assert (row.user_id, row.source, row.title, row.status) == (user.id, "ropes", "Ropes", "ready")


async def test_the_same_again_changes_nothing_but_the_title(
    binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    [first] = await put(sessions, user, document("ropes"))
    before = [chunk.id for chunk in await stored_chunks(sessions, first.id)]
    with QueryLog(binary) as log:
        [again] = await put(sessions, user, document("ropes", title="All about Ropes", seed=2))
    assert again == Stored(first.id, "ropes", changed=False)
    assert [chunk.id for chunk in await stored_chunks(sessions, first.id)] == before
    assert not any(statement.sql.startswith(("COPY", "DELETE")) for statement in log.statements)
    async with sessions() as session:
        kept = await session.get_one(Document, first.id)
        assert (kept.title, kept.updated_at) == ("All about Ropes", kept.created_at)


CHANGES = {
    "another text": document("ropes", [*TEXTS[:2], "Another."]),
    "fewer passages": document("ropes", TEXTS[:1]),
    "the same text cut otherwise": document("ropes", ["\n\n".join(TEXTS[:2]), TEXTS[2]]),
    "a border moved to another paragraph": document("ropes", [TEXTS[0], "\n\n".join(TEXTS[1:])]),
    "another model": document("ropes", model="m2", seed=2),
}


BEFORE = {"a border moved to another paragraph": ["\n\n".join(TEXTS[:2]), TEXTS[2]]}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changed_is_replaced_whole(
    change: str, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    [first] = await put(sessions, user, document("ropes", BEFORE.get(change, TEXTS)))
    new = CHANGES[change]
    [again] = await put(sessions, user, new)
    assert again == Stored(first.id, "ropes", changed=True)
    chunks = await stored_chunks(sessions, first.id)
    assert [chunk.content for chunk in chunks] == new.chunks
    assert {chunk.embedding_model for chunk in chunks} == {new.embeddings.model}
    assert np.array_equal(np.float32([chunk.embedding for chunk in chunks]), new.embeddings.vectors)


async def test_a_document_that_failed_before_or_lost_its_passages_is_stored_again(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    [first] = await put(sessions, user, document("ropes"))
    async with sessions.begin() as session:
        await session.execute(update(Document).where(Document.id == first.id).values(status="failed", error="no room"))
    assert (await put(sessions, user, document("ropes")))[0].changed
    async with sessions.begin() as session:
        row = await session.get_one(Document, first.id)
        assert (row.status, row.error) == ("ready", None)
        await session.delete(
            (await session.scalars(select(DocumentChunk).where(DocumentChunk.content == TEXTS[0]))).one()
        )
    assert (await put(sessions, user, document("ropes")))[0].changed
    assert len(await stored_chunks(sessions, first.id)) == 3


async def test_many_at_once_go_in_batches(
    monkeypatch: pytest.MonkeyPatch, binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    monkeypatch.setattr(store, "BATCH_CHUNKS", 30)
    taken = 0

    async def stream() -> AsyncIterator[NewDocument]:
        nonlocal taken
        for number in range(25):
            taken += 1
            yield document(f"ropes/{24 - number}", seed=number)

    with QueryLog(binary) as log:
        async with sessions.begin() as session:
            stored = await RagRepository(session).replace(user.id, stream())
    copies = [statement for statement in log.statements if statement.sql.startswith("COPY")]
    assert [copy.rows for copy in copies] == [30, 30, 15]
    assert log.transactions == 1 and log.count == 6
    assert [one.source for one in stored] == [f"ropes/{24 - number}" for number in range(25)]
    assert all(one.changed for one in stored) and len({one.id for one in stored}) == 25
    for number in (0, 24):
        chunks = await stored_chunks(sessions, stored[number].id)
        assert np.array_equal(np.float32([chunk.embedding for chunk in chunks]), drawn(3, seed=number).vectors)


async def test_of_a_source_that_comes_twice_the_later_one_stays(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    first, other, second = await put(
        sessions, user, document("ropes"), document("knots"), document("ropes", ["Later."])
    )
    assert first.id == second.id != other.id
    assert [chunk.content for chunk in await stored_chunks(sessions, first.id)] == ["Later."]


async def test_nothing_is_nothing(sessions: async_sessionmaker[AsyncSession], user: User) -> None:
    assert await put(sessions, user) == []
    with pytest.raises(CourseError, match="has no passages"):
        document("ropes", [])
    with pytest.raises(CourseError, match="3 passages and 2 vectors"):
        NewDocument("ropes", "Ropes", TEXTS, drawn(2))


async def test_a_refused_vector_leaves_the_old_passages(sessions: async_sessionmaker[AsyncSession], user: User) -> None:
    [first] = await put(sessions, user, document("ropes"))
    bad = drawn(3)
    bad.vectors[1, 0] = np.nan
    with pytest.raises(DBAPIError, match="NaN not allowed"):
        await put(sessions, user, document("knots"), NewDocument("ropes", "Ropes", ["a", "b", "c"], bad))
    assert [chunk.content for chunk in await stored_chunks(sessions, first.id)] == TEXTS
    async with sessions() as session:
        assert await session.scalar(select(func.count()).where(Document.source == "knots")) == 0


async def test_nobodys_document_is_refused(sessions: async_sessionmaker[AsyncSession]) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with sessions.begin() as session:
            await RagRepository(session).replace(uuid4(), [document("ropes")])
    assert caught.value.orig.driver_exception.constraint_name == "fk_documents_user_id"


async def test_others_documents_from_the_same_source_stay(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    async with sessions() as session:
        other = (await session.scalars(select(User).where(User.id != user.id).limit(1))).one()
    [mine], [theirs] = await put(sessions, user, document("ropes")), await put(sessions, other, document("ropes"))
    async with sessions.begin() as session:
        with pytest.raises(NotFound):
            await RagRepository(session).delete_document(user.id, theirs.id)
        await RagRepository(session).delete_document(user.id, mine.id)
        with pytest.raises(NotFound):
            await RagRepository(session).delete_document(user.id, mine.id)
    assert await stored_chunks(sessions, mine.id) == []
    assert len(await stored_chunks(sessions, theirs.id)) == 3


async def test_the_same_documents_from_several_sides_at_once(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    """In opposite orders, which deadlocks unless the rows are locked in one order."""
    documents = [document(f"ropes/{number}", [f"Rope {number}"]) for number in range(400)]
    answers = await asyncio.gather(
        *(put(sessions, user, *(documents if side % 2 else reversed(documents))) for side in range(4))
    )
    changed = [stored.source for answer in answers for stored in answer if stored.changed]
    assert sorted(changed) == sorted(one.source for one in documents)  # each by exactly one


async def test_streams_of_many_batches_in_opposite_orders_wait_and_do_not_deadlock(
    monkeypatch: pytest.MonkeyPatch, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    monkeypatch.setattr(store, "BATCH_CHUNKS", 3)
    documents = [document(f"ropes/{number}") for number in range(40)]
    forwards, backwards = await asyncio.gather(put(sessions, user, *documents), put(sessions, user, *documents[::-1]))
    assert sorted([forwards[0].changed, backwards[0].changed]) == [False, True]
    assert [stored.id for stored in forwards] == [stored.id for stored in backwards[::-1]]


async def test_who_stores_waits_for_nobody_elses_documents(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    async with sessions() as session:
        other = (await session.scalars(select(User).where(User.id != user.id).limit(1))).one()
    async with sessions.begin() as held:
        await RagRepository(held).replace(user.id, [document("ropes")])
        async with asyncio.timeout(10):
            assert (await put(sessions, other, document("ropes")))[0].changed


# ingest


def watching_client(seen: list[int], engine: AsyncEngine) -> openai.AsyncOpenAI:
    """The offline model, and with each request the number of connections that are out."""

    async def look(_: httpx2.Request) -> None:
        seen.append(engine.pool.checkedout())  # type: ignore[attr-defined]

    http = httpx2.AsyncClient(transport=OfflineTransport(), event_hooks={"request": [look]})
    return openai.AsyncOpenAI(api_key="none", base_url="http://offline.invalid/v1", http_client=http)


async def test_no_connection_is_out_while_the_model_works(
    binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    seen: list[int] = []
    texts = [f"{text} {number}" for number in range(300) for text in TEXTS]
    stored = await ingest(sessions, user.id, "ropes", "Ropes", texts, watching_client(seen, binary))
    assert stored.changed and len(seen) >= 2 and set(seen) == {0}
    chunks = await stored_chunks(sessions, stored.id)
    assert [chunk.content for chunk in chunks] == texts
    assert {chunk.embedding_model for chunk in chunks} == {EMBEDDING_MODEL}
    assert all(chunk.token_count > 3 for chunk in chunks)


async def test_what_is_there_already_costs_no_embedding(
    binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    seen: list[int] = []
    client = watching_client(seen, binary)
    first = await ingest(sessions, user.id, "ropes", "Ropes", TEXTS, client)
    again = await ingest(sessions, user.id, "ropes", "All about Ropes", TEXTS, client)
    assert (len(seen), again) == (1, Stored(first.id, "ropes", changed=False, reused=3))
    async with sessions() as session:
        assert (await session.get_one(Document, first.id)).title == "All about Ropes"
    assert (await ingest(sessions, user.id, "ropes", "Ropes", TEXTS[:2], client)).changed
    assert len(seen) == 1


async def test_a_seeded_document_ingested_again_is_known(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    async with sessions() as session:
        seeded = (await session.scalars(select(Document).where(Document.user_id == user.id).limit(1))).one()
    texts = [chunk.content for chunk in await stored_chunks(sessions, seeded.id)]
    assert not (await ingest(sessions, user.id, seeded.source, seeded.title, texts)).changed


async def test_what_was_ingested_is_found(sessions: async_sessionmaker[AsyncSession], user: User) -> None:
    stored = await ingest(sessions, user.id, "ropes", "Ropes", TEXTS)
    question = await embed_question("What happens to a wet rope in the night?")
    async with sessions() as session:
        nearest = (await RagRepository(session).search(user.id, question, k=1))[0]
    assert (nearest.document_id, nearest.content) == (stored.id, TEXTS[1])


@pytest.mark.parametrize("failure", ["the model", "an empty text", "the database"])
async def test_after_a_failure_the_earlier_version_is_found_still(
    failure: str, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    stored = await ingest(sessions, user.id, "ropes", "Ropes", TEXTS)
    client, texts = openai_client(), ["New."]
    kind: type[Exception] = openai.OpenAIError
    if failure == "the model":
        client = openai_client(fail_first=99, status=500, retry_after_ms=1)
    elif failure == "an empty text":
        texts = ["New.", ""]
    else:
        texts, kind = ["New.", "Refused."], IntegrityError
        async with sessions.begin() as session:
            await session.execute(text("ALTER TABLE document_chunks ADD CHECK (content <> 'Refused.')"))
    with pytest.raises(kind):
        await ingest(sessions, user.id, "ropes", "New title", texts, client)
    question = (await embed([TEXTS[0]]))[0]
    async with sessions() as session:
        found = await RagRepository(session).search(user.id, question, document_ids=[stored.id])
        assert {passage.content for passage in found} == set(TEXTS)
        assert {passage.title for passage in found} == {"Ropes"}


async def test_ingested_from_many_sides_at_once_it_is_there_once(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    answers = await asyncio.gather(*(ingest(sessions, user.id, "ropes", "Ropes", TEXTS) for _ in range(8)))
    assert len({stored.id for stored in answers}) == 1
    assert [stored.changed for stored in answers].count(True) == 1
    assert len(await stored_chunks(sessions, answers[0].id)) == 3


async def test_no_passages_are_refused_before_anything_is_asked(
    binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    with QueryLog(binary) as log, pytest.raises(CourseError, match="has no passages"):
        await ingest(sessions, user.id, "ropes", "Ropes", [])
    assert log.count == 0


# the index


async def is_valid(engine: AsyncEngine) -> bool | None:
    async with engine.connect() as connection:
        return await connection.scalar(
            text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": INDEX}
        )


@pytest.mark.parametrize("concurrently", [True, False])
async def test_the_index_is_built_once(concurrently: bool, binary: AsyncEngine) -> None:
    assert await create_index(binary, concurrently=concurrently)
    assert await is_valid(binary)
    assert not await create_index(binary, concurrently=concurrently)
    async with binary.connect() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await connection.execute(
            text("EXPLAIN SELECT id FROM document_chunks ORDER BY embedding <=> (SELECT embedding FROM document_chunks "
                 "LIMIT 1) LIMIT 3")
        )  # fmt: skip
        assert INDEX in "\n".join(plan.scalars())
        memory = await connection.scalar(
            text("SELECT setting = reset_val FROM pg_settings WHERE name = 'maintenance_work_mem'")
        )
        assert memory


async def test_what_a_broken_build_left_is_built_anew(binary: AsyncEngine) -> None:
    async with binary.connect() as other, binary.connect() as reader:
        reader = await reader.execution_options(isolation_level="REPEATABLE READ")
        await reader.execute(text("SELECT 1 FROM document_chunks LIMIT 1"))  # CONCURRENTLY waits for this one's end
        await other.execution_options(isolation_level="AUTOCOMMIT")
        await other.execute(text("SET lock_timeout = '200ms'"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await other.execute(
                text(f"CREATE INDEX CONCURRENTLY {INDEX} ON document_chunks USING hnsw (embedding vector_cosine_ops)")
            )
        await other.execute(text("RESET lock_timeout"))
    assert await is_valid(binary) is False
    assert await create_index(binary)
    assert await is_valid(binary)
