"""Answers to 1.6, older conversations page by page."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, func, or_, select, text, tuple_
from sqlalchemy.orm import selectinload

from course_lib.models import Conversation, User
from tests.exercises.written import Answers

ANSWERS = Answers("1.6")
NEWEST_FIRST = (Conversation.created_at.desc(), Conversation.id.desc())
PLACE = tuple_(Conversation.created_at, Conversation.id)


def own(user_id):
    return select(Conversation).where(Conversation.user_id == user_id).order_by(*NEWEST_FIRST)


@ANSWERS.right
async def spelled_out_with_or(session, user_id, after, limit):
    statement = own(user_id).limit(limit + 1)
    if after:
        moment, last = after["created_at"], after["id"]
        same = and_(Conversation.created_at == moment, Conversation.id < last)
        statement = statement.where(or_(Conversation.created_at < moment, same))
    found = (await session.scalars(statement)).all()
    items = found[:limit]
    return items, {"created_at": items[-1].created_at, "id": items[-1].id} if len(found) > limit else None


@ANSWERS.right
async def text_token(session, user_id, after, limit):
    statement = own(user_id).limit(limit + 1)
    if after is not None:
        moment, last = json.loads(base64.urlsafe_b64decode(after))
        statement = statement.where(tuple_(datetime.fromisoformat(moment), UUID(last)) > PLACE)
    *items, extra = (await session.scalars(statement)).all() or [None]
    if len(items) < limit:
        return [*items, extra] if extra else [], None
    place = json.dumps([items[-1].created_at.isoformat(), str(items[-1].id)])
    return items, base64.urlsafe_b64encode(place.encode()).decode()


@ANSWERS.wrong("empty page")
async def raw_sql_until_an_empty_page(session, user_id, after, limit):
    sql = "SELECT * FROM conversations WHERE user_id = :u {} ORDER BY created_at DESC, id DESC LIMIT :n"
    values = {"u": user_id, "n": limit}
    if after:
        sql = sql.format("AND (created_at, id) < (CAST(CAST(:m AS text) AS timestamptz), :i)")
        values |= {"m": after[0], "i": after[1]}
    result = await session.scalars(select(Conversation).from_statement(text(sql.format(""))), values)
    items = list(result)
    return [items, (items[-1].created_at.isoformat(), items[-1].id) if items else None]


@ANSWERS.right
async def asks_whether_more_follow(session, user_id, after, limit):
    async with session.begin():
        statement = own(user_id) if after is None else own(user_id).where(after > PLACE)
        items = (await session.scalars(statement.limit(limit))).all()
        if not items:
            return [], None
        place = (items[-1].created_at, items[-1].id)
        more = await session.scalar(own(user_id).where(place > PLACE).limit(1).with_only_columns(Conversation.id))
    return items, place if more else None


@ANSWERS.right
async def the_object_itself_as_place(session, user_id, after, limit):
    statement = own(user_id).limit(limit + 1)
    if after is not None:
        statement = statement.where((after.created_at, after.id) > PLACE)
    found = (await session.scalars(statement)).all()
    return found[:limit], found[limit - 1] if len(found) > limit else None


def place_of(items, limit):
    return (items[-1].created_at, items[-1].id) if len(items) == limit else None


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id, after, limit):
    await session.scalars(own(user_id).limit(limit))


@ANSWERS.wrong("not a pair")
async def items_only(session, user_id, after, limit):
    return (await session.scalars(own(user_id).limit(limit))).all()


@ANSWERS.wrong("not a pair")
async def forgot_all(session, user_id, after, limit):
    return await session.scalars(own(user_id).limit(limit)), None


@ANSWERS.wrong("not conversations")
async def rows(session, user_id, after, limit):
    return (await session.execute(own(user_id).limit(limit))).all(), None


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id, after, limit):
    statement = select(Conversation).order_by(*NEWEST_FIRST).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return items, place_of(items, limit)


@ANSWERS.wrong("strangers")
async def or_without_brackets(session, user_id, after, limit):
    where, values = "user_id = :u", {"u": user_id, "n": limit + 1}
    if after is not None:
        where += " AND created_at < :at OR created_at = :at AND id < :id"
        values |= {"at": after[0], "id": after[1]}
    sql = f"SELECT * FROM conversations WHERE {where} ORDER BY created_at DESC, id DESC LIMIT :n"
    found = (await session.scalars(select(Conversation).from_statement(text(sql)), values)).all()
    return found[:limit], (found[limit - 1].created_at, found[limit - 1].id) if len(found) > limit else None


@ANSWERS.wrong("wrong length")
async def shows_the_extra_one(session, user_id, after, limit):
    statement = own(user_id).limit(limit + 1)
    items = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return items, place_of(items, limit + 1)


@ANSWERS.wrong("never ends")
async def keeps_its_place(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return items, (items[-1].created_at, items[-1].id) if items else after


@ANSWERS.wrong("ended early")
async def one_page_only(session, user_id, after, limit):
    return (await session.scalars(own(user_id).limit(limit))).all(), None


@ANSWERS.wrong("twice")
async def offset(session, user_id, after, limit):
    after = after or 0
    items = (await session.scalars(own(user_id).offset(after).limit(limit))).all()
    return items, after + limit if len(items) == limit else None


@ANSWERS.wrong("twice")
async def last_one_again(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after >= PLACE))).all()
    return items, place_of(items, limit)


@ANSWERS.wrong("twice")
async def forgot_after(session, user_id, after, limit):
    items = (await session.scalars(own(user_id).limit(limit))).all()
    return items, place_of(items, limit)


@ANSWERS.wrong("skipped")
async def time_only(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    if after:
        statement = statement.where(Conversation.created_at < after)
    items = (await session.scalars(statement)).all()
    return items, items[-1].created_at if len(items) == limit else None


@ANSWERS.wrong("skipped")
async def both_smaller(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    if after:
        statement = statement.where(Conversation.created_at <= after[0], Conversation.id < after[1])
    items = (await session.scalars(statement)).all()
    return items, place_of(items, limit)


@ANSWERS.wrong("skipped")
async def place_of_the_one_not_shown(session, user_id, after, limit):
    statement = own(user_id).limit(limit + 1)
    found = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return found[:limit], place_of(found, limit + 1)


@ANSWERS.wrong("lost its place")
async def place_looked_up_by_id(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    if after:
        moment = select(Conversation.created_at).where(Conversation.id == after).scalar_subquery()
        statement = statement.where(tuple_(moment, after) > PLACE)
    items = (await session.scalars(statement)).all()
    return items, items[-1].id if len(items) == limit else None


@ANSWERS.wrong("lost its place")
async def offset_below_the_first_one_shown(session, user_id, after, limit):
    top, skip = after or (None, 0)
    statement = own(user_id).offset(skip).limit(limit)
    items = (await session.scalars(statement if top is None else statement.where(top >= PLACE))).all()
    top = top or (items[0].created_at, items[0].id)
    return items, (top, skip + limit) if len(items) == limit else None


@ANSWERS.wrong("skipped")
async def seconds_only(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    if after:
        statement = statement.where(tuple_(after[0].replace(microsecond=0), after[1]) > PLACE)
    items = (await session.scalars(statement)).all()
    return items, (items[-1].created_at, items[-1].id) if items else None


@ANSWERS.wrong("order")
async def oldest_first(session, user_id, after, limit):
    statement = select(Conversation).where(Conversation.user_id == user_id)
    statement = statement.order_by(Conversation.created_at, Conversation.id).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after < PLACE))).all()
    return items, place_of(items, limit)


@ANSWERS.wrong("order")
async def by_updated_at(session, user_id, after, limit):
    place = tuple_(Conversation.updated_at, Conversation.id)
    statement = select(Conversation).where(Conversation.user_id == user_id)
    statement = statement.order_by(Conversation.updated_at.desc(), Conversation.id.desc()).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after > place))).all()
    return items, (items[-1].updated_at, items[-1].id) if len(items) == limit else None


@ANSWERS.wrong("order")
async def no_tie_breaker(session, user_id, after, limit):
    statement = own(user_id).order_by(None).order_by(Conversation.created_at.desc()).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return items, place_of(items, limit)


STATE: dict[object, object] = {}


@ANSWERS.wrong("remembers")
async def place_kept_in_a_global(session, user_id, after, limit):
    after = STATE.get(user_id)
    statement = own(user_id).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    STATE[user_id] = place_of(items, limit) or STATE.get(user_id)
    return items, len(items) == limit or None


@ANSWERS.wrong("loaded everything")
async def sliced_in_python(session, user_id, after, limit):
    items = [c for c in await session.scalars(own(user_id)) if after is None or (c.created_at, c.id) < after][:limit]
    return items, place_of(items, limit)


@ANSWERS.wrong("loaded everything")
async def with_their_messages(session, user_id, after, limit):
    statement = own(user_id).options(selectinload(Conversation.messages)).limit(limit + 1)
    found = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return found[:limit], place_of(found[:limit], limit) if len(found) > limit else None


@ANSWERS.wrong("growing place")
async def all_that_was_shown(session, user_id, after, limit):
    shown = after or []
    statement = own(user_id).where(Conversation.id.not_in([id for _, id in shown])).limit(limit)
    if shown:
        statement = statement.where(Conversation.created_at <= shown[-1][0])
    items = (await session.scalars(statement)).all()
    return items, [*shown, *((item.created_at, item.id) for item in items)] if len(items) == limit else None


PLACES: dict[object, tuple[object, object]] = {}


@ANSWERS.wrong("kept elsewhere")
async def place_beside_the_first_page(session, user_id, after, limit):
    statement = own(user_id).limit(limit + 1)
    if after is not None:
        statement = statement.where(PLACES[user_id] > PLACE)
    found = (await session.scalars(statement)).all()
    if len(found) <= limit:
        return found, None
    PLACES[user_id] = (found[limit - 1].created_at, found[limit - 1].id)
    return found[:limit], "more"


@ANSWERS.wrong("loaded everything")
async def looks_for_another_row(session, user_id, after, limit):
    statement = own(user_id) if after is None else own(user_id).where(after > PLACE)
    items = (await session.scalars(statement.limit(limit + 1))).all()[:limit]
    if not items:
        return [], None
    place = (items[-1].created_at, items[-1].id)
    more = await session.scalar(own(user_id).where(place > PLACE).limit(1))
    return items, place if more else None


@ANSWERS.wrong("no conversations")
async def last_of_nothing(session, user_id, after, limit):
    statement = own(user_id) if after is None else own(user_id).where(after > PLACE)
    items = (await session.scalars(statement.limit(limit))).all()
    place = (items[-1].created_at, items[-1].id)
    more = await session.scalar(select(own(user_id).where(place > PLACE).exists()))
    return items, place if more else None


@ANSWERS.wrong("too many statements")
async def one_by_one(session, user_id, after, limit):
    ids = own(user_id).with_only_columns(Conversation.id).limit(limit)
    found = (await session.scalars(ids if after is None else ids.where(after > PLACE))).all()
    items = [await session.get(Conversation, id, populate_existing=True) for id in found]
    return items, place_of(items, limit)


@ANSWERS.wrong("too many statements")
async def counts_and_looks_for_the_user(session, user_id, after, limit):
    await session.get(User, user_id)
    statement = own(user_id) if after is None else own(user_id).where(after > PLACE)
    left = await session.scalar(select(func.count()).select_from(statement.subquery()))
    items = (await session.scalars(statement.limit(limit))).all()
    return items, (items[-1].created_at, items[-1].id) if left > limit else None


@ANSWERS.wrong("raised")
async def empty_page_not_thought_of(session, user_id, after, limit):
    statement = own(user_id).limit(limit)
    items = (await session.scalars(statement if after is None else statement.where(after > PLACE))).all()
    return items, (items[-1].created_at, items[-1].id)


@ANSWERS.wrong("swallowed")
async def nothing_for_any_error(session, user_id, after, limit):
    try:
        return await asks_whether_more_follow(session, user_id, after, limit)
    except Exception:
        return [], None
