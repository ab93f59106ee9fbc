"""Documents: uploaded again, and whose they are."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.instruments import QueryLog
from course_lib.models import Document, User
from course_lib.repositories import DocumentRepository

HASH, OTHER_HASH = sha256(b"one").digest(), sha256(b"two").digest()


async def test_an_upload_makes_a_document_that_waits(session: AsyncSession, chidi: User) -> None:
    document, new = await DocumentRepository(session).put(chidi.id, "chidi/ropes", "Ropes", HASH)
    assert new
    assert (document.title, document.status, document.content_hash) == ("Ropes", "uploaded", HASH)


async def test_the_same_bytes_again_change_only_the_title(session: AsyncSession, chidi: User) -> None:
    documents = DocumentRepository(session)
    first, _ = await documents.put(chidi.id, "chidi/ropes", "Ropes", HASH)
    first.status = "ready"
    await session.commit()
    again, new = await documents.put(chidi.id, "chidi/ropes", "All about Ropes", HASH)
    assert not new
    assert again is first
    assert (first.title, first.status) == ("All about Ropes", "ready")
    assert first.updated_at > first.created_at


async def test_other_bytes_make_it_wait_again(session: AsyncSession, chidi: User) -> None:
    documents = DocumentRepository(session)
    first, _ = await documents.put(chidi.id, "chidi/ropes", "Ropes", HASH)
    first.status = "ready"
    again, new = await documents.put(chidi.id, "chidi/ropes", "Ropes", OTHER_HASH)
    assert new
    assert again is first
    assert (first.status, first.content_hash) == ("uploaded", OTHER_HASH)


async def test_an_upload_is_one_statement(engine: AsyncEngine, session: AsyncSession, chidi: User) -> None:
    with QueryLog(engine) as log:
        await DocumentRepository(session).put(chidi.id, "chidi/ropes", "Ropes", HASH)
    assert log.count == 1


async def test_of_uploads_at_once_exactly_one_is_new(sessions: async_sessionmaker[AsyncSession], chidi: User) -> None:
    async def upload() -> bool:
        async with sessions() as session, session.begin():
            return (await DocumentRepository(session).put(chidi.id, "chidi/ropes", "Ropes", HASH))[1]

    assert sum(await asyncio.gather(*(upload() for _ in range(8)))) == 1


async def test_a_hash_of_the_wrong_length_is_refused(session: AsyncSession, chidi: User) -> None:
    with pytest.raises(IntegrityError) as caught:
        await DocumentRepository(session).put(chidi.id, "chidi/ropes", "Ropes", b"short")
    assert caught.value.driver_exception.constraint_name == "ck_documents_content_hash"


async def test_a_source_belongs_to_its_user(session: AsyncSession, chidi: User) -> None:
    documents = DocumentRepository(session)
    assert await documents.by_source(chidi.id, "bruno/oven-faults") is None
    mine = (await documents.page_of(chidi.id))[0]
    assert await documents.by_source(chidi.id, mine.source) is mine


async def test_a_users_documents_come_in_order_of_upload(session: AsyncSession, chidi: User) -> None:
    documents = DocumentRepository(session)
    first = await documents.page_of(chidi.id, limit=2)
    rest = await documents.page_of(chidi.id, after=first[-1].id)
    together: list[Document] = first + rest
    assert together == sorted(together, key=lambda document: document.created_at)
    assert together == await documents.page_of(chidi.id)
    assert len(first) == 2 and rest
