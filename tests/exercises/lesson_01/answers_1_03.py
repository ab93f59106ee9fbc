"""Answers to 1.3, the list on the left."""

from __future__ import annotations

from sqlalchemy import desc, func, select, text
from sqlalchemy.orm import aliased, joinedload

from course_lib.models import Conversation, User
from tests.exercises.written import Answers

ANSWERS = Answers("1.3")
NEWEST_FIRST = (Conversation.updated_at.desc(), Conversation.id.desc())


@ANSWERS.right
async def rows_unpacked(session, user_id, n):
    statement = select(Conversation).filter_by(user_id=user_id).order_by(*NEWEST_FIRST).limit(n)
    return [row.Conversation for row in await session.execute(statement)]


@ANSWERS.right
async def raw_sql_as_a_tuple(session, user_id, n):
    sql = "SELECT * FROM conversations WHERE user_id = :u ORDER BY updated_at DESC, id DESC FETCH FIRST :n ROWS ONLY"
    result = await session.scalars(select(Conversation).from_statement(text(sql)), {"u": user_id, "n": n})
    return tuple(result)


@ANSWERS.right
async def joined_with_the_owner(session, user_id, n):
    statement = select(Conversation).join(Conversation.user).where(User.id == user_id)
    statement = statement.order_by(desc(Conversation.updated_at), desc(Conversation.id)).slice(0, n)
    async with session.begin():
        return list(await session.scalars(statement))


@ANSWERS.right
async def reversed_in_python(session, user_id, n):
    newest = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n).subquery()
    page = aliased(Conversation, newest)
    found = (await session.scalars(select(page).order_by(page.updated_at, page.id))).all()
    return found[::-1]


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id, n):
    await session.scalars(select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n))


@ANSWERS.wrong("not a list")
async def forgot_all(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return await session.scalars(statement)


@ANSWERS.wrong("not a list")
async def generator(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return (conversation for conversation in await session.scalars(statement))


@ANSWERS.wrong("not a list")
async def first_only(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return await session.scalar(statement)


@ANSWERS.wrong("not conversations")
async def rows(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("not conversations")
async def titles(session, user_id, n):
    statement = select(Conversation.title).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id, n):
    return (await session.scalars(select(Conversation).order_by(*NEWEST_FIRST).limit(n))).all()


@ANSWERS.wrong("too many")
async def forgot_limit(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("too few")
async def hard_coded_limit(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)
    return (await session.scalars(statement.limit(min(n, 20)))).all()


@ANSWERS.wrong("too few")
async def newest_of_everybody(session, user_id, n):
    newest = select(Conversation.id).order_by(*NEWEST_FIRST).limit(5 * n)
    statement = select(Conversation).where(Conversation.user_id == user_id, Conversation.id.in_(newest))
    return (await session.scalars(statement.order_by(*NEWEST_FIRST).limit(n))).all()


@ANSWERS.wrong("too many")
async def nought_is_twenty(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)
    return (await session.scalars(statement.limit(n or 20))).all()


@ANSWERS.wrong("remembered")
async def ids_kept(session, user_id, n, known={}):  # noqa: B006
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    if (user_id, n) not in known:
        known[user_id, n] = (await session.scalars(statement)).all()
    return known[user_id, n]


@ANSWERS.wrong("oldest first")
async def ascending(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.updated_at)
    return (await session.scalars(statement.limit(n))).all()


@ANSWERS.wrong("not the newest")
async def by_created_at(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.created_at.desc())
    return (await session.scalars(statement.limit(n))).all()


@ANSWERS.wrong("not the newest")
async def limited_before_ordered(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).limit(n)
    found = (await session.scalars(statement)).all()
    return sorted(found, key=lambda conversation: (conversation.updated_at, conversation.id), reverse=True)


@ANSWERS.wrong("order")
async def ordered_by_something_else_at_last(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return sorted(await session.scalars(statement), key=lambda conversation: int(conversation.title.split()[1]) % 3)


@ANSWERS.wrong("order")
async def by_the_second(session, user_id, n):
    second = func.date_trunc("second", Conversation.updated_at)
    statement = select(Conversation).where(Conversation.user_id == user_id)
    return (await session.scalars(statement.order_by(second.desc(), Conversation.id.desc()).limit(n))).all()


@ANSWERS.wrong("ties")
async def tie_breaker_upwards(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id)
    statement = statement.order_by(Conversation.updated_at.desc(), Conversation.id).limit(n)
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("loaded everything")
async def sliced_in_python(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)
    return (await session.scalars(statement)).all()[:n]


@ANSWERS.wrong("loaded everything")
async def one_row_more(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)
    return (await session.scalars(statement.limit(n + 1))).all()[:n]


@ANSWERS.wrong("too many statements")
async def one_by_one(session, user_id, n):
    ids = select(Conversation.id).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return [await session.get(Conversation, id) for id in (await session.scalars(ids)).all()]


@ANSWERS.wrong("not the newest")
async def joined_with_its_messages(session, user_id, n):
    statement = select(Conversation).outerjoin(Conversation.messages).where(Conversation.user_id == user_id)
    return (await session.scalars(statement.order_by(*NEWEST_FIRST).limit(n))).all()


@ANSWERS.wrong("too many statements")
async def looks_for_the_user_first(session, user_id, n):
    if await session.get(User, user_id) is None:
        return []
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("loaded everything")
async def messages_too(session, user_id, n):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST).limit(n)
    return (await session.scalars(statement.options(joinedload(Conversation.messages)))).unique().all()
