"""Answers to 2.8, a test that bites. None is called test_…, or pytest would run it."""

from __future__ import annotations

from contextlib import contextmanager
from math import ceil
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.instruments import QueryLog
from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.8")


async def counted(list_conversations, engine, user_id):
    async with AsyncSession(engine) as session:
        with QueryLog(engine) as log:
            conversations = await list_conversations(session, user_id)
    return log, conversations


@ANSWERS.right
async def query_log(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    assert log.count <= 1 + ceil(len(conversations) / 500), f"{log.count} statements"


@contextmanager
def listening(engine):
    seen = []

    def note(connection, cursor, statement, parameters, context, executemany):
        seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


@ANSWERS.right
async def an_event_and_a_count_of_its_own(list_conversations, engine, user_id):
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    async with sessions() as session:
        n = await session.scalar(select(func.count()).where(Conversation.user_id == user_id))
    async with sessions() as session:
        with listening(engine) as statements:
            await list_conversations(session=session, user_id=user_id)
    if len(statements) > 1 + (n + 499) // 500:
        raise AssertionError("\n".join(statements))


@ANSWERS.right
async def says_no_as_pytest_does(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    budget = 1 - (-len(conversations) // 500)
    if log.count > budget:
        pytest.fail(f"{log.count} statements for {len(conversations)} conversations, and {budget} are allowed:\n{log}")


async def user_with(n, engine):
    """A user with ``n`` conversations of one message each."""
    mine = uuid4()
    async with AsyncSession(engine) as session:
        session.add(User(id=mine, name="Mine", email=f"{mine}@example.org"))
        for number in range(n):
            message = Message(seq=1, role="user", content="hello")
            session.add(Conversation(user_id=mine, title=f"{number}", messages=[message]))
        await session.commit()
    return mine


@ANSWERS.wrong("let through")
async def two_sizes(list_conversations, engine, user_id):
    short, _ = await counted(list_conversations, engine, await user_with(2, engine))
    long, _ = await counted(list_conversations, engine, await user_with(40, engine))
    assert long.count == short.count, f"{short.count} statements for 2 conversations, {long.count} for 40"


@ANSWERS.wrong("other engines")
async def log_of_all_engines(list_conversations, engine, user_id):
    with QueryLog() as log:
        async with AsyncSession(engine) as session:
            conversations = await list_conversations(session, user_id)
    assert log.count <= 1 + ceil(len(conversations) / 500)


@ANSWERS.wrong("never called")
async def forgot_await(list_conversations, engine, user_id):
    async with AsyncSession(engine) as session:
        with QueryLog(engine) as log:
            list_conversations(session, user_id)
    assert log.count <= 2


@ANSWERS.wrong("never called")
async def asks_for_a_query_of_its_own(list_conversations, engine, user_id):
    async with AsyncSession(engine) as session:
        with QueryLog(engine) as log:
            await session.scalars(select(Conversation).where(Conversation.user_id == user_id))
    assert log.count <= 2


@ANSWERS.wrong("no database")
async def mocked_session(list_conversations, engine, user_id):
    session = AsyncMock()
    session.scalars.return_value = _Empty()
    session.get_one.return_value.conversations = []
    await list_conversations(session, user_id)
    assert session.scalars.await_count <= 2


class _Empty(list):
    def all(self):
        return self

    def unique(self):
        return self


@ANSWERS.wrong("returned, not asserted")
async def returns_a_bool(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    return log.count <= 1 + ceil(len(conversations) / 500)


@ANSWERS.wrong("never fails")
async def compares_results_only(list_conversations, engine, user_id):
    _, conversations = await counted(list_conversations, engine, user_id)
    assert all(conversation.user_id == user_id for conversation in conversations)


@ANSWERS.wrong("never fails")
async def forgot_to_assert(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    log.count <= 1 + ceil(len(conversations) / 500)  # noqa: B015


@ANSWERS.wrong("always fails")
async def other_way_round(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    assert log.count == 0, f"{log.count} statements for {len(conversations)} conversations"


@ANSWERS.wrong("not an assertion")
async def raises_something_else(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    if log.count > 1 + ceil(len(conversations) / 500):
        raise ValueError("N+1")


@ANSWERS.wrong("fails for many")
async def never_more_than_two(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, user_id)
    assert log.count <= 2


@ANSWERS.wrong("false alarm")
async def exactly_two(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    assert log.count == 1 + ceil(len(conversations) / 500), f"{log.count} statements"


@ANSWERS.wrong("false alarm")
async def counts_its_own_count(list_conversations, engine, user_id):
    async with AsyncSession(engine) as session:
        with QueryLog(engine) as log:
            n = await session.scalar(select(func.count()).where(Conversation.user_id == user_id))
            await list_conversations(session, user_id)
    assert log.count <= 1 + ceil(n / 500)


@ANSWERS.wrong("let through")
async def as_high_as_the_data(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    assert log.count <= len(conversations) + 1


@ANSWERS.wrong("let through")
async def counts_selects_of_conversations(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, user_id)
    assert sum("FROM conversations" in statement.sql for statement in log.statements) <= 1


class CountingSession(AsyncSession):
    """Sees what it is asked for, and not what objects load by themselves."""

    sent = 0

    async def execute(self, *arguments, **named):
        self.sent += 1
        return await super().execute(*arguments, **named)


@ANSWERS.wrong("let through")
async def counts_calls_of_the_session(list_conversations, engine, user_id):
    async with CountingSession(engine) as session:
        conversations = await list_conversations(session, user_id)
    assert session.sent <= 1 + ceil(len(conversations) / 500)


@ANSWERS.wrong("let through")
async def looks_for_a_repeated_shape(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, user_id)
    assert not any(repeat.n_plus_one for repeat in log.repeated)


@ANSWERS.wrong("small data")
async def five_conversations_of_its_own(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, await user_with(5, engine))
    assert log.count <= 2


@ANSWERS.wrong("small data")
async def a_user_without_conversations(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, await user_with(0, engine))
    assert log.count <= 2


@ANSWERS.wrong("let through")
async def one_more_at_the_boundary(list_conversations, engine, user_id):
    log, conversations = await counted(list_conversations, engine, user_id)
    assert log.count <= 2 + len(conversations) // 500


@ANSWERS.wrong("warmed up")
async def counts_the_second_call(list_conversations, engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        known = await list_conversations(session, user_id)
        with QueryLog(engine) as log:
            again = await list_conversations(session, user_id)
    assert len(known) == len(again)
    assert log.count <= 1 + ceil(len(known) / 500)


@ANSWERS.wrong("let through")
async def counts_rows_of_a_join(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, user_id)
    async with AsyncSession(engine) as session:
        joined = select(func.count(Conversation.id)).outerjoin(Message).where(Conversation.user_id == user_id)
        n = await session.scalar(joined)
    assert log.count <= 1 + ceil(n / 500)


@ANSWERS.wrong("fails for many")
async def counts_conversations_with_messages(list_conversations, engine, user_id):
    log, _ = await counted(list_conversations, engine, user_id)
    async with AsyncSession(engine) as session:
        spoken = select(func.count(Message.conversation_id.distinct())).join(Message.conversation)
        n = await session.scalar(spoken.where(Conversation.user_id == user_id))
    assert log.count <= 1 + ceil(n / 500)
