"""Conversations: numbering under concurrency, history, pages of a list that moves."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.instruments import QueryLog
from course_lib.models import Conversation, Message, User
from course_lib.repositories import ConversationRepository, NotFound, Place

NOBODY = UUID("019b8c00-0000-7000-8000-000000000000")

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def talk(session: AsyncSession, chidi: User) -> Conversation:
    """A conversation without messages, committed."""
    talk = await ConversationRepository(session).create(chidi.id, "Which oven?")
    await session.commit()
    return talk


async def test_messages_are_numbered_from_one(session: AsyncSession, talk: Conversation) -> None:
    conversations = ConversationRepository(session)
    messages = [await conversations.add_message(talk.id, "user", f"Question {n}") for n in range(3)]
    assert [message.seq for message in messages] == [1, 2, 3]


async def test_twenty_at_once_get_twenty_numbers(sessions: Sessions, talk: Conversation) -> None:
    async def post(number: int) -> int:
        async with sessions() as session, session.begin():
            return (await ConversationRepository(session).add_message(talk.id, "user", f"Post {number}")).seq

    assert sorted(await asyncio.gather(*map(post, range(20)))) == list(range(1, 21))


async def test_a_rolled_back_message_leaves_no_gap(sessions: Sessions, talk: Conversation) -> None:
    async with sessions() as session:
        await ConversationRepository(session).add_message(talk.id, "user", "Never mind")
        await session.rollback()
        message = await ConversationRepository(session).add_message(talk.id, "user", "Which oven?")
        assert message.seq == 1


async def test_what_is_stored_can_be_read_back_without_another_statement(
    engine: AsyncEngine, session: AsyncSession, talk: Conversation
) -> None:
    with QueryLog(engine) as log:
        message = await ConversationRepository(session).add_message(
            talk.id, "assistant", "The deck oven.", token_count=4, meta={"sources": ["Deck Oven Fault Codes"]}
        )
        await session.commit()
        shown = (message.role, message.content, message.token_count, message.meta, message.status)
    assert shown == ("assistant", "The deck oven.", 4, {"sources": ["Deck Oven Fault Codes"]}, "complete")
    assert message.created_at.tzinfo is not None
    assert log.count == 2


async def test_a_message_brings_its_conversation_to_the_top(session: AsyncSession, chidi: User) -> None:
    conversations = ConversationRepository(session)
    last = (await conversations.page_of(chidi.id, limit=50))[-1]
    await conversations.add_message(last.id, "user", "And another thing")
    await session.commit()
    assert (await conversations.page_of(chidi.id, limit=1))[0].id == last.id


async def test_no_message_without_a_conversation(session: AsyncSession) -> None:
    with pytest.raises(NotFound, match="no Conversation"):
        await ConversationRepository(session).add_message(NOBODY, "user", "Is anybody there?")


async def test_an_unknown_role_is_refused(session: AsyncSession, talk: Conversation) -> None:
    with pytest.raises(IntegrityError) as caught:
        await ConversationRepository(session).add_message(talk.id, "oracle", "Perhaps")
    assert caught.value.driver_exception.constraint_name == "ck_messages_role"


async def test_no_conversation_without_a_user(session: AsyncSession) -> None:
    with pytest.raises(IntegrityError):
        await ConversationRepository(session).create(NOBODY, "Which oven?")


async def test_the_latest_messages_come_oldest_first(session: AsyncSession, talk: Conversation) -> None:
    conversations = ConversationRepository(session)
    for number in range(1, 8):
        await conversations.add_message(talk.id, "user", f"Question {number}")
    latest = await conversations.latest_messages(talk.id, limit=3)
    assert [message.content for message in latest] == ["Question 5", "Question 6", "Question 7"]


async def walk(sessions: Sessions, user: User, between: str | None = None) -> list[UUID]:
    """All pages of seven; with ``between``, a conversation of that title begins after each of the first ten."""
    seen: list[UUID] = []
    after = None
    for turn in range(100):
        async with sessions() as session:
            page = await ConversationRepository(session).page_of(user.id, after=after, limit=7)
        if not page:
            return seen
        seen += [conversation.id for conversation in page]
        after = Place.of(page[-1])
        if between and turn < 10:
            async with sessions() as session, session.begin():
                await ConversationRepository(session).create(user.id, between)
    raise AssertionError("the pages do not end")


async def ids_of(sessions: Sessions, user: User) -> set[UUID]:
    async with sessions() as session:
        return set(await session.scalars(select(Conversation.id).where(Conversation.user_id == user.id)))


async def test_pages_hold_every_conversation_once_newest_first(sessions: Sessions, chidi: User) -> None:
    seen = await walk(sessions, chidi)
    assert len(seen) == 50
    assert set(seen) == await ids_of(sessions, chidi)
    async with sessions() as session:
        times = [(await ConversationRepository(session).get(identity)).updated_at for identity in seen]
    assert times == sorted(times, reverse=True)


async def test_pages_hold_every_conversation_once_while_others_begin(sessions: Sessions, chidi: User) -> None:
    before = await ids_of(sessions, chidi)
    seen = await walk(sessions, chidi, between="New")
    assert len(seen) == len(set(seen))
    assert set(seen) == before
    assert len(await ids_of(sessions, chidi)) > len(before)


async def test_pages_hold_every_conversation_once_when_times_tie(sessions: Sessions, chidi: User) -> None:
    ids = [UUID(int=NOBODY.int + number) for number in range(20)]
    random.Random(7).shuffle(ids)  # so that they do not lie in the table in order
    async with sessions() as session, session.begin():
        for identity in ids:  # one transaction, so one now()
            await ConversationRepository(session).add(Conversation(id=identity, user_id=chidi.id, title="Tied"))
    seen = await walk(sessions, chidi)
    assert len(seen) == len(set(seen)) == 70


async def test_pages_of_one_user_show_nobody_elses(session: AsyncSession, chidi: User) -> None:
    page = await ConversationRepository(session).page_of(chidi.id, limit=100)
    assert {conversation.user_id for conversation in page} == {chidi.id}


async def test_messages_of_another_conversation_do_not_count(session: AsyncSession, chidi: User) -> None:
    conversations = ConversationRepository(session)
    first, second = await conversations.create(chidi.id, "First"), await conversations.create(chidi.id, "Second")
    for _ in range(3):
        await conversations.add_message(first.id, "user", "Again")
    assert (await conversations.add_message(second.id, "user", "Once")).seq == 1
    assert await conversations.latest_messages(second.id) == [
        await session.scalar(select(Message).where(Message.conversation_id == second.id))
    ]
