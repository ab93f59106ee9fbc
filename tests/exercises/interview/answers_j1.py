"""Answers to J1, the translators have nothing to do."""

from __future__ import annotations

from sqlalchemy import func, or_, select, text

from course_lib.models import Document, Job, User
from tests.exercises.written import Answers

ANSWERS = Answers("J1")
LANGUAGE = Document.meta["language"].astext
NOT_ENGLISH = LANGUAGE.is_distinct_from("en")
IN_SQL = text("""
    SELECT title FROM documents WHERE user_id = :id AND status = 'ready' AND meta ->> 'language' IS DISTINCT FROM 'en'
    AND id NOT IN (SELECT document_id FROM jobs WHERE document_id IS NOT NULL) ORDER BY created_at
""")
NO_JOB = ~select(Job.id).where(Job.document_id == Document.id).exists()


def titles(user_id, *conditions):
    own = select(Document.title).where(Document.user_id == user_id, Document.status == "ready")
    return own.where(*conditions).order_by(Document.created_at)


@ANSWERS.right
async def without_nulls(session, user_id):
    with_a_job = select(Job.document_id).where(Job.document_id.is_not(None))
    found = titles(user_id, or_(LANGUAGE.is_(None), LANGUAGE != "en"), Document.id.not_in(with_a_job))
    return (await session.scalars(found)).all()


@ANSWERS.right
async def anti_join(session, user_id):
    found = titles(user_id, func.coalesce(LANGUAGE, "") != "en", Job.id.is_(None))
    return list(await session.scalars(found.outerjoin(Job, Job.document_id == Document.id)))


@ANSWERS.right
async def in_sql(session, user_id):
    found = await session.execute(IN_SQL, {"id": user_id})
    return [row.title for row in found]


@ANSWERS.right
async def in_python(session, user_id):
    busy = set(await session.scalars(select(Job.document_id)))
    documents = await session.scalars(
        select(Document).where(Document.user_id == user_id, Document.status == "ready").order_by(Document.created_at)
    )
    return [d.title for d in documents if d.meta.get("language") != "en" and d.id not in busy]


@ANSWERS.wrong("empty")
async def distinct_jobs(session, user_id):
    found = titles(user_id, NOT_ENGLISH, Document.id.not_in(select(Job.document_id).distinct()))
    return (await session.scalars(found)).all()


@ANSWERS.wrong("unsaid")
async def only_what_was_reported(session, user_id):
    return (await session.scalars(titles(user_id, LANGUAGE != "en", NO_JOB))).all()


@ANSWERS.wrong("unsaid")
async def nulls_in_a_list(session, user_id):
    return (await session.scalars(titles(user_id, LANGUAGE.not_in(["en", ""]), NO_JOB))).all()


@ANSWERS.wrong("unsaid")
async def key_is_there(session, user_id):
    there = or_(~Document.meta.has_key("language"), LANGUAGE != "en")
    return (await session.scalars(titles(user_id, there, NO_JOB))).all()


@ANSWERS.wrong("english")
async def nothing_left_out(session, user_id):
    return (await session.scalars(titles(user_id, NO_JOB))).all()


@ANSWERS.wrong("missing")
async def every_english(session, user_id):
    return (await session.scalars(titles(user_id, ~func.coalesce(LANGUAGE, "").ilike("en%"), NO_JOB))).all()


@ANSWERS.wrong("has a job")
async def jobs_no_longer_looked_at(session, user_id):
    return (await session.scalars(titles(user_id, NOT_ENGLISH))).all()


@ANSWERS.wrong("has a job")
async def only_open_jobs(session, user_id):
    at_work = select(Job.id).where(Job.document_id == Document.id, Job.status.in_(["queued", "running"])).exists()
    return (await session.scalars(titles(user_id, NOT_ENGLISH, ~at_work))).all()


@ANSWERS.wrong("not ready")
async def of_any_status(session, user_id):
    found = select(Document.title).where(Document.user_id == user_id, NOT_ENGLISH, NO_JOB)
    return (await session.scalars(found.order_by(Document.created_at))).all()


@ANSWERS.wrong("strangers")
async def of_everybody(session, user_id):
    found = select(Document.title).where(Document.status == "ready", NOT_ENGLISH, NO_JOB)
    return (await session.scalars(found.order_by(Document.created_at))).all()


@ANSWERS.wrong("order")
async def last_uploaded_first(session, user_id):
    found = titles(user_id, NOT_ENGLISH, NO_JOB).order_by(None).order_by(Document.created_at.desc())
    return (await session.scalars(found)).all()


@ANSWERS.wrong("twice")
async def joined_to_what_is_no_job_of_it(session, user_id):
    found = titles(user_id, NOT_ENGLISH, NO_JOB).join(User, User.tier == "free").add_columns(User.id)
    return (await session.scalars(found)).all()


@ANSWERS.wrong("nothing returned")
async def forgotten_return(session, user_id):
    (await session.scalars(titles(user_id, NOT_ENGLISH, NO_JOB))).all()


@ANSWERS.wrong("not a list")
async def one_text(session, user_id):
    return ", ".join((await session.scalars(titles(user_id, NOT_ENGLISH, NO_JOB))).all())


@ANSWERS.wrong("not titles")
async def rows(session, user_id):
    return [tuple(row) for row in await session.execute(titles(user_id, NOT_ENGLISH, NO_JOB))]
