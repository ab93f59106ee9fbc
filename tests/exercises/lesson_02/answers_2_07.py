"""Answers to 2.7, the last three."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

from sqlalchemy import and_, func, lateral, select, text, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.7")
NEWEST_FIRST = (Conversation.updated_at.desc(), Conversation.id.desc())
PLACE = func.row_number().over(partition_by=Message.conversation_id, order_by=Message.seq.desc())


def own(user_id):
    return select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)


def grouped(rows):
    """Of rows (id, title, content or None)."""
    groups = {}
    for id, title, content in rows:
        _, texts = groups.setdefault(id, (title, []))
        if content is not None:
            texts.append(content)
    return list(groups.values())


def numbered_rows(user_id, place=PLACE):
    numbered = select(Message, place.label("place")).subquery()
    last = and_(numbered.c.conversation_id == Conversation.id, numbered.c.place <= 3)
    statement = select(Conversation.id, Conversation.title, numbered.c.content).outerjoin(numbered, last)
    return statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, numbered.c.seq)


@ANSWERS.right
async def row_number(session, user_id):
    return grouped(await session.execute(numbered_rows(user_id)))


@ANSWERS.right
async def lateral_with_limit(session, user_id):
    last = select(Message.seq, Message.content).where(Message.conversation_id == Conversation.id)
    last = lateral(last.order_by(Message.seq.desc()).limit(3))
    statement = select(Conversation.id, Conversation.title, last.c.content).outerjoin(last, true())
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, last.c.seq)
    return grouped(await session.execute(statement))


@ANSWERS.right
async def two_queries(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    mine = select(Message, PLACE.label("place")).join(Conversation).where(Conversation.user_id == user_id).subquery()
    message = aliased(Message, mine)
    of = defaultdict(list)
    for found in await session.scalars(select(message).where(mine.c.place <= 3).order_by(message.seq)):
        of[found.conversation_id].append(found.content)
    return tuple((conversation.title, of[conversation.id]) for conversation in conversations)


@ANSWERS.right
async def gathered_and_cut_by_the_server(session, user_id):
    sql = """
        SELECT title, array(SELECT content FROM (SELECT seq, content FROM messages WHERE conversation_id = c.id
                                                 ORDER BY seq DESC LIMIT 3) AS last ORDER BY seq) AS texts
        FROM conversations AS c WHERE user_id = :user_id ORDER BY updated_at DESC, id DESC
    """
    return [[row.title, row.texts] for row in await session.execute(text(sql), {"user_id": user_id})]


@ANSWERS.right
async def objects_contained(session, user_id):
    mine = select(Message, PLACE.label("place")).subquery()
    message = aliased(Message, mine)
    last = and_(message.conversation_id == Conversation.id, mine.c.place <= 3)
    statement = own(user_id).outerjoin(message, last).order_by(message.seq)
    option = contains_eager(Conversation.messages.of_type(message))
    found = (await session.scalars(statement.options(option))).unique()
    return [(conversation.title, [message.content for message in conversation.messages]) for conversation in found]


@ANSWERS.right
async def newest_turned_round_in_python(session, user_id):
    newest = (func.array_agg(aggregate_order_by(Message.content, Message.seq.desc())))[1:3]
    of = select(newest).where(Message.conversation_id == Conversation.id).scalar_subquery()
    found = await session.execute(own(user_id).with_only_columns(Conversation.title, of))
    return [(title, list(reversed(texts or []))) for title, texts in found]


@ANSWERS.right
async def cut_by_rank_in_a_cte(session, user_id):
    sql = """
        WITH last AS (
            SELECT m.*, rank() OVER (PARTITION BY conversation_id ORDER BY seq DESC) AS place
            FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id WHERE c.user_id = :user_id)
        SELECT c.id, c.title, last.content FROM conversations AS c
        LEFT JOIN last ON last.conversation_id = c.id AND last.place < 4
        WHERE c.user_id = :user_id ORDER BY c.updated_at DESC, c.id DESC, last.seq
    """
    rows = (await session.execute(text(sql), {"user_id": user_id})).all()
    groups = groupby(rows, key=lambda row: (row.id, row.title))
    return [(title, [row.content for row in part if row.content is not None]) for (_, title), part in groups]


@ANSWERS.right
async def counts_the_later_ones(session, user_id):
    later = aliased(Message)
    follows = and_(later.conversation_id == Message.conversation_id, later.seq > Message.seq)
    last = and_(Message.conversation_id == Conversation.id, select(func.count()).where(follows).scalar_subquery() < 3)
    statement = select(Conversation.id, Conversation.title, Message.content).outerjoin(Message, last)
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, Message.seq)
    return grouped(await session.execute(statement))


@ANSWERS.right
async def filtered_relationship(session, user_id):
    same = aliased(Message)
    last = select(same.id).where(same.conversation_id == Message.conversation_id)
    last = last.order_by(same.seq.desc()).limit(3).correlate(Message)
    found = await session.scalars(own(user_id).options(selectinload(Conversation.messages.and_(Message.id.in_(last)))))
    return [(conversation.title, [message.content for message in conversation.messages]) for conversation in found]


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id):
    grouped(await session.execute(numbered_rows(user_id)))


@ANSWERS.wrong("not a list")
async def as_a_dict(session, user_id):
    return dict(grouped(await session.execute(numbered_rows(user_id))))


@ANSWERS.wrong("not pairs")
async def none_in_the_list(session, user_id):
    last = numbered_rows(user_id).subquery()
    statement = select(last.c.title, func.array_agg(last.c.content)).group_by(last.c.id, last.c.title)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("loaded on access")
async def lazy(session, user_id):
    return [(c.title, [m.content for m in c.messages[-3:]]) for c in await session.scalars(own(user_id))]


@ANSWERS.wrong("not unique")
async def joined_without_unique(session, user_id):
    found = await session.scalars(own(user_id).options(joinedload(Conversation.messages)))
    return [(c.title, [m.content for m in c.messages[-3:]]) for c in found]


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id):
    numbered = select(Message, PLACE.label("place")).subquery()
    last = and_(numbered.c.conversation_id == Conversation.id, numbered.c.place <= 3)
    statement = select(Conversation.id, Conversation.title, numbered.c.content).outerjoin(numbered, last)
    return grouped(await session.execute(statement.order_by(*NEWEST_FIRST, numbered.c.seq)))


@ANSWERS.wrong("merged")
async def grouped_by_title(session, user_id):
    groups = defaultdict(list)
    for _, title, content in await session.execute(numbered_rows(user_id)):
        groups[title] += [content] if content else []
    return list(groups.items())


@ANSWERS.wrong("empty ones missing")
async def inner_join_lateral(session, user_id):
    last = select(Message.seq, Message.content).where(Message.conversation_id == Conversation.id)
    last = lateral(last.order_by(Message.seq.desc()).limit(3))
    statement = select(Conversation.id, Conversation.title, last.c.content).join(last, true())
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, last.c.seq)
    return grouped(await session.execute(statement))


@ANSWERS.wrong("too many lines")
async def one_line_per_text(session, user_id):
    found = await session.execute(numbered_rows(user_id))
    return [(row.title, [row.content] if row.content else []) for row in found]


@ANSWERS.wrong("conversations missing")
async def six_hundred_in_all(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).outerjoin(Conversation.messages)
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, Message.seq.desc())
    return [(title, texts[:3][::-1]) for title, texts in grouped(await session.execute(statement.limit(600)))]


@ANSWERS.wrong("order")
async def no_tie_breaker(session, user_id):
    numbered = select(Message, PLACE.label("place")).subquery()
    last = and_(numbered.c.conversation_id == Conversation.id, numbered.c.place <= 3)
    statement = select(Conversation.id, Conversation.title, numbered.c.content).outerjoin(numbered, last)
    statement = statement.where(Conversation.user_id == user_id)
    return grouped(await session.execute(statement.order_by(Conversation.updated_at.desc(), numbered.c.seq)))


@ANSWERS.wrong("mixed up")
async def matched_by_place(session, user_id):
    groups = grouped(await session.execute(numbered_rows(user_id)))
    texts = [texts for _, texts in groups]
    return [(title, said) for (title, _), said in zip(groups, texts[1:] + texts[:1], strict=True)]


@ANSWERS.wrong("too many texts")
async def all_of_them(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content).outerjoin(Conversation.messages)
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, Message.seq)
    return grouped(await session.execute(statement))


@ANSWERS.wrong("too few texts")
async def empty_texts_left_out(session, user_id):
    return [(title, list(filter(None, texts))) for title, texts in await row_number(session, user_id)]


@ANSWERS.wrong("too few texts")
async def numbers_without_gaps_assumed(session, user_id):
    newest = select(func.max(Message.seq)).where(Message.conversation_id == Conversation.id)
    last = Message.seq > newest.correlate(Conversation).scalar_subquery() - 3
    statement = select(Conversation.id, Conversation.title, Message.content)
    statement = statement.outerjoin(Message, and_(Message.conversation_id == Conversation.id, last))
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, Message.seq)
    return grouped(await session.execute(statement))


@ANSWERS.wrong("not the last")
async def by_time(session, user_id):
    place = func.row_number().over(partition_by=Message.conversation_id, order_by=Message.created_at.desc())
    return grouped(await session.execute(numbered_rows(user_id, place)))


@ANSWERS.wrong("newest on top")
async def not_turned_round(session, user_id):
    last = select(Message.seq, Message.content).where(Message.conversation_id == Conversation.id)
    last = lateral(last.order_by(Message.seq.desc()).limit(3))
    statement = select(Conversation.id, Conversation.title, last.c.content).outerjoin(last, true())
    statement = statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, last.c.seq.desc())
    return grouped(await session.execute(statement))


@ANSWERS.wrong("too many statements")
async def a_query_each(session, user_id):
    groups = []
    for conversation in (await session.scalars(own(user_id))).all():
        last = select(Message.content).where(Message.conversation_id == conversation.id)
        texts = (await session.scalars(last.order_by(Message.seq.desc()).limit(3))).all()
        groups.append((conversation.title, texts[::-1]))
    return groups


@ANSWERS.wrong("loaded everything")
async def numbered_and_filtered_in_python(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.content, PLACE.label("place")).outerjoin(Message)
    found = await session.execute(statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, Message.seq))
    return grouped((row.id, row.title, row.content if row.place <= 3 else None) for row in found)


@ANSWERS.wrong("loaded everything")
async def everybodys_last_three(session, user_id):
    conversations = (await session.scalars(own(user_id))).all()
    numbered = select(Message, PLACE.label("place")).subquery()
    of = defaultdict(list)
    statement = select(numbered.c.conversation_id, numbered.c.content).where(numbered.c.place <= 3)
    for id, content in await session.execute(statement.order_by(numbered.c.seq)):
        of[id].append(content)
    return [(conversation.title, of[conversation.id]) for conversation in conversations]


@ANSWERS.wrong("texts travelled")
async def gathered_and_cut_in_python(session, user_id):
    texts = func.array_agg(aggregate_order_by(Message.content, Message.seq))
    of = select(texts).where(Message.conversation_id == Conversation.id).scalar_subquery()
    found = await session.execute(own(user_id).with_only_columns(Conversation.title, of))
    return [(title, (texts or [])[-3:]) for title, texts in found]


@ANSWERS.wrong("pieces")
async def glued_and_split(session, user_id):
    numbered = select(Message, PLACE.label("place")).subquery()
    glued = func.string_agg(numbered.c.content, aggregate_order_by("\n", numbered.c.seq))
    of = select(glued).where(numbered.c.conversation_id == Conversation.id, numbered.c.place <= 3).scalar_subquery()
    found = await session.execute(own(user_id).with_only_columns(Conversation.title, of))
    return [(title, [] if texts is None else texts.split("\n")) for title, texts in found]


@ANSWERS.wrong("not the last")
async def numbered_beside_documents(session, user_id):
    numbered = select(Message, PLACE.label("place")).join(Message.conversation).join(Conversation.user)
    last = numbered.join(User.documents).where(User.id == user_id).subquery()
    statement = select(Conversation.id, Conversation.title, last.c.content)
    statement = statement.outerjoin(last, and_(last.c.conversation_id == Conversation.id, last.c.place <= 3))
    rows = await session.execute(statement.where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST, last.c.seq))
    return grouped(rows)
