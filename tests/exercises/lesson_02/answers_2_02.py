"""Answers to 2.2, who said what, and where."""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.2")
NEWEST_FIRST = (Message.created_at.desc(), Message.id.desc())
COLUMNS = (Message.content, Conversation.title, User.name)


def lines(messages):
    return [(message.content, message.conversation.title, message.conversation.user.name) for message in messages]


def newest(n):
    return select(Message).order_by(*NEWEST_FIRST).limit(n)


@ANSWERS.right
async def three_columns(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return (await session.execute(statement.order_by(*NEWEST_FIRST).limit(n))).all()


@ANSWERS.right
async def joined(session, n):
    path = joinedload(Message.conversation, innerjoin=True).joinedload(Conversation.user, innerjoin=True)
    return lines(await session.scalars(newest(n).options(path)))


@ANSWERS.wrong("too many statements")
async def selected_in(session, n):
    path = selectinload(Message.conversation).selectinload(Conversation.user)
    return lines((await session.scalars(newest(n).options(path))).all())


@ANSWERS.right
async def contained(session, n):
    path = contains_eager(Message.conversation).contains_eager(Conversation.user)
    statement = newest(n).join(Message.conversation).join(Conversation.user).options(path)
    return tuple(lines(await session.scalars(statement)))


@ANSWERS.right
async def raw_sql(session, n):
    sql = """
        SELECT content, title, name
        FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id JOIN users AS u ON u.id = c.user_id
        ORDER BY m.created_at DESC, m.id DESC LIMIT :n
    """
    return [list(row) for row in await session.execute(text(sql), {"n": n})]


@ANSWERS.right
async def three_queries_by_hand(session, n):
    messages = (await session.scalars(newest(n))).all()
    wanted = Conversation.id.in_({message.conversation_id for message in messages})
    conversations = {found.id: found for found in await session.scalars(select(Conversation).where(wanted))}
    owners = User.id.in_({conversation.user_id for conversation in conversations.values()})
    names = dict((await session.execute(select(User.id, User.name).where(owners))).tuples().all())
    of = {message: conversations[message.conversation_id] for message in messages}
    return [(message.content, of[message].title, names[of[message].user_id]) for message in messages]


@ANSWERS.right
async def limited_before_joining(session, n):
    page = newest(n).cte("page")
    message = aliased(Message, page)
    statement = (
        select(message.content, Conversation.title, User.name)
        .select_from(page)
        .join(Conversation, Conversation.id == message.conversation_id)
        .join(User, User.id == Conversation.user_id)
        .order_by(message.created_at.desc(), message.id.desc())
    )
    return (await session.execute(statement)).tuples().all()


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, n):
    lines(await session.scalars(newest(n).options(joinedload(Message.conversation).joinedload(Conversation.user))))


@ANSWERS.wrong("not a list")
async def forgot_all(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return await session.execute(statement.order_by(*NEWEST_FIRST).limit(n))


@ANSWERS.wrong("not triples")
async def dicts(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return (await session.execute(statement.order_by(*NEWEST_FIRST).limit(n))).mappings().all()


@ANSWERS.wrong("loaded on access")
async def lazy(session, n):
    return lines(await session.scalars(newest(n)))


@ANSWERS.wrong("wrong length")
async def forgot_limit(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return (await session.execute(statement.order_by(*NEWEST_FIRST))).all()


@ANSWERS.wrong("wrong company")
async def forgot_join(session, n):
    statement = select(*COLUMNS).order_by(*NEWEST_FIRST).limit(n)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("wrong company")
async def forgot_the_second_join(session, n):
    statement = select(*COLUMNS).join(Message.conversation).order_by(*NEWEST_FIRST).limit(n)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("wrong company")
async def columns_swapped(session, n):
    statement = select(Message.content, User.name, Conversation.title).join(Message.conversation)
    return (await session.execute(statement.join(Conversation.user).order_by(*NEWEST_FIRST).limit(n))).all()


@ANSWERS.wrong("not the newest")
async def unordered(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user).limit(n)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("not the newest")
async def by_the_conversation(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    statement = statement.order_by(Conversation.updated_at.desc(), Message.id.desc())
    return (await session.execute(statement.limit(n))).all()


@ANSWERS.wrong("oldest first")
async def turned_round(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return (await session.execute(statement.order_by(*NEWEST_FIRST).limit(n))).all()[::-1]


@ANSWERS.wrong("ties")
async def no_tie_breaker(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return (await session.execute(statement.order_by(Message.created_at.desc()).limit(n))).all()


@ANSWERS.wrong("order")
async def sorted_by_text(session, n):
    statement = select(*COLUMNS).join(Message.conversation).join(Conversation.user)
    return sorted((await session.execute(statement.order_by(*NEWEST_FIRST).limit(n))).tuples().all())


@ANSWERS.wrong("too many statements")
async def gets_each(session, n):
    found = []
    for message in (await session.scalars(newest(n))).all():
        conversation = await session.get(Conversation, message.conversation_id)
        owner = await session.get(User, conversation.user_id)
        found.append((message.content, conversation.title, owner.name))
    return found


@ANSWERS.wrong("loaded everything")
async def all_users(session, n):
    names = dict((await session.execute(select(User.id, User.name))).tuples().all())
    messages = await session.scalars(newest(n).options(joinedload(Message.conversation)))
    return [(message.content, message.conversation.title, names[message.conversation.user_id]) for message in messages]


@ANSWERS.wrong("wrong length")
async def equal_lines_once(session, n):
    return list(dict.fromkeys(await three_columns(session, n)))


@ANSWERS.wrong("wrong length")
async def complete_ones_only(session, n):
    statement = select(Message.content, Conversation.title, User.name).join(Message.conversation)
    statement = statement.join(Conversation.user).where(Message.status == "complete")
    return (await session.execute(statement.order_by(*NEWEST_FIRST).limit(n))).all()


@ANSWERS.wrong("loaded everything")
async def with_ties(session, n):
    statement = select(Message.content, Conversation.title, User.name, Message.created_at, Message.id)
    statement = statement.join(Message.conversation).join(Conversation.user).order_by(Message.created_at.desc())
    found = (await session.execute(statement.fetch(n, with_ties=True))).all()
    return [tuple(row[:3]) for row in sorted(found, key=lambda row: row[3:], reverse=True)[:n]]
