"""Answers to 2.1, two statements."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import select, text
from sqlalchemy.orm import (
    contains_eager,
    joinedload,
    load_only,
    selectinload,
    subqueryload,
)
from sqlalchemy.orm.attributes import set_committed_value

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.1")
NEWEST_FIRST = (Conversation.updated_at.desc(), Conversation.id.desc())


def own(user_id):
    return select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)


@ANSWERS.right
async def joined(session, user_id):
    return (await session.scalars(own(user_id).options(joinedload(Conversation.messages)))).unique().all()


@ANSWERS.right
async def subquery_in_a_transaction(session, user_id):
    async with session.begin():
        found = await session.execute(own(user_id).options(subqueryload(Conversation.messages)))
        return [row.Conversation for row in found]


@ANSWERS.right
async def outer_join_by_hand(session, user_id):
    statement = own(user_id).outerjoin(Conversation.messages).options(contains_eager(Conversation.messages))
    return tuple((await session.scalars(statement.order_by(Message.seq))).unique())


@ANSWERS.right
async def two_queries_by_hand(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    of = defaultdict(list)
    mine = Message.conversation_id.in_([conversation.id for conversation in conversations])
    for message in await session.scalars(select(Message).where(mine).order_by(Message.seq)):
        of[message.conversation_id].append(message)
    for conversation in conversations:
        set_committed_value(conversation, "messages", of[conversation.id])
    return conversations


@ANSWERS.right
async def raw_sql_with_an_option(session, user_id):
    sql = text("SELECT * FROM conversations WHERE user_id = :user_id ORDER BY updated_at DESC, id DESC")
    statement = select(Conversation).from_statement(sql).options(selectinload(Conversation.messages))
    return list(await session.scalars(statement, {"user_id": user_id}))


@ANSWERS.right
async def sorted_in_python(session, user_id):
    statement = select(Conversation).where(Conversation.user_id == user_id)
    shown = load_only(Message.role, Message.content, Message.seq)
    found = await session.scalars(statement.options(selectinload(Conversation.messages).options(shown)))
    return sorted(found, key=lambda conversation: (conversation.updated_at, conversation.id), reverse=True)


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id):
    await session.scalars(own(user_id).options(selectinload(Conversation.messages)))


@ANSWERS.wrong("not a list")
async def forgot_all(session, user_id):
    return await session.scalars(own(user_id).options(selectinload(Conversation.messages)))


@ANSWERS.wrong("not conversations")
async def rows(session, user_id):
    return (await session.execute(own(user_id).options(selectinload(Conversation.messages)))).all()


@ANSWERS.wrong("loaded on access")
async def touches_them(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    for conversation in conversations:
        list(conversation.messages)
    return conversations


@ANSWERS.wrong("not unique")
async def joined_without_unique(session, user_id):
    return (await session.scalars(own(user_id).options(joinedload(Conversation.messages)))).all()


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id):
    statement = select(Conversation).order_by(*NEWEST_FIRST).options(selectinload(Conversation.messages))
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("twice")
async def joined_in_vain(session, user_id):
    statement = own(user_id).outerjoin(Conversation.messages).options(selectinload(Conversation.messages))
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("conversations missing")
async def inner_join(session, user_id):
    statement = own(user_id).join(Conversation.messages).options(contains_eager(Conversation.messages))
    return (await session.scalars(statement.order_by(Message.seq))).unique().all()


@ANSWERS.wrong("not loaded")
async def lazy(session, user_id):
    return (await session.scalars(own(user_id))).all()


@ANSWERS.wrong("unreadable")
async def loaded_then_rolled_back(session, user_id):
    found = (await session.scalars(own(user_id).options(selectinload(Conversation.messages)))).all()
    await session.rollback()
    return found


@ANSWERS.wrong("not loaded")
async def ids_of_messages_only(session, user_id):
    messages = selectinload(Conversation.messages).load_only(Message.id)
    return (await session.scalars(own(user_id).options(messages))).all()


@ANSWERS.wrong("not loaded")
async def joined_but_not_contained(session, user_id):
    return (await session.scalars(own(user_id).outerjoin(Conversation.messages).distinct())).all()


@ANSWERS.wrong("other messages")
async def empty_ones_forgotten(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    messages = (await session.scalars(select(Message).join(Conversation).where(Conversation.user_id == user_id))).all()
    for conversation in conversations:
        set_committed_value(conversation, "messages", list(messages))
    return conversations


@ANSWERS.wrong("messages missing")
async def filtered(session, user_id):
    said = selectinload(Conversation.messages.and_(Message.role == "user"))
    return (await session.scalars(own(user_id).options(said))).all()


@ANSWERS.wrong("order of messages")
async def without_order(session, user_id):
    statement = own(user_id).outerjoin(Conversation.messages).options(contains_eager(Conversation.messages))
    return (await session.scalars(statement)).unique().all()


@ANSWERS.wrong("order of messages")
async def by_time(session, user_id):
    statement = own(user_id).outerjoin(Conversation.messages).options(contains_eager(Conversation.messages))
    return (await session.scalars(statement.order_by(Message.created_at))).unique().all()


@ANSWERS.wrong("order")
async def through_the_user(session, user_id):
    path = selectinload(User.conversations).selectinload(Conversation.messages)
    user = await session.scalar(select(User).where(User.id == user_id).options(path))
    return list(user.conversations)


@ANSWERS.wrong("ties")
async def no_tie_breaker(session, user_id):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.updated_at.desc())
    return (await session.scalars(statement.options(selectinload(Conversation.messages)))).all()


@ANSWERS.wrong("loaded everything")
async def all_messages_of_all_users(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    of = defaultdict(list)
    for message in await session.scalars(select(Message).order_by(Message.seq)):
        of[message.conversation_id].append(message)
    for conversation in conversations:
        set_committed_value(conversation, "messages", of[conversation.id])
    return conversations


@ANSWERS.wrong("too many statements")
async def awaitable_attributes(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    for conversation in conversations:
        await conversation.awaitable_attrs.messages
    return conversations


@ANSWERS.wrong("too many statements")
async def looks_for_the_user_first(session, user_id):
    if await session.get(User, user_id) is None:
        return []
    return (await session.scalars(own(user_id).options(selectinload(Conversation.messages)))).all()


KNOWN = {}


@ANSWERS.wrong("remembered")
async def kept_in_the_module(session, user_id):
    if user_id not in KNOWN:
        found = await session.scalars(own(user_id).options(selectinload(Conversation.messages)))
        KNOWN[user_id] = found.all()
    return KNOWN[user_id]
