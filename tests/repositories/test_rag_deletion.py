"""Deleted with all that belongs to it, vectors included, and counted over whatever tables there are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.llm import EMBEDDING_MODEL
from course_lib.models import CachedEmbedding, Document, DocumentChunk, Job, User
from course_lib.models.documents import passage_hash
from course_lib.repositories import ConversationRepository, NotFound, RagRepository
from course_lib.repositories.limits import reserve
from course_lib.repositories.rag import (
    EmbeddingCache,
    Embeddings,
    NewDocument,
    count_left,
    delete_unneeded,
    delete_user,
    ingest,
    store,
    traces_of,
)

MINE = ["The spare key hangs behind the green door, on a nail that only Ola knows of.", "Ropes are kept dry."]
SHARED = "Everybody reads this sentence in the house rules before the first climb."

OF_ROPES = DocumentChunk.content.regexp_match("^(Rope|Knot) [0-9]+ ")

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def sessions(binary: AsyncEngine) -> Sessions:
    return make_session_factory(binary)


@pytest.fixture
async def other(sessions: Sessions, user: User) -> User:
    async with sessions() as session:
        return (await session.scalars(select(User).where(User.id != user.id).limit(1))).one()


async def cached(sessions: Sessions) -> set[bytes]:
    async with sessions() as session:
        return set(await session.scalars(select(CachedEmbedding.content_hash)))


def hashes(*texts: str) -> set[bytes]:
    return {passage_hash(one) for one in texts}


async def remove(sessions: Sessions, user: User, document: UUID) -> None:
    async with sessions.begin() as session:
        await RagRepository(session).delete_document(user.id, document)


async def test_a_vector_stays_for_as_long_as_somebody_has_a_passage_with_its_text(
    sessions: Sessions, user: User, other: User
) -> None:
    mine = await ingest(sessions, user.id, "rules", "Rules", [*MINE, SHARED])
    theirs = await ingest(sessions, other.id, "rules", "Rules", [SHARED])
    assert theirs.embedded == 0
    assert await cached(sessions) == hashes(*MINE, SHARED)
    await remove(sessions, user, mine.id)
    assert await cached(sessions) == hashes(SHARED)
    await remove(sessions, other, theirs.id)
    assert await cached(sessions) == set()


async def test_the_vector_of_a_passage_that_was_edited_away_goes(sessions: Sessions, user: User) -> None:
    await ingest(sessions, user.id, "rules", "Rules", [*MINE, SHARED])
    await ingest(sessions, user.id, "rules", "Rules", [MINE[0], "Another.", SHARED])
    assert await cached(sessions) == hashes(MINE[0], "Another.", SHARED)


async def test_two_who_delete_the_last_two_passages_with_a_text_leave_no_vector(
    sessions: Sessions, user: User, other: User
) -> None:
    for turn in range(8):
        texts = [f"{SHARED} {turn} {number}" for number in range(20)]
        mine = await ingest(sessions, user.id, f"rules/{turn}", "Rules", texts)
        theirs = await ingest(sessions, other.id, f"rules/{turn}", "Rules", texts[::-1])
        await asyncio.gather(remove(sessions, user, mine.id), remove(sessions, other, theirs.id))
        assert await cached(sessions) == set()


async def test_who_deletes_second_waits_and_sees_that_nobody_is_left(
    sessions: Sessions, user: User, other: User
) -> None:
    """The same step by step: both have looked before either commits, unless the second waits."""
    mine = await ingest(sessions, user.id, "rules", "Rules", [SHARED])
    theirs = await ingest(sessions, other.id, "rules", "Rules", [SHARED])
    async with sessions.begin() as first:
        await RagRepository(first).delete_document(user.id, mine.id)
        second = asyncio.create_task(remove(sessions, other, theirs.id))
        await asyncio.sleep(0.3)
        assert not second.done()
    await second
    assert await cached(sessions) == set()


async def test_deleting_while_others_store_the_same_text_leaves_nobody_without_passages(
    sessions: Sessions, user: User, other: User
) -> None:
    texts = [f"{SHARED} {number}" for number in range(30)]
    for turn in range(6):
        mine = await ingest(sessions, user.id, "rules", "Rules", texts)
        _, theirs = await asyncio.gather(
            remove(sessions, user, mine.id), ingest(sessions, other.id, f"copy/{turn}", "Copy", texts)
        )
        async with sessions() as session:
            count = select(func.count()).where(DocumentChunk.document_id == theirs.id)
            assert await session.scalar(count) == 30
        await remove(sessions, other, theirs.id)
        assert await cached(sessions) == set()


async def test_somebody_elses_document_is_not_deleted_and_loses_no_vector(
    sessions: Sessions, user: User, other: User
) -> None:
    theirs = await ingest(sessions, other.id, "rules", "Rules", [SHARED])
    for document in (theirs.id, uuid4()):
        with pytest.raises(NotFound):
            await remove(sessions, user, document)
    assert await cached(sessions) == hashes(SHARED)


async def test_what_other_ways_of_deleting_leave_is_swept(sessions: Sessions, user: User, other: User) -> None:
    await ingest(sessions, user.id, "rules", "Rules", [*MINE, SHARED])
    await ingest(sessions, other.id, "rules", "Rules", [SHARED])
    async with sessions.begin() as session:
        await session.execute(text("DELETE FROM users WHERE id = :id"), {"id": user.id})
    async with sessions.begin() as session:
        assert await delete_unneeded(session) == 2
    assert await cached(sessions) == hashes(SHARED)


async def test_what_was_bought_and_never_stored_is_gone_after_its_time(sessions: Sessions, user: User) -> None:
    async with sessions.begin() as session:
        for key, ago in ((b"a", timedelta(seconds=1)), (b"b", -timedelta(minutes=1))):
            row = CachedEmbedding(content_hash=key * 32, model="m", embedding=[1.0] * 256)
            row.claimed_until = await session.scalar(select(func.clock_timestamp())) - ago
            session.add(row)
    await ingest(sessions, user.id, "rules", "Rules", [SHARED])
    assert await cached(sessions) == {b"b" * 32} | hashes(SHARED)


# nothing is left, counted


async def everything_of(sessions: Sessions, user: User, other: User) -> None:
    """A user with a document in two hands, a conversation that quotes it, and a job."""
    stored = await ingest(sessions, user.id, "rules", "Rules", [*MINE, SHARED])
    await ingest(sessions, other.id, "rules", "Rules", [SHARED])
    async with sessions.begin() as session:
        talks = ConversationRepository(session)
        talk = await talks.create(user.id, "Keys")
        source = {"document_id": str(stored.id), "chunk_index": 0, "title": "Rules", "quotation": MINE[0]}
        await talks.add_message(talk.id, "assistant", "Behind the green door.", meta={"sources": [source]})
        session.add(Job(kind="embed", document_id=stored.id, payload={"user_id": str(user.id)}))


async def test_of_a_deleted_user_nothing_is_left(sessions: Sessions, user: User, other: User) -> None:
    await everything_of(sessions, user, other)
    async with sessions.begin() as session:
        traces = await traces_of(session, user)
        before = await count_left(session, traces)
        assert {"users", "api_keys", "documents", "document_chunks", "conversations", "messages", "jobs",
                "embedding_cache"} <= before.keys()  # fmt: skip
        assert before["embedding_cache"] == 2
    async with sessions.begin() as session:
        await delete_user(session, user.id)
    async with sessions.begin() as session:
        assert await count_left(session, traces) == {}
        with pytest.raises(NotFound):
            await delete_user(session, user.id)
    assert await cached(sessions) == hashes(SHARED)


LEAKS = {
    "an id in a job's payload": """
        INSERT INTO jobs (kind, payload) VALUES ('mail', jsonb_build_object('u', CAST(:id AS text)))""",
    "a quotation in somebody else's message": """
        UPDATE messages SET meta = jsonb_build_object('sources', jsonb_build_array(jsonb_build_object('quotation',
            'He said the spare key hangs behind the green door, on a nail!')))
        WHERE id = (SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id
                    WHERE c.user_id <> CAST(:id AS uuid) LIMIT 1)""",
    "the address in a table nobody thought of": "CREATE TABLE letters AS SELECT 'to chidi@example.org' AS said",
    "a vector": """
        INSERT INTO embedding_cache (content_hash, model, embedding)
        SELECT sha256(convert_to(content, 'UTF8')), 'older', embedding FROM document_chunks
        WHERE content LIKE 'The spare key%' """,
}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.soak(after=2)
async def test_what_is_left_somewhere_is_counted(leak: str, sessions: Sessions, user: User, other: User) -> None:
    await everything_of(sessions, user, other)
    async with sessions.begin() as session:
        traces = await traces_of(session, user)
        await session.execute(text(LEAKS[leak]), {"id": str(user.id)} if ":id" in LEAKS[leak] else {})
        await delete_user(session, user.id)
        assert sum((await count_left(session, traces)).values()) == 1


async def test_a_deleted_document_is_left_in_answers_only(sessions: Sessions, user: User, other: User) -> None:
    await everything_of(sessions, user, other)
    async with sessions.begin() as session:
        document = (
            await session.scalars(select(Document).where(Document.user_id == user.id, Document.source == "rules"))
        ).one()
        traces = await traces_of(session, document)
        await RagRepository(session).delete_document(user.id, document.id)
        assert await count_left(session, traces) == {"messages": 1}
        await session.execute(text("UPDATE messages SET meta = '{}'"))
        assert await count_left(session, traces) == {}


async def test_a_reservation_goes_with_the_account(sessions: Sessions, user: User, other: User) -> None:
    async with sessions.begin() as session:
        await reserve(session, user.id, 1)
        theirs = await reserve(session, other.id, 1)
    async with sessions() as session:
        traces = await traces_of(session, user)
    async with sessions.begin() as session:
        await delete_user(session, user.id)
    async with sessions() as session:
        assert await count_left(session, traces) == {}
        assert await session.get(Job, theirs.id) is not None


async def test_an_account_deleted_while_its_document_is_stored_leaves_nothing(
    sessions: Sessions, user: User, other: User
) -> None:
    async with sessions.begin() as session:
        traces = await traces_of(session, user)

    async def erase() -> None:
        async with sessions.begin() as session:
            await delete_user(session, user.id)

    stored = [ingest(sessions, user.id, f"late/{number}", "Late", [f"{MINE[0]} {number}"]) for number in range(5)]
    await asyncio.gather(*stored, erase(), return_exceptions=True)
    async with sessions.begin() as session:
        assert await session.get(User, user.id) is None
        await session.execute(update(CachedEmbedding).values(claimed_until=func.now() - timedelta(minutes=1)).where(
            CachedEmbedding.claimed_until.is_not(None)))  # fmt: skip
    async with sessions.begin() as session:
        await delete_unneeded(session)
        assert await count_left(session, traces) == {}
    assert await cached(sessions) == set()


# vectors of texts that two users have, forgotten by both at once


async def keep_all(sessions: Sessions) -> None:
    """A kept vector for every passage, as ``ingest`` leaves one."""
    async with sessions.begin() as session:
        await session.execute(
            text("""
                INSERT INTO embedding_cache (content_hash, model, embedding)
                SELECT DISTINCT ON (content) sha256(convert_to(content, 'UTF8')), embedding_model, embedding
                FROM document_chunks WHERE embedding_model = 'm' ON CONFLICT DO NOTHING
            """)
        )


def library(said: str) -> list[NewDocument]:
    vectors = Embeddings(np.ones((2, 256), dtype=np.float32), "m", [3, 3])
    return [NewDocument(f"rope/{n}", "Ropes", [f"Rope {n} {said}.", f"Knot {n} {said}."], vectors) for n in range(24)]


async def put(sessions: Sessions, user: User, documents: list[NewDocument]) -> None:
    async with sessions.begin() as session:
        await RagRepository(session).replace(user.id, documents)


async def test_two_streams_of_many_batches_with_the_same_cached_texts_do_not_deadlock(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions, user: User, other: User
) -> None:
    """Each batch of one would hold what a later batch of the other wants."""
    monkeypatch.setattr(store, "BATCH_CHUNKS", 2)
    for turn in range(25):
        await put(sessions, user, library(f"before {turn}"))
        await put(sessions, other, library(f"before {turn}"))
        await keep_all(sessions)
        after = library(f"after {turn}")
        await asyncio.gather(put(sessions, user, after), put(sessions, other, after[::-1]))
        await keep_all(sessions)
        async with sessions() as session:
            texts = {chunk for one in after for chunk in one.chunks}
            assert await cached(sessions) == hashes(*texts)
            assert set(await session.scalars(select(DocumentChunk.content).where(OF_ROPES))) == texts


async def test_a_stream_and_who_deletes_the_same_texts_do_not_deadlock(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions, user: User, other: User
) -> None:
    monkeypatch.setattr(store, "BATCH_CHUNKS", 2)
    for turn in range(12):
        await put(sessions, user, library(f"before {turn}"))
        texts = [text for one in library(f"before {turn}") for text in one.chunks]
        copy = await ingest(sessions, other.id, f"copy/{turn}", "Copy", texts)
        async with sessions.begin() as session:  # the same vectors' model
            await session.execute(update(DocumentChunk).where(OF_ROPES).values(embedding_model=EMBEDDING_MODEL))
        await asyncio.gather(put(sessions, user, library("after")[::-1]), remove(sessions, other, copy.id))
        assert await cached(sessions) == set()


async def test_a_text_that_moves_to_a_document_of_a_later_batch_keeps_its_vector(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions, user: User
) -> None:
    monkeypatch.setattr(store, "BATCH_CHUNKS", 2)
    await put(sessions, user, library("before"))
    await keep_all(sessions)
    first, *rest = library("before")
    moved = replace(library("after")[1], source="rope/1", chunks=first.chunks)
    await put(sessions, user, [library("after")[0], moved, *rest[1:]])
    gone = hashes(*rest[0].chunks)
    assert await cached(sessions) == hashes(*(chunk for one in [first, *rest] for chunk in one.chunks)) - gone


async def test_who_gives_claims_back_and_who_asks_for_them_do_not_deadlock(sessions: Sessions) -> None:
    keys = [passage_hash(f"Text {number}") for number in range(400)]

    async def claim(wanted: list[bytes]) -> dict[bytes, datetime]:
        async with sessions.begin() as session:
            return await EmbeddingCache(session, "m").claim(wanted)

    async def give_back(claims: dict[bytes, datetime]) -> None:
        async with sessions.begin() as session:
            await EmbeddingCache(session, "m").give_back(claims)

    for _ in range(25):
        claims = await claim(keys)
        descending = {key: claims[key] for key in sorted(claims, reverse=True)}
        _, claimed = await asyncio.gather(give_back(descending), claim(keys))
        await give_back(claimed)
        assert await cached(sessions) == set()
