"""What every repository does, tried on users and documents."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.instruments import QueryLog
from course_lib.models import Conversation, Document, DocumentChunk, User
from course_lib.repositories import ConversationRepository, DocumentRepository, NotFound, UserRepository

NOBODY = UUID("019b8c00-0000-7000-8000-000000000000")

Sessions = async_sessionmaker[AsyncSession]


async def test_what_was_added_has_what_the_server_gave_it(session: AsyncSession) -> None:
    user = await UserRepository(session).add(User(email="ivo@example.org", name="Ivo Lindqvist"))
    assert user.id is not None
    assert (user.tier, user.token_limit) == ("free", 100_000)


async def test_a_repository_never_commits(sessions: Sessions, session: AsyncSession) -> None:
    await UserRepository(session).add(User(email="ivo@example.org", name="Ivo Lindqvist"))
    async with sessions() as other:
        assert await UserRepository(other).by_email("ivo@example.org") is None
    await session.rollback()
    assert await UserRepository(session).by_email("ivo@example.org") is None


async def test_two_repositories_share_the_callers_transaction(sessions: Sessions) -> None:
    with pytest.raises(IntegrityError):
        async with sessions() as session, session.begin():
            user = await UserRepository(session).register("ivo@example.org", "Ivo Lindqvist")
            await ConversationRepository(session).add(Conversation(user_id=user.id, title=None))  # type: ignore[arg-type]
    async with sessions() as session:
        assert await UserRepository(session).by_email("ivo@example.org") is None


async def test_get_finds_by_id_and_raises_for_nobody(session: AsyncSession, chidi: User) -> None:
    users = UserRepository(session)
    assert (await users.get(chidi.id)).email == "chidi@example.org"
    with pytest.raises(NotFound, match=f"no User {NOBODY}"):
        await users.get(NOBODY)


async def test_delete_is_one_statement_and_takes_along_what_belongs_to_the_row(
    engine: AsyncEngine, session: AsyncSession, chidi: User
) -> None:
    with QueryLog(engine) as log:
        await UserRepository(session).delete(chidi.id)
        await session.commit()
    assert log.count == 1, str(log)
    assert await session.scalar(select(func.count()).where(Document.user_id == chidi.id)) == 0
    chunks = select(func.count()).select_from(DocumentChunk)
    assert await session.scalar(chunks) == await session.scalar(chunks.join(DocumentChunk.document))
    assert await session.scalar(select(func.count()).where(Conversation.user_id == chidi.id)) == 0


async def test_deleting_twice_raises(session: AsyncSession, chidi: User) -> None:
    await UserRepository(session).delete(chidi.id)
    with pytest.raises(NotFound):
        await UserRepository(session).delete(chidi.id)


async def test_pages_by_id_hold_every_row_once_in_order(session: AsyncSession) -> None:
    documents = DocumentRepository(session)
    seen: list[UUID] = []
    while page := await documents.page(after=seen[-1] if seen else None, limit=7):
        seen += [document.id for document in page]
    assert seen == list(await session.scalars(select(Document.id).order_by(Document.id)))
    assert len(seen) == 40


async def test_pages_are_in_order_of_the_id_however_the_rows_lie(session: AsyncSession) -> None:
    users = UserRepository(session)
    for number in (3, 1, 2):
        identity = UUID(int=NOBODY.int + number)
        await users.add(User(id=identity, email=f"new{number}@example.org", name=f"New {number}"))
    page = await users.page(User.name.startswith("New"))
    assert [user.name for user in page] == ["New 1", "New 2", "New 3"]


async def test_a_page_keeps_to_its_conditions(session: AsyncSession, chidi: User) -> None:
    page = await DocumentRepository(session).page(Document.user_id == chidi.id)
    assert page
    assert {document.user_id for document in page} == {chidi.id}
