"""Answers to 2.5, only what was cut off."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.5")
NEWEST_FIRST = (Conversation.updated_at.desc(), Conversation.id, Message.seq)
CUT = Message.status == "aborted"
SOME_CUT = Conversation.messages.any(CUT)


def own(user_id):
    return select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.updated_at.desc())


def columns(user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    return statement.where(Conversation.user_id == user_id, CUT).order_by(*NEWEST_FIRST)


def lines(conversations):
    return [(found.title, [message.content for message in found.messages]) for found in conversations]


@ANSWERS.right
async def rows_grouped_in_a_dict(session, user_id):
    groups = {}
    for id, title, content in await session.execute(columns(user_id)):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())


@ANSWERS.right
async def rows_grouped_by_neighbours(session, user_id):
    found = (await session.execute(columns(user_id))).all()
    groups = groupby(found, key=lambda row: (row.id, row.title))
    return [[title, [row.content for row in rows]] for (_, title), rows in groups]


@ANSWERS.right
async def gathered_by_the_server(session, user_id):
    texts = func.array_agg(aggregate_order_by(Message.content, Message.seq))
    statement = select(Conversation.title, texts).join(Message).where(Conversation.user_id == user_id, CUT)
    statement = statement.group_by(Conversation.id).order_by(Conversation.updated_at.desc())
    return (await session.execute(statement)).all()


@ANSWERS.right
async def messages_as_objects(session, user_id):
    statement = select(Message).join(Message.conversation).where(Conversation.user_id == user_id, CUT)
    statement = statement.order_by(*NEWEST_FIRST).options(contains_eager(Message.conversation))
    groups = defaultdict(list)
    for message in await session.scalars(statement):
        groups[message.conversation].append(message.content)
    return [(conversation.title, texts) for conversation, texts in groups.items()]


@ANSWERS.right
async def two_queries_by_hand(session, user_id):
    conversations = (await session.scalars(own(user_id).where(SOME_CUT))).all()
    of = defaultdict(list)
    mine = Message.conversation_id.in_([conversation.id for conversation in conversations])
    for message in await session.scalars(select(Message).where(mine, CUT).order_by(Message.seq)):
        of[message.conversation_id].append(message.content)
    return [(conversation.title, of[conversation.id]) for conversation in conversations]


@ANSWERS.right
async def raw_sql(session, user_id):
    sql = """
        SELECT title, array(SELECT content FROM messages WHERE conversation_id = c.id AND status = 'aborted'
                            ORDER BY seq) AS texts
        FROM conversations AS c WHERE user_id = :user_id ORDER BY updated_at DESC
    """
    async with session.begin():
        found = (await session.execute(text(sql), {"user_id": user_id})).all()
    return [(row.title, row.texts) for row in found if row.texts]


@ANSWERS.right
async def filtered_objects_in_a_session_of_their_own(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages.and_(CUT)))
    async with AsyncSession(session.bind) as own_session:
        return lines(await own_session.scalars(statement))


@ANSWERS.right
async def filtered_objects_on_the_same_connection(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages.and_(CUT)))
    async with AsyncSession(await session.connection()) as own_session:
        return lines(await own_session.scalars(statement))


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id):
    await session.execute(columns(user_id))


@ANSWERS.wrong("not a list")
async def as_a_dict(session, user_id):
    groups = defaultdict(list)
    for _, title, content in await session.execute(columns(user_id)):
        groups[title].append(content)
    return groups


@ANSWERS.wrong("not pairs")
async def objects(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages.and_(CUT)))
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("not pairs")
async def one_line_per_message(session, user_id):
    found = await session.execute(columns(user_id))
    return [(row.title, row.content) for row in found]


@ANSWERS.wrong("loaded on access")
async def lazy(session, user_id):
    found = (await session.scalars(own(user_id).where(SOME_CUT))).all()
    return [(c.title, [m.content for m in c.messages if m.status == "aborted"]) for c in found]


@ANSWERS.wrong("not unique")
async def joined_without_unique(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(joinedload(Conversation.messages.and_(CUT)))
    return lines(await session.scalars(statement))


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    groups = {}
    for id, title, content in await session.execute(statement.where(CUT).order_by(*NEWEST_FIRST)):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())


@ANSWERS.wrong("whole messages too")
async def conversations_filtered_messages_not(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages))
    return lines(await session.scalars(statement))


@ANSWERS.wrong("empty groups")
async def those_without_stay(session, user_id):
    statement = own(user_id).options(selectinload(Conversation.messages.and_(CUT)))
    return lines(await session.scalars(statement))


@ANSWERS.wrong("twice")
async def joined_twice(session, user_id):
    cut = aliased(Message)
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    statement = statement.join(cut, (cut.conversation_id == Conversation.id) & (cut.status == "aborted"))
    statement = statement.where(Conversation.user_id == user_id, CUT).order_by(*NEWEST_FIRST)
    groups = {}
    for id, title, content in await session.execute(statement):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())


@ANSWERS.wrong("merged")
async def grouped_by_title(session, user_id):
    groups = defaultdict(list)
    for _, title, content in await session.execute(columns(user_id)):
        groups[title].append(content)
    return list(groups.items())


@ANSWERS.wrong("incomplete")
async def the_last_of_each(session, user_id):
    found = {id: (title, [content]) for id, title, content in await session.execute(columns(user_id))}
    return list(found.values())


@ANSWERS.wrong("torn apart")
async def neighbours_that_are_none(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    statement = statement.where(Conversation.user_id == user_id, CUT).order_by(Message.seq)
    found = (await session.execute(statement)).all()
    groups = groupby(found, key=lambda row: (row.id, row.title))
    return [(title, [row.content for row in rows]) for (_, title), rows in groups]


@ANSWERS.wrong("order of messages")
async def messages_by_time(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    statement = statement.where(Conversation.user_id == user_id, CUT)
    groups = {}
    for id, title, content in await session.execute(
        statement.order_by(Conversation.updated_at.desc(), Conversation.id, Message.created_at)
    ):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())


@ANSWERS.wrong("order")
async def conversations_unordered(session, user_id):
    groups = {}
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    statement = statement.where(Conversation.user_id == user_id, CUT).order_by(Message.seq)
    for id, title, content in await session.execute(statement):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())


@ANSWERS.wrong("too many statements")
async def one_query_each(session, user_id):
    found = []
    for conversation in (await session.scalars(own(user_id))).all():
        mine = select(Message.content).where(Message.conversation_id == conversation.id, CUT).order_by(Message.seq)
        texts = (await session.scalars(mine)).all()
        found += [(conversation.title, texts)] * bool(texts)
    return found


@ANSWERS.wrong("loaded everything")
async def filtered_in_python(session, user_id):
    found = await session.scalars(own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages)))
    return [(c.title, [m.content for m in c.messages if m.status == "aborted"]) for c in found]


@ANSWERS.wrong("already loaded")
async def filtered_collection(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages.and_(CUT)))
    return lines(await session.scalars(statement))


@ANSWERS.wrong("damaged")
async def overwritten(session, user_id):
    statement = own(user_id).join(Conversation.messages).where(CUT).order_by(Message.seq)
    statement = statement.options(contains_eager(Conversation.messages)).execution_options(populate_existing=True)
    return lines((await session.scalars(statement)).unique())


@ANSWERS.wrong("damaged")
async def emptied_the_session_first(session, user_id):
    session.expunge_all()
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages.and_(CUT)))
    return lines(await session.scalars(statement))


@ANSWERS.wrong("commit fails")
async def assigned(session, user_id):
    statement = own(user_id).where(SOME_CUT).options(selectinload(Conversation.messages.and_(CUT)))
    conversations = (await session.scalars(statement)).all()
    for conversation in conversations:
        conversation.messages = [message for message in conversation.messages if message.status == "aborted"]
    return lines(conversations)


@ANSWERS.wrong("whole messages too")
async def all_that_is_not_complete(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).join(Conversation.messages)
    statement = statement.where(Conversation.user_id == user_id, Message.status != "complete")
    groups = {}
    for id, title, content in await session.execute(statement.order_by(*NEWEST_FIRST)):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())


@ANSWERS.wrong("merged")
async def neighbours_of_one_title(session, user_id):
    found = (await session.execute(columns(user_id))).all()
    return [(title, [row.content for row in rows]) for title, rows in groupby(found, key=lambda row: row.title)]


def glued(sign):
    """Texts put together with ``sign`` between them, and taken apart again."""

    async def cut_off_answers(session, user_id):
        texts = func.string_agg(Message.content, aggregate_order_by(sign, Message.seq))
        statement = select(Conversation.title, texts).join(Message).where(Conversation.user_id == user_id, CUT)
        statement = statement.group_by(Conversation.id).order_by(Conversation.updated_at.desc())
        return [(title, text.split(sign)) for title, text in await session.execute(statement)]

    return cut_off_answers


for sign in ("\n", ", ", "|", "\x1f"):
    ANSWERS.wrong("pieces")(glued(sign))


@ANSWERS.wrong("twice")
async def joined_with_documents_too(session, user_id):
    groups = {}
    for id, title, content in await session.execute(columns(user_id).join(Conversation.user).join(User.documents)):
        groups.setdefault(id, (title, []))[1].append(content)
    return list(groups.values())
