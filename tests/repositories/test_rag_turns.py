"""The turn: stored whole or not at all, once, in its place; and titles, which users have the last word on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.models import Conversation, Job, Message, User
from course_lib.repositories import ConversationRepository, NotFound, UserRepository
from course_lib.repositories.conversations import TITLE_CHARACTERS, UNTITLED, title_from
from course_lib.repositories.limits import KIND, Reservation, reserve
from course_lib.repositories.rag import Answer, Source, StoredTurn, Turn, Usage, store_turn
from tests.repositories.passages import passage

Sessions = async_sessionmaker[AsyncSession]
RULES = passage("Dogs travel free.")
ANSWER = Answer('"Dogs travel free." [1]', [Source(1, RULES, "Dogs travel free.")], Usage(120, 9))


@pytest.fixture
async def thread(sessions: Sessions, user: User) -> Conversation:
    """A conversation of the user's without messages or title."""
    async with sessions.begin() as session:
        return await ConversationRepository(session).create(user.id, UNTITLED)


def a_turn(user: User, thread: Conversation | None, question: str = "Do dogs pay?", answer: Answer = ANSWER) -> Turn:
    return Turn(uuid4(), user.id, thread.id if thread else None, question, answer)


async def stored(sessions: Sessions, turn: Turn, reservation: Reservation | None = None) -> StoredTurn:
    async with sessions.begin() as session:
        return await store_turn(session, turn, reservation)


async def messages_of(sessions: Sessions, conversation_id: UUID) -> list[Message]:
    async with sessions() as session:
        return await ConversationRepository(session).latest_messages(conversation_id, 1000)


async def used(sessions: Sessions, user: User) -> int:
    async with sessions() as session:
        return await session.scalar(select(User.tokens_used).where(User.id == user.id)) or 0


async def title_of(sessions: Sessions, conversation_id: UUID) -> str | None:
    async with sessions() as session:
        return await session.scalar(select(Conversation.title).where(Conversation.id == conversation_id))


async def test_a_turn_is_its_question_its_answer_its_sources_and_its_price(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    before = await used(sessions, user)
    async with sessions.begin() as session:
        reservation = await reserve(session, user.id, 1000)
    turn = a_turn(user, thread)
    await stored(sessions, turn, reservation)
    asked, said = await messages_of(sessions, thread.id)
    assert (asked.seq, asked.role, asked.content, asked.token_count) == (1, "user", "Do dogs pay?", 120)
    assert (said.seq, said.role, said.content, said.token_count) == (2, "assistant", ANSWER.text, 9)
    assert (said.id, said.status) == (turn.id, "complete")
    assert said.meta["sources"] == [
        {"document_id": str(RULES.document_id), "chunk_index": 0, "title": "Rules", "number": 1,
         "quotation": "Dogs travel free."}
    ]  # fmt: skip
    assert await used(sessions, user) == before + 129
    async with sessions() as session:
        assert await session.scalar(select(func.count()).where(Job.kind == KIND)) == 0


async def test_what_was_refused_of_an_answer_is_kept_with_it(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    made_up = replace(ANSWER, ended="length", unknown=[9], invented=["Cats pay."], left_out=2)
    said = (await stored(sessions, a_turn(user, thread, answer=made_up))).answer
    assert said.status == "aborted"
    kept = {name: said.meta[name] for name in ("ended", "unknown", "invented", "left_out")}
    assert kept == {"ended": "length", "unknown": [9], "invented": ["Cats pay."], "left_out": 2}


async def test_twenty_turns_at_once_are_numbered_in_pairs(sessions: Sessions, user: User, thread: Conversation) -> None:
    turns = [a_turn(user, thread, f"question {number}") for number in range(20)]
    await asyncio.gather(*(stored(sessions, turn) for turn in turns))
    messages = await messages_of(sessions, thread.id)
    assert [message.seq for message in messages] == list(range(1, 41))
    assert [message.role for message in messages] == ["user", "assistant"] * 20
    asked = {turn.id: turn.question for turn in turns}
    for question, said in zip(messages[::2], messages[1::2], strict=True):
        assert asked.pop(said.id) == question.content
    assert asked == {}


async def test_twenty_turns_and_twenty_posted_messages_leave_no_gap(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    async def post() -> None:
        async with sessions.begin() as session:
            await ConversationRepository(session).add_message(thread.id, "system", "posted")

    await asyncio.gather(*(step for _ in range(20) for step in (stored(sessions, a_turn(user, thread)), post())))
    messages = await messages_of(sessions, thread.id)
    assert [message.seq for message in messages] == list(range(1, 61))
    roles = [message.role for message in messages]
    assert all(roles[place + 1] == "assistant" for place, role in enumerate(roles) if role == "user")


async def test_the_same_turn_twenty_times_at_once_is_stored_and_charged_once(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    before, turn = await used(sessions, user), a_turn(user, thread)

    async def again() -> StoredTurn:
        async with sessions.begin() as session:
            reservation = await reserve(session, user.id, 200)
        return await stored(sessions, turn, reservation)

    answers = await asyncio.gather(*(again() for _ in range(20)))
    assert {found.answer.id for found in answers} == {turn.id} and len({found.question.id for found in answers}) == 1
    assert len(await messages_of(sessions, thread.id)) == 2
    assert await used(sessions, user) == before + 129
    later = await stored(sessions, replace(turn, question="another", answer=replace(ANSWER, text="another")))
    assert (later.question.content, later.answer.content) == ("Do dogs pay?", ANSWER.text)


async def test_the_same_first_turn_at_once_begins_one_conversation(sessions: Sessions, user: User) -> None:
    turn = a_turn(user, None)
    await asyncio.gather(*(stored(sessions, turn) for _ in range(10)))
    assert len(await messages_of(sessions, turn.id)) == 2
    assert await title_of(sessions, turn.id) == "Do dogs pay?"


async def test_nobody_adds_to_anothers_conversation(sessions: Sessions, user: User, thread: Conversation) -> None:
    async with sessions() as session:
        ada = await UserRepository(session).by_email("ada@example.org")
    assert ada is not None
    with pytest.raises(NotFound):
        await stored(sessions, a_turn(ada, thread))
    theirs = a_turn(user, None)
    await stored(sessions, theirs)
    with pytest.raises(NotFound):
        await stored(sessions, replace(theirs, user_id=ada.id, question="what did they ask?"))
    assert await messages_of(sessions, thread.id) == []


async def test_an_id_that_another_conversations_message_has_is_refused(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    elsewhere = a_turn(user, None)
    await stored(sessions, elsewhere)
    with pytest.raises(IntegrityError):
        await stored(sessions, replace(elsewhere, conversation_id=thread.id))
    assert await messages_of(sessions, thread.id) == []


@pytest.mark.parametrize("gone", ["conversation", "user"])
async def test_what_was_deleted_meanwhile_is_not_found(
    gone: str, sessions: Sessions, user: User, thread: Conversation
) -> None:
    model: Any = Conversation if gone == "conversation" else User
    async with sessions.begin() as session:
        await session.execute(delete(model).where(model.id == (thread if gone == "conversation" else user).id))
    with pytest.raises(NotFound):
        await stored(sessions, a_turn(user, thread))
    if gone == "user":
        with pytest.raises(NotFound):
            await stored(sessions, a_turn(user, None))


async def test_turns_and_the_deletion_of_their_user_do_not_wait_for_each_other_for_ever(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    async def delete_user() -> None:
        async with sessions.begin() as session:
            await session.execute(delete(User).where(User.id == user.id))

    steps = [stored(sessions, a_turn(user, thread)) for _ in range(10)]
    ends = await asyncio.gather(*steps[:5], delete_user(), *steps[5:], return_exceptions=True)
    assert not [end for end in ends if isinstance(end, DBAPIError)]
    assert await messages_of(sessions, thread.id) == []


async def test_a_turn_that_fails_on_its_way_leaves_nothing(
    engine: AsyncEngine, sessions: Sessions, user: User, thread: Conversation
) -> None:
    before = await used(sessions, user)
    async with sessions.begin() as session:
        reservation = await reserve(session, user.id, 1000)
    async with engine.begin() as connection:
        refuse = "ALTER TABLE messages ADD CONSTRAINT no_answers CHECK (role <> 'assistant') NOT VALID"
        await connection.execute(text(refuse))
    with pytest.raises(IntegrityError):
        await stored(sessions, a_turn(user, thread), reservation)
    assert await messages_of(sessions, thread.id) == []
    assert await title_of(sessions, thread.id) == UNTITLED
    assert await used(sessions, user) == before + 1000, "the reservation is there still, to be given back"


async def test_a_turn_takes_few_statements_and_one_transaction(
    engine: AsyncEngine, sessions: Sessions, user: User, thread: Conversation
) -> None:
    async with sessions.begin() as session:
        reservation = await reserve(session, user.id, 1000)
    with QueryLog(engine) as log:
        await stored(sessions, a_turn(user, thread), reservation)
    assert log.count <= 11


async def test_the_first_question_gives_the_title_and_later_ones_do_not(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    await stored(sessions, a_turn(user, thread, "Do dogs\n pay?"))
    await stored(sessions, a_turn(user, thread, "And cats?"))
    assert await title_of(sessions, thread.id) == "Do dogs pay?"


async def test_a_users_title_stays_whatever_is_asked(sessions: Sessions, user: User, thread: Conversation) -> None:
    async with sessions.begin() as session:
        await ConversationRepository(session).rename(user.id, thread.id, " Dogs ")
    await stored(sessions, a_turn(user, thread))
    assert await title_of(sessions, thread.id) == "Dogs"


@pytest.mark.parametrize("first", ["the user", "the turn"])
async def test_a_title_that_comes_at_the_same_moment_loses_to_the_users(
    first: str, sessions: Sessions, user: User, thread: Conversation
) -> None:
    async with sessions() as holder, sessions() as waiter:
        users, made = (holder, waiter) if first == "the user" else (waiter, holder)
        renaming = ConversationRepository(users).rename(user.id, thread.id, "Dogs")
        naming = ConversationRepository(made).name_once(thread.id, "Do dogs pay?")
        await (renaming if first == "the user" else naming)
        later = asyncio.ensure_future(naming if first == "the user" else renaming)
        await asyncio.sleep(0.05)
        assert not later.done(), "it waits for the row"
        await holder.commit()
        await later
        await waiter.commit()
    assert await title_of(sessions, thread.id) == "Dogs"


async def test_fifty_who_name_a_conversation_at_once_name_it_once(
    sessions: Sessions, user: User, thread: Conversation
) -> None:
    async def name(number: int) -> bool:
        async with sessions.begin() as session:
            return await ConversationRepository(session).name_once(thread.id, f"title {number}")

    named = await asyncio.gather(*(name(number) for number in range(50)))
    assert named.count(True) == 1
    assert await title_of(sessions, thread.id) == f"title {named.index(True)}"


async def test_a_title_is_its_users_to_give(sessions: Sessions, user: User, thread: Conversation) -> None:
    async with sessions.begin() as session:
        conversations = ConversationRepository(session)
        with pytest.raises(NotFound):
            await conversations.rename(uuid4(), thread.id, "Mine")
        for title, sentence in ((" ", "not blank"), ("a\0", "NUL")):
            with pytest.raises(CourseError, match=sentence):
                await conversations.rename(user.id, thread.id, title)


@pytest.mark.parametrize("question", ["Do dogs pay?", "word " * 100, "x" * 500, " \n", "\u00e9" * 61])
def test_a_title_is_short_and_never_blank(question: str) -> None:
    title = title_from(question)
    assert 0 < len(title) <= TITLE_CHARACTERS and title.strip() == title and "\n" not in title
