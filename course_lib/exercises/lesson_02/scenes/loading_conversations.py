"""Ways to load a user's conversations with their messages: what a test of a budget is tried on.

All return the same conversations, messages loaded. They differ in the statements they send for n of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from sqlalchemy import Select, select
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


async def _give_messages(session: AsyncSession, conversations: Conversations) -> None:
    messages: dict[UUID, list[Message]] = defaultdict(list)
    theirs = Message.conversation_id.in_([conversation.id for conversation in conversations])
    for message in await session.scalars(select(Message).where(theirs).order_by(Message.seq)):
        messages[message.conversation_id].append(message)
    for conversation in conversations:
        set_committed_value(conversation, "messages", messages[conversation.id])
