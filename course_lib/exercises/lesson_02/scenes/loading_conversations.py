"""Ways to load a user's conversations with their messages: what a test of a budget is tried on.

All return the same conversations, messages loaded. They differ in the statements they send for n of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from course_lib.models import Conversation, Message, User

Conversations = Sequence[Conversation]
Loading = Callable[[AsyncSession, UUID], Awaitable[Conversations]]

BATCH = 10
FEW = 20  # so many are loaded at once by the one that is only right for small data


def _own(user_id: UUID) -> Select[Conversation]:
    return select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.updated_at.desc())


async def in_a_second_select(session: AsyncSession, user_id: UUID) -> Conversations:
    """selectinload: 1 and another one for every 500."""
    return (await session.scalars(_own(user_id).options(selectinload(Conversation.messages)))).all()


async def in_a_join(session: AsyncSession, user_id: UUID) -> Conversations:
    """joinedload: 1."""
    return (await session.scalars(_own(user_id).options(joinedload(Conversation.messages)))).unique().all()


async def by_hand(session: AsyncSession, user_id: UUID) -> Conversations:
    """Two queries: 2."""
    conversations = (await session.scalars(_own(user_id))).all()
    await _give_messages(session, conversations)
    return conversations


async def one_by_one(session: AsyncSession, user_id: UUID) -> Conversations:
    """The N+1: n + 1."""
    conversations = (await session.scalars(_own(user_id))).all()
    for conversation in conversations:
        await conversation.awaitable_attrs.messages
    return conversations


async def one_by_one_below(session: AsyncSession, user_id: UUID) -> Conversations:
    """The first level is loaded at once, the second one by one: n + 2."""
    user = await session.get_one(User, user_id, options=[selectinload(User.conversations)])
    for conversation in user.conversations:
        await conversation.awaitable_attrs.messages
    return sorted(user.conversations, key=lambda conversation: conversation.updated_at, reverse=True)


async def one_by_one_in_sql(session: AsyncSession, user_id: UUID) -> Conversations:
    """Written by hand, in small letters, on the session's connection: n + 1."""
    conversations = (await session.scalars(_own(user_id))).all()
    connection = await session.connection()
    sql = text("\n  with said as (select * from messages where conversation_id = :id) select * from said order by seq")
    for conversation in conversations:
        rows = await connection.execute(sql, {"id": conversation.id})
        set_committed_value(conversation, "messages", [Message(**row) for row in rows.mappings()])
    return conversations


async def one_by_one_in_other_sessions(session: AsyncSession, user_id: UUID) -> Conversations:
    """Each conversation's messages in a session of their own: n + 1."""
    conversations = (await session.scalars(_own(user_id))).all()
    for conversation in conversations:
        async with AsyncSession(session.bind, expire_on_commit=False) as other:
            messages = select(Message).where(Message.conversation_id == conversation.id).order_by(Message.seq)
            set_committed_value(conversation, "messages", (await other.scalars(messages)).all())
    return conversations


async def conversation_by_conversation(session: AsyncSession, user_id: UUID) -> Conversations:
    """The keys, each conversation by its key, all messages at once: n + 2."""
    keys = (await session.scalars(_own(user_id).with_only_columns(Conversation.id))).all()
    conversations = [await session.get_one(Conversation, key) for key in keys]
    await _give_messages(session, conversations)
    return conversations


async def in_small_batches(session: AsyncSession, user_id: UUID) -> Conversations:
    """Ten conversations' messages at a time: 1 + n / 10."""
    conversations = (await session.scalars(_own(user_id))).all()
    for first in range(0, len(conversations), BATCH):
        await _give_messages(session, conversations[first : first + BATCH])
    return conversations


async def at_once_while_few(session: AsyncSession, user_id: UUID) -> Conversations:
    """2 for few conversations; more are loaded one by one: n + 1."""
    conversations = (await session.scalars(_own(user_id))).all()
    if len(conversations) <= FEW:
        await _give_messages(session, conversations)
    for conversation in conversations:
        await conversation.awaitable_attrs.messages
    return conversations


async def one_too_many(session: AsyncSession, user_id: UUID) -> Conversations:
    """selectinload, and the user is looked for before: 2 and another one for every 500."""
    await session.get(User, user_id)
    return await in_a_second_select(session, user_id)


async def in_sql(session: AsyncSession, user_id: UUID) -> Conversations:
    """Written by hand, in small letters, and selectinload beside it: 1 and another one for every 500."""
    mine = "with mine as (select * from conversations where user_id = :mine)"
    sql = text(f"\n  {mine}\n  select * from mine order by updated_at desc")
    statement = select(Conversation).from_statement(sql).options(selectinload(Conversation.messages))
    return (await session.scalars(statement, {"mine": user_id})).all()


async def _give_messages(session: AsyncSession, conversations: Conversations) -> None:
    messages: dict[UUID, list[Message]] = defaultdict(list)
    theirs = Message.conversation_id.in_([conversation.id for conversation in conversations])
    for message in await session.scalars(select(Message).where(theirs).order_by(Message.seq)):
        messages[message.conversation_id].append(message)
    for conversation in conversations:
        set_committed_value(conversation, "messages", messages[conversation.id])


@dataclass(frozen=True)
class Way:
    """One of these functions, how many statements it ``sends`` for n conversations, and in words what it does."""

    load: Loading
    sends: Callable[[int], int]
    how: str

    def keeps_the_budget(self, n: int) -> bool:
        return self.sends(n) <= 1 + ceil(n / 500)


SELECTED = Way(in_a_second_select, lambda n: 1 + ceil(n / 500), "uses selectinload")
JOINED = Way(in_a_join, lambda n: 1, "joins")
BY_HAND = Way(by_hand, lambda n: 2, "sends two queries")
ONE_BY_ONE = Way(one_by_one, lambda n: n + 1, "loads the messages of one conversation after the other")
BELOW = Way(one_by_one_below, lambda n: n + 2, "loads the conversations with their user, and then messages one by one")
ONE_TOO_MANY = Way(one_too_many, lambda n: 2 + ceil(n / 500), "looks for the user first and then uses selectinload")
WAYS = (
    SELECTED,
    JOINED,
    BY_HAND,
    Way(in_sql, lambda n: 1 + ceil(n / 500), "sends SQL in small letters"),
    ONE_BY_ONE,
    BELOW,
    Way(at_once_while_few, lambda n: 2 if n <= FEW else n + 1, f"loads more than {FEW} conversations one by one"),
    Way(in_small_batches, lambda n: 1 + ceil(n / BATCH), f"loads the messages of {BATCH} conversations at a time"),
    Way(conversation_by_conversation, lambda n: n + 2, "asks for one conversation after the other by its id"),
    Way(
        one_by_one_in_sql,
        lambda n: n + 1,
        "asks for messages one by one, in SQL that begins with a small `with`",
    ),
    Way(
        one_by_one_in_other_sessions,
        lambda n: n + 1,
        "loads messages one by one, each in another session",
    ),
    ONE_TOO_MANY,
)
"""All of them, those first that keep to 1 statement and another one for every 500 conversations."""
