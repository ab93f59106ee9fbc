"""Answers to J6, 100% finds everything."""

from __future__ import annotations

import re

from sqlalchemy import func, or_, select, text

from course_lib.models import Document, User
from tests.exercises.written import Answers

ANSWERS = Answers("J6")
TITLE, NEWEST = Document.title, Document.created_at.desc()
IN_SQL = text("""
    SELECT title FROM documents WHERE user_id = :user_id AND strpos(lower(title), lower(:typed)) > 0
    ORDER BY strpos(lower(title), lower(:typed)) = 1 DESC, created_at DESC LIMIT :limit
""")


def found_by(user_id, condition, *order, limit=None):
    found = select(TITLE).where(Document.user_id == user_id, condition)
    return found.order_by(*order, NEWEST).limit(limit)


async def listed(session, statement):
    return (await session.scalars(statement)).all()


def contains(typed):
    return TITLE.icontains(typed, autoescape=True)


def begins(typed):
    return TITLE.istartswith(typed, autoescape=True).desc()


@ANSWERS.right
async def escaped_by_hand(session, user_id, typed, limit):
    pattern = re.sub(r"([\\%_])", r"\\\1", typed)
    first = TITLE.ilike(f"{pattern}%").desc()
    return await listed(session, found_by(user_id, TITLE.ilike(f"%{pattern}%"), first, limit=limit))


@ANSWERS.right
async def with_another_escape(session, user_id, typed, limit):
    pattern = typed.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    first = TITLE.ilike(f"{pattern}%", escape="!").desc()
    return await listed(session, found_by(user_id, TITLE.ilike(f"%{pattern}%", escape="!"), first, limit=limit))


@ANSWERS.right
async def without_patterns(session, user_id, typed, limit):
    return await listed(session, IN_SQL.bindparams(user_id=user_id, typed=typed, limit=limit))


@ANSWERS.right
async def a_regex_of_plain_signs(session, user_id, typed, limit):
    plain = re.sub(r"([^\w\s])", r"\\\1", typed)
    first = TITLE.regexp_match(f"^{plain}", flags="i").desc()
    return await listed(session, found_by(user_id, TITLE.regexp_match(plain, flags="i"), first, limit=limit))


@ANSWERS.right
async def in_python(session, user_id, typed, limit):
    titles = await listed(session, select(TITLE).where(Document.user_id == user_id).order_by(NEWEST))
    matching = [title for title in titles if typed.lower() in title.lower()]
    return sorted(matching, key=lambda title: not title.lower().startswith(typed.lower()))[:limit]


@ANSWERS.wrong("no match")
async def only_the_letters(session, user_id, typed, limit):
    found = found_by(user_id, TITLE.ilike(f"%{typed}%"), TITLE.ilike(f"{typed}%").desc(), limit=limit)
    return await listed(session, found)


@ANSWERS.wrong("no match")
async def only_the_percent_sign(session, user_id, typed, limit):
    pattern = typed.replace("%", "\\%")
    found = found_by(user_id, TITLE.ilike(f"%{pattern}%"), TITLE.ilike(f"{pattern}%").desc(), limit=limit)
    return await listed(session, found)


@ANSWERS.wrong("no match")
async def not_the_backslash(session, user_id, typed, limit):
    pattern = typed.replace("%", "\\%").replace("_", "\\_")
    return await listed(session, found_by(user_id, TITLE.ilike(f"%{pattern}%"), begins(typed), limit=limit))


@ANSWERS.wrong("no match")
async def a_regex(session, user_id, typed, limit):
    found = found_by(user_id, TITLE.regexp_match(typed.replace("%", "."), flags="i"), begins(typed), limit=limit)
    return await listed(session, found)


@ANSWERS.wrong("no match")
async def without_blanks(session, user_id, typed, limit):
    return await listed(session, found_by(user_id, contains(typed.strip()), begins(typed.strip()), limit=limit))


@ANSWERS.wrong("missed")
async def the_backslash_last(session, user_id, typed, limit):
    pattern = typed.replace("%", "\\%").replace("_", "\\_").replace("\\", "\\\\")
    return await listed(session, found_by(user_id, TITLE.ilike(f"%{pattern}%"), begins(typed), limit=limit))


@ANSWERS.wrong("missed")
async def signs_taken_out(session, user_id, typed, limit):
    words = re.sub(r"[%_\\]", "", typed)
    found = found_by(user_id, contains(words), begins(typed))
    return [title for title in await listed(session, found) if typed in title and words][:limit]


@ANSWERS.wrong("capitals")
async def only_what_was_reported(session, user_id, typed, limit):
    first = TITLE.startswith(typed, autoescape=True).desc()
    return await listed(session, found_by(user_id, TITLE.contains(typed, autoescape=True), first, limit=limit))


@ANSWERS.wrong("capitals")
async def strpos_alone(session, user_id, typed, limit):
    return await listed(session, found_by(user_id, func.strpos(TITLE, typed) > 0, begins(typed), limit=limit))


@ANSWERS.wrong("first ones")
async def the_order_as_it_was(session, user_id, typed, limit):
    first = TITLE.like(f"{typed}%", escape="").desc()
    return await listed(session, found_by(user_id, contains(typed), first, limit=limit))


@ANSWERS.wrong("first ones")
async def letters_in_the_order(session, user_id, typed, limit):
    first = TITLE.startswith(typed, autoescape=True).desc()
    return await listed(session, found_by(user_id, contains(typed), first, limit=limit))


@ANSWERS.wrong("first ones")
async def only_the_newest_first(session, user_id, typed, limit):
    return await listed(session, found_by(user_id, contains(typed), limit=limit))


@ANSWERS.wrong("order")
async def oldest_first(session, user_id, typed, limit):
    found = select(TITLE).where(Document.user_id == user_id, contains(typed)).order_by(begins(typed))
    return await listed(session, found.order_by(Document.created_at).limit(limit))


@ANSWERS.wrong("strangers")
async def an_or_beside_the_owner(session, user_id, typed, limit):
    own = or_(Document.user_id == user_id, TITLE.istartswith(typed, autoescape=True))
    return await listed(session, select(TITLE).where(own, contains(typed)).order_by(begins(typed), NEWEST))


@ANSWERS.wrong("fails")
async def put_into_the_text(session, user_id, typed, limit):
    pattern = typed.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    found = found_by(user_id, text(f"title ILIKE '%{pattern}%'"), begins(typed), limit=limit)
    return await listed(session, found)


@ANSWERS.wrong("too many")
async def limit_forgotten(session, user_id, typed, limit):
    return await listed(session, found_by(user_id, contains(typed), begins(typed)))


@ANSWERS.wrong("too few")
async def one_less(session, user_id, typed, limit):
    return await listed(session, found_by(user_id, contains(typed), begins(typed), limit=limit - (limit < 20)))


@ANSWERS.wrong("twice")
async def joined_to_everybody(session, user_id, typed, limit):
    found = found_by(user_id, contains(typed), begins(typed)).join(User, User.tier == "free")
    return await listed(session, found)


@ANSWERS.wrong("not titles")
async def documents(session, user_id, typed, limit):
    found = select(Document).where(Document.user_id == user_id, contains(typed)).order_by(begins(typed), NEWEST)
    return await listed(session, found.limit(limit))


@ANSWERS.wrong("not a list")
async def forgotten_return(session, user_id, typed, limit):
    await listed(session, found_by(user_id, contains(typed), begins(typed), limit=limit))
