"""Answers to 2.3, counts, not rows."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import case, func, literal, select, text
from sqlalchemy.orm import aliased

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.3")
NUMBER = func.count(Message.id)


@ANSWERS.right
async def outer_join(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).where(Conversation.user_id == user_id)
    return (await session.execute(statement.group_by(Conversation.id))).all()


@ANSWERS.right
async def correlated_subquery(session, user_id):
    number = select(func.count()).where(Message.conversation_id == Conversation.id).scalar_subquery()
    statement = select(Conversation.title, number).where(Conversation.user_id == user_id)
    return (await session.execute(statement)).tuples().all()


@ANSWERS.right
async def objects_beside_numbers(session, user_id):
    statement = select(Conversation, func.count(Message.seq)).join(Conversation.messages, isouter=True)
    found = await session.execute(statement.where(Conversation.user_id == user_id).group_by(Conversation))
    return [(conversation.title, number) for conversation, number in found]


@ANSWERS.right
async def counted_first_then_joined(session, user_id):
    counted = select(Message.conversation_id, func.count().label("number")).group_by(Message.conversation_id).cte()
    number = func.coalesce(counted.c.number, 0)
    statement = select(Conversation.title, number).outerjoin(counted, counted.c.conversation_id == Conversation.id)
    found = await session.execute(statement.where(Conversation.user_id == user_id).order_by(number.desc()))
    return tuple(found)


@ANSWERS.right
async def raw_sql_with_lateral(session, user_id):
    sql = """
        SELECT title, number FROM conversations AS c
        CROSS JOIN LATERAL (SELECT count(*) AS number FROM messages AS m WHERE m.conversation_id = c.id) AS counted
        WHERE user_id = :user_id ORDER BY title
    """
    return [list(row) for row in await session.execute(text(sql), {"user_id": user_id})]


@ANSWERS.right
async def summed(session, user_id):
    number = func.sum(case((Message.id.is_(None), 0), else_=1))
    statement = select(Conversation.title, number).select_from(User).join(User.conversations)
    statement = statement.outerjoin(Conversation.messages).where(User.id == user_id)
    return list(await session.execute(statement.group_by(Conversation.id, Conversation.title)))


@ANSWERS.right
async def window(session, user_id):
    number = func.count(Message.id).over(partition_by=Conversation.id)
    statement = select(Conversation.id, Conversation.title, number.label("number")).outerjoin(Message).distinct()
    found = await session.execute(statement.where(Conversation.user_id == user_id))
    return [(row.title, row.number) for row in found]


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).where(Conversation.user_id == user_id)
    await session.execute(statement.group_by(Conversation.id))


@ANSWERS.wrong("not a list")
async def as_a_dict(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).where(Conversation.user_id == user_id)
    return dict((await session.execute(statement.group_by(Conversation.id))).tuples().all())


@ANSWERS.wrong("not pairs")
async def titles_only(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).where(Conversation.user_id == user_id)
    return (await session.scalars(statement.group_by(Conversation.id))).all()


@ANSWERS.wrong("not pairs")
async def null_for_none(session, user_id):
    counted = select(Message.conversation_id, func.count().label("number")).group_by(Message.conversation_id).cte()
    of = counted.c.conversation_id == Conversation.id
    statement = select(Conversation.title, counted.c.number).outerjoin(counted, of)
    return (await session.execute(statement.where(Conversation.user_id == user_id))).all()


@ANSWERS.wrong("loaded on access")
async def length_of_what_is_lazy(session, user_id):
    found = await session.scalars(select(Conversation).where(Conversation.user_id == user_id))
    return [(conversation.title, len(conversation.messages)) for conversation in found]


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).group_by(Conversation.id)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("one for none")
async def count_star(session, user_id):
    statement = select(Conversation.title, func.count()).outerjoin(Message).where(Conversation.user_id == user_id)
    return (await session.execute(statement.group_by(Conversation.id))).all()


@ANSWERS.wrong("empty ones missing")
async def inner_join(session, user_id):
    statement = select(Conversation.title, NUMBER).join(Message).where(Conversation.user_id == user_id)
    return (await session.execute(statement.group_by(Conversation.id))).all()


@ANSWERS.wrong("merged")
async def grouped_by_title(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).where(Conversation.user_id == user_id)
    return (await session.execute(statement.group_by(Conversation.title))).all()


@ANSWERS.wrong("wrong counts")
async def the_last_number(session, user_id):
    number = func.coalesce(func.max(Message.seq), 0)
    statement = select(Conversation.title, number).outerjoin(Message).where(Conversation.user_id == user_id)
    return (await session.execute(statement.group_by(Conversation.id))).all()


@ANSWERS.wrong("wrong counts")
async def multiplied_by_the_sisters(session, user_id):
    sister = aliased(Conversation)
    statement = select(Conversation.title, NUMBER).outerjoin(Message).join(sister, sister.user_id == user_id)
    return (await session.execute(statement.where(Conversation.user_id == user_id).group_by(Conversation.id))).all()


@ANSWERS.wrong("too many statements")
async def one_count_each(session, user_id):
    found = (await session.scalars(select(Conversation).where(Conversation.user_id == user_id))).all()
    number = select(func.count()).select_from(Message)
    return [
        (conversation.title, await session.scalar(number.where(Message.conversation_id == conversation.id)))
        for conversation in found
    ]


@ANSWERS.wrong("loaded messages")
async def joined_and_counted_in_python(session, user_id):
    statement = select(Conversation.id, Conversation.title, Message.id).outerjoin(Message)
    found = (await session.execute(statement.where(Conversation.user_id == user_id))).all()
    numbers = Counter()
    for id, title, message_id in found:
        numbers[id, title] += message_id is not None
    return [(title, number) for (_, title), number in numbers.items()]


@ANSWERS.wrong("texts travelled")
async def gathered_in_an_array(session, user_id):
    texts = func.array_remove(func.array_agg(Message.content), None)
    statement = select(Conversation.title, texts).outerjoin(Message).where(Conversation.user_id == user_id)
    return [(title, len(found)) for title, found in await session.execute(statement.group_by(Conversation.id))]


@ANSWERS.wrong("wrong counts")
async def complete_ones_only(session, user_id):
    complete = (Message.conversation_id == Conversation.id) & (Message.status == "complete")
    statement = select(Conversation.title, NUMBER).outerjoin(Message, complete)
    return (await session.execute(statement.where(Conversation.user_id == user_id).group_by(Conversation.id))).all()


@ANSWERS.wrong("wrong length")
async def united_without_all(session, user_id):
    mine = Conversation.user_id == user_id
    counted = select(Conversation.title, NUMBER).join(Message).where(mine).group_by(Conversation.id)
    empty = select(Conversation.title, literal(0)).where(mine, ~Conversation.messages.any())
    return (await session.execute(counted.union(empty))).all()


@ANSWERS.wrong("wrong length")
async def grouped_by_title_and_time(session, user_id):
    statement = select(Conversation.title, NUMBER).outerjoin(Message).where(Conversation.user_id == user_id)
    return (await session.execute(statement.group_by(Conversation.title, Conversation.updated_at))).all()


@ANSWERS.wrong("wrong counts")
async def joined_with_documents_too(session, user_id):
    statement = select(Conversation.title, NUMBER).select_from(User).join(User.conversations).outerjoin(Message)
    statement = statement.outerjoin(User.documents).where(User.id == user_id)
    return (await session.execute(statement.group_by(Conversation.id))).all()


@ANSWERS.wrong("wrong counts")
async def joined_with_keys_too(session, user_id):
    statement = select(Conversation.title, NUMBER).select_from(User).join(User.conversations).outerjoin(Message)
    statement = statement.join(User.api_keys).where(User.id == user_id)
    return (await session.execute(statement.group_by(Conversation.id))).all()
