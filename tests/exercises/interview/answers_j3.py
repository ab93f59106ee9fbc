"""Answers to J3, the sidebar got slow."""

from __future__ import annotations

from sqlalchemy import case, func, select, text, true
from sqlalchemy.orm import joinedload, selectinload

from course_lib.models import Conversation, Message
from tests.exercises.written import Answers

ANSWERS = Answers("J3")
OWN = Message.conversation_id == Conversation.id
COMPLETE = (Message.role == "assistant", Message.status == "complete")
COUNT = select(func.count()).where(OWN, *COMPLETE).scalar_subquery()
TEXT = select(func.left(Message.content, 40)).where(OWN).order_by(Message.seq.desc()).limit(1).scalar_subquery()
PREVIEW = func.coalesce(TEXT, "")
KEYS = ("id", "title", "answers", "preview")
IN_SQL = text("""
    SELECT c.id, c.title, (
        SELECT count(*) FROM messages AS m
        WHERE m.conversation_id = c.id AND role = 'assistant' AND status = 'complete'
    ) AS answers, coalesce(left(last.content, 40), '') AS preview
    FROM conversations AS c LEFT JOIN LATERAL (
        SELECT content FROM messages AS m WHERE m.conversation_id = c.id ORDER BY seq DESC LIMIT 1
    ) AS last ON true
    WHERE c.user_id = :user_id ORDER BY c.updated_at DESC LIMIT 20
""")


def newest(user_id, *columns):
    of_user = select(*columns).where(Conversation.user_id == user_id)
    return of_user.order_by(Conversation.updated_at.desc()).limit(20)


def columns(answers=COUNT, preview=PREVIEW):
    return Conversation.id, Conversation.title, answers, preview


async def lines_of(session, statement):
    return [dict(zip(KEYS, row, strict=True)) for row in await session.execute(statement)]


def from_objects(conversations):
    return [
        {
            "id": c.id, "title": c.title, "preview": c.messages[-1].content[:40] if c.messages else "",
            "answers": sum(m.role == "assistant" and m.status == "complete" for m in c.messages),
        }
        for c in conversations
    ]  # fmt: skip


@ANSWERS.right
async def lateral(session, user_id):
    return [dict(row) for row in (await session.execute(IN_SQL, {"user_id": user_id})).mappings()]


@ANSWERS.right
async def three_statements(session, user_id):
    conversations = (await session.scalars(newest(user_id, Conversation))).all()
    ids = [conversation.id for conversation in conversations]
    counts = select(Message.conversation_id, func.count()).where(Message.conversation_id.in_(ids), *COMPLETE)
    answers = dict((await session.execute(counts.group_by(Message.conversation_id))).all())
    last = select(Message.conversation_id, Message.content).where(Message.conversation_id.in_(ids))
    last = last.distinct(Message.conversation_id).order_by(Message.conversation_id, Message.seq.desc())
    texts = dict((await session.execute(last)).all())
    return [
        {"id": c.id, "title": c.title, "answers": answers.get(c.id, 0), "preview": texts.get(c.id, "")[:40]}
        for c in conversations
    ]


@ANSWERS.right
async def window(session, user_id):
    place = func.row_number().over(partition_by=Message.conversation_id, order_by=Message.seq.desc())
    count = func.sum(case((Message.role != "assistant", 0), (Message.status == "complete", 1), else_=0))
    numbered = select(
        Message.conversation_id, Message.content, place.label("place"),
        count.over(partition_by=Message.conversation_id).label("answers"),
    ).join(Conversation).where(Conversation.user_id == user_id).subquery()  # fmt: skip
    found = newest(
        user_id, Conversation.id, Conversation.title, func.coalesce(numbered.c.answers, 0),
        func.coalesce(func.left(numbered.c.content, 40), ""),
    )  # fmt: skip
    last = (numbered.c.conversation_id == Conversation.id) & (numbered.c.place == 1)
    return await lines_of(session, found.outerjoin(numbered, last))


@ANSWERS.right
async def whole_text_of_the_last(session, user_id):
    last = select(Message).where(OWN).order_by(Message.seq.desc()).limit(1).lateral()
    found = newest(user_id, Conversation, COUNT, last.c.content).outerjoin(last, true())
    return [
        {"id": c.id, "title": c.title, "answers": answers, "preview": (content or "")[:40]}
        for c, answers, content in await session.execute(found)
    ]


@ANSWERS.wrong("every message")
async def loaded_eagerly(session, user_id):
    loaded = newest(user_id, Conversation).options(selectinload(Conversation.messages))
    return from_objects((await session.scalars(loaded)).all())


@ANSWERS.wrong("every message")
async def joined(session, user_id):
    loaded = newest(user_id, Conversation).options(joinedload(Conversation.messages))
    return from_objects((await session.scalars(loaded)).unique().all())


@ANSWERS.wrong("loop")
async def awaited_attributes(session, user_id):
    conversations = (await session.scalars(newest(user_id, Conversation))).all()
    for conversation in conversations:
        await conversation.awaitable_attrs.messages
    return from_objects(conversations)


@ANSWERS.wrong("loop")
async def counted_one_by_one(session, user_id):
    found = []
    for id, title, preview in (
        await session.execute(newest(user_id, Conversation.id, Conversation.title, PREVIEW))
    ).all():
        count = select(func.count()).where(Message.conversation_id == id, *COMPLETE)
        found.append({"id": id, "title": title, "answers": await session.scalar(count), "preview": preview})
    return found


@ANSWERS.wrong("many statements")
async def a_statement_for_every_column(session, user_id):
    for column in columns()[1:]:
        await session.execute(newest(user_id, Conversation.id, column))
    await session.execute(newest(user_id, Conversation.updated_at))
    return await lines_of(session, newest(user_id, *columns()))


@ANSWERS.wrong("texts travelled")
async def gathered(session, user_id):
    texts = func.array_agg(Message.content).filter(OWN)
    all_texts = select(texts).where(OWN).scalar_subquery()
    found = await session.execute(newest(user_id, *columns(), all_texts))
    return [dict(zip(KEYS, row[:4], strict=True)) for row in found]


@ANSWERS.wrong("loaded on access")
async def in_the_loop(session, user_id):
    return from_objects((await session.scalars(newest(user_id, Conversation))).all())


@ANSWERS.wrong("other lines")
async def only_with_messages(session, user_id):
    return await lines_of(session, newest(user_id, *columns()).where(select(Message.id).where(OWN).exists()))


@ANSWERS.wrong("other lines")
async def all_of_them(session, user_id):
    return await lines_of(session, newest(user_id, *columns()).limit(None))


@ANSWERS.wrong("strangers")
async def of_everybody(session, user_id):
    found = select(*columns()).order_by(Conversation.updated_at.desc()).limit(20)
    return await lines_of(session, found)


@ANSWERS.wrong("order")
async def by_id(session, user_id):
    found = newest(user_id, *columns(), Conversation.updated_at).subquery()
    return await lines_of(session, select(*list(found.c)[:4]).order_by(found.c.updated_at))


@ANSWERS.wrong("wrong line")
async def cut_off_answers_too(session, user_id):
    count = select(func.count()).where(OWN, Message.role == "assistant").scalar_subquery()
    return await lines_of(session, newest(user_id, *columns(answers=count)))


@ANSWERS.wrong("wrong line")
async def newest_by_the_clock(session, user_id):
    last = select(func.left(Message.content, 40)).where(OWN).order_by(Message.created_at.desc()).limit(1)
    return await lines_of(session, newest(user_id, *columns(preview=func.coalesce(last.scalar_subquery(), ""))))


@ANSWERS.wrong("wrong line")
async def none_for_no_text(session, user_id):
    return await lines_of(session, newest(user_id, *columns(preview=TEXT)))


@ANSWERS.wrong("not lines")
async def rows(session, user_id):
    return (await session.execute(newest(user_id, *columns()))).all()


@ANSWERS.wrong("not a list")
async def forgotten_return(session, user_id):
    await session.execute(newest(user_id, *columns()))
