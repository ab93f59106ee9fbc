"""Answers to S8, fast five times, then slow."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import String, bindparam, cast, func, literal_column, select, text

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("S8")
CUSTOM = text("SET LOCAL plan_cache_mode = force_custom_plan")
LATEST = text("""
    SELECT title FROM documents WHERE user_id = :user_id AND status = 'ready' ORDER BY id DESC LIMIT 5
""")
OWN_FIRST = text("""
    WITH own AS MATERIALIZED (SELECT id, title, status FROM documents WHERE user_id = :user_id)
    SELECT title FROM own WHERE status = 'ready' ORDER BY id DESC LIMIT 5
""")
FIVE = literal_column("5")
_known = {}


def latest(user_id):
    own = select(Document.title).where(Document.user_id == user_id, Document.status == "ready")
    return own.order_by(Document.id.desc()).limit(FIVE)


@ANSWERS.right
async def planned_anew(session, user_id):
    await session.execute(CUSTOM)
    return (await session.scalars(LATEST, {"user_id": user_id})).all()


@ANSWERS.right
async def set_by_a_function(session, user_id):
    await session.execute(select(func.set_config("plan_cache_mode", "force_custom_plan", True)))
    return list(await session.scalars(latest(user_id)))


@ANSWERS.right
async def value_in_the_text(session, user_id):
    own = bindparam("user_id", user_id, literal_execute=True)
    return (await session.scalars(latest(own))).all()


@ANSWERS.right
async def never_the_same_text(session, user_id):
    statement = text(f"/* {uuid4()} */ {LATEST.text}")
    return (await session.scalars(statement, {"user_id": user_id})).all()


@ANSWERS.wrong("slow later")
async def by_the_classes(session, user_id):
    return (await session.scalars(latest(user_id))).all()


@ANSWERS.wrong("slow later")
async def no_scans_of_all(session, user_id):
    await session.execute(text("SET LOCAL enable_seqscan = off"))
    return (await session.scalars(LATEST, {"user_id": user_id})).all()


@ANSWERS.wrong("slow later")
async def inside_a_subquery(session, user_id):
    own = select(Document.id, Document.title).where(Document.user_id == user_id, Document.status == "ready").subquery()
    return (await session.scalars(select(own.c.title).order_by(own.c.id.desc()).limit(FIVE))).all()


@ANSWERS.wrong("slow later")
async def set_too_late(session, user_id):
    titles = (await session.scalars(LATEST, {"user_id": user_id})).all()
    await session.execute(CUSTOM)
    return titles


@ANSWERS.wrong("slow at once")
async def compared_as_text(session, user_id):
    await session.execute(CUSTOM)
    own = select(Document.title).where(cast(Document.user_id, String) == str(user_id), Document.status == "ready")
    return (await session.scalars(own.order_by(Document.id.desc()).limit(FIVE))).all()


@ANSWERS.wrong("slow later")
async def counts_first(session, user_id):
    some = select(Document.id).where(Document.user_id == user_id).limit(200).subquery()
    count = await session.scalar(select(func.count()).select_from(some))
    return (await session.scalars(OWN_FIRST if count < 200 else LATEST, {"user_id": user_id})).all()


@ANSWERS.wrong("slow for the large")
async def own_ones_first(session, user_id):
    return (await session.scalars(OWN_FIRST, {"user_id": user_id})).all()


@ANSWERS.wrong("slow for the large")
async def sorted_here(session, user_id):
    own = select(Document.id, Document.title).where(Document.user_id == user_id, Document.status == "ready")
    rows = sorted((await session.execute(own)).all(), reverse=True)
    return [row.title for row in rows[:5]]


@ANSWERS.wrong("left behind")
async def set_for_good(session, user_id):
    await session.execute(text("SET plan_cache_mode = force_custom_plan"))
    return (await session.scalars(LATEST, {"user_id": user_id})).all()


@ANSWERS.wrong("index made")
async def with_an_index(session, user_id):
    await session.execute(text("CREATE INDEX IF NOT EXISTS latest ON documents (user_id, id)"))
    return (await session.scalars(LATEST, {"user_id": user_id})).all()


@ANSWERS.wrong("remembered")
async def asked_once(session, user_id):
    if user_id not in _known:
        _known[user_id] = await planned_anew(session, user_id)
    return _known[user_id]


@ANSWERS.wrong("wrong titles")
async def of_any_status(session, user_id):
    await session.execute(CUSTOM)
    own = select(Document.title).where(Document.user_id == user_id).order_by(Document.id.desc())
    return (await session.scalars(own.limit(5))).all()


@ANSWERS.wrong("missing")
async def the_last_three(session, user_id):
    await session.execute(CUSTOM)
    return (await session.scalars(latest(user_id).limit(3))).all()


@ANSWERS.wrong("order")
async def oldest_first(session, user_id):
    return (await planned_anew(session, user_id))[::-1]


@ANSWERS.wrong("nothing returned")
async def forgotten_return(session, user_id):
    await planned_anew(session, user_id)


@ANSWERS.wrong("not a list")
async def one_text(session, user_id):
    return "\n".join(await planned_anew(session, user_id))


@ANSWERS.wrong("not titles")
async def rows(session, user_id):
    await session.execute(CUSTOM)
    return [tuple(row) for row in await session.execute(latest(user_id))]


@ANSWERS.wrong("left behind")
async def set_committed_and_reset_not(session, user_id):
    await session.execute(text("SET plan_cache_mode = force_custom_plan"))
    await session.commit()
    titles = (await session.scalars(LATEST, {"user_id": user_id})).all()
    await session.execute(text("RESET plan_cache_mode"))
    return titles
