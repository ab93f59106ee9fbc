"""Answers to J2, saved, it says."""

from __future__ import annotations

import asyncio

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Document, Job, User
from tests.exercises.written import Answers

ANSWERS = Answers("J2")
KEY = ["user_id", "source"]
IN_SQL = text("""
    WITH saved AS (
        INSERT INTO documents (user_id, source, title, content_hash) VALUES (:user_id, :source, :title, :hash)
        ON CONFLICT (user_id, source) DO UPDATE
        SET title = excluded.title, content_hash = excluded.content_hash, status = 'uploaded'
        RETURNING id
    )
    INSERT INTO jobs (kind, document_id) SELECT 'embed', id FROM saved RETURNING document_id
""")


def known(user_id, source):
    return select(Document).where(Document.user_id == user_id, Document.source == source)


def upsert(user_id, source, title, content_hash, **more):
    fresh = {"title": title, "content_hash": content_hash, **more}
    adding = insert(Document).values(user_id=user_id, source=source, **fresh)
    return adding.on_conflict_do_update(index_elements=KEY, set_=fresh).returning(Document.id)


async def change(session, user_id, source, title, content_hash):
    document = await session.scalar(known(user_id, source))
    if document is None:
        document = Document(user_id=user_id, source=source)
        session.add(document)
    document.title, document.content_hash, document.status = title, content_hash, "uploaded"
    await session.flush()
    session.add(Job(kind="embed", document_id=document.id))
    return document.id


@ANSWERS.right
async def savepoint_for_one_rule(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        document = Document(user_id=user_id, source=source, title=title, content_hash=content_hash)
        try:
            async with session.begin_nested():
                session.add(document)
        except IntegrityError as error:
            if error.orig.driver_exception.constraint_name != "uq_documents_user_id_source":
                raise
            document = await session.scalar(known(user_id, source).with_for_update())
            document.title, document.content_hash, document.status = title, content_hash, "uploaded"
        session.add(Job(kind="embed", document_id=document.id))
        return document.id


@ANSWERS.right
async def behind_a_lock_on_the_user(sessions, *upload):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == upload[0]).with_for_update())
        return await change(session, *upload)


@ANSWERS.right
async def behind_an_advisory_lock(sessions, *upload):
    async with sessions.begin() as session:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
        await session.execute(lock, {"key": f"{upload[0]}/{upload[1]}"})
        return await change(session, *upload)


@ANSWERS.right
async def tried_once_more(sessions, *upload):
    try:
        async with sessions.begin() as session:
            return await change(session, *upload)
    except IntegrityError:
        async with sessions.begin() as session:
            return await change(session, *upload)


@ANSWERS.right
async def serializable_and_tried_again(sessions, *upload):
    for last in (False, False, False, True):
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                id = await change(session, *upload)
                await session.commit()
                return id
        except DBAPIError:
            if last:
                raise
    return None


@ANSWERS.right
async def one_statement(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        values = {"user_id": user_id, "source": source, "title": title, "hash": content_hash}
        return await session.scalar(IN_SQL, values)


@ANSWERS.wrong("old version")
async def nothing_on_conflict(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        adding = insert(Document).values(user_id=user_id, source=source, title=title, content_hash=content_hash)
        await session.execute(adding.on_conflict_do_nothing(index_elements=KEY))
        document = await session.scalar(known(user_id, source))
        session.add(Job(kind="embed", document_id=document.id))
        return document.id


@ANSWERS.wrong("old version")
async def a_job_for_the_old_text(sessions, user_id, source, title, content_hash):
    async with sessions() as session:
        document = Document(user_id=user_id, source=source, title=title, content_hash=content_hash)
        session.add(document)
        try:
            await session.flush()
        except IntegrityError:
            await session.rollback()
            document = await session.scalar(known(user_id, source))
        session.add(Job(kind="embed", document_id=document.id))
        await session.commit()
        return document.id


@ANSWERS.wrong("not embedded")
async def only_the_document_in_the_except(sessions, user_id, source, title, content_hash):
    async with sessions() as session:
        document = Document(user_id=user_id, source=source, title=title, content_hash=content_hash)
        session.add(document)
        try:
            await session.flush()
            session.add(Job(kind="embed", document_id=document.id))
            await session.commit()
        except IntegrityError:
            await session.rollback()
            document = await session.scalar(known(user_id, source))
            document.title, document.content_hash, document.status = title, content_hash, "uploaded"
            await session.commit()
        return document.id


@ANSWERS.wrong("not embedded")
async def no_second_job_in_the_queue(sessions, *upload):
    async with sessions.begin() as session:
        id = await session.scalar(upsert(*upload, status="uploaded"))
        if await session.scalar(select(Job.id).where(Job.document_id == id, Job.status == "queued")) is None:
            session.add(Job(kind="embed", document_id=id))
        return id


@ANSWERS.wrong("said saved")
async def still_caught_around_it(sessions, *upload):
    async with sessions() as session:
        try:
            id = await session.scalar(upsert(*upload, status="uploaded"))
            session.add(Job(kind="embed", document_id=id))
            await session.commit()
        except IntegrityError:
            await session.rollback()
            id = await session.scalar(select(Document.id).where(Document.source == upload[1]).limit(1))
        return id


@ANSWERS.wrong("said saved")
async def none_is_an_answer(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        if await session.get(User, user_id) is None:
            return None
        values = {"user_id": user_id, "source": source, "title": title, "hash": content_hash}
        return await session.scalar(IN_SQL, values)


@ANSWERS.wrong("wrong value")
async def status_left(sessions, *upload):
    async with sessions.begin() as session:
        id = await session.scalar(upsert(*upload))
        session.add(Job(kind="embed", document_id=id))
        return id


@ANSWERS.wrong("another id")
async def deleted_and_made_anew(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        if document := await session.scalar(known(user_id, source)):
            await session.delete(document)
            await session.flush()
        document = Document(user_id=user_id, source=source, title=title, content_hash=content_hash)
        session.add(document)
        await session.flush()
        session.add(Job(kind="embed", document_id=document.id))
        return document.id


@ANSWERS.wrong("at once")
async def looked_first(sessions, *upload):
    async with sessions.begin() as session:
        return await change(session, *upload)


@ANSWERS.wrong("lost one")
async def losers_are_kept_quiet(sessions, *upload):
    try:
        async with sessions.begin() as session:
            return await change(session, *upload)
    except IntegrityError as error:
        if error.orig.driver_exception.constraint_name != "uq_documents_user_id_source":
            raise
        async with sessions() as session:
            return await session.scalar(select(Document.id).where(Document.user_id == upload[0]).limit(1))


one_at_a_time = asyncio.Lock()


@ANSWERS.wrong("waits outside")
async def lock_of_this_process(sessions, *upload):
    async with one_at_a_time, sessions.begin() as session:
        return await change(session, *upload)


@ANSWERS.wrong("something stayed")
async def two_transactions(sessions, *upload):
    async with sessions.begin() as session:
        id = await session.scalar(upsert(*upload, status="uploaded"))
    async with sessions.begin() as session:
        session.add(Job(kind="embed", document_id=id))
    return id


@ANSWERS.wrong("others changed")
async def of_everybody(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        id = await session.scalar(upsert(user_id, source, title, content_hash, status="uploaded"))
        await session.execute(update(Document).where(Document.source == source).values(title=title))
        session.add(Job(kind="embed", document_id=id))
        return id


@ANSWERS.wrong("not stored")
async def never_committed(sessions, *upload):
    async with sessions() as session:
        return await change(session, *upload)


@ANSWERS.wrong("nothing returned")
async def forgotten_return(sessions, *upload):
    async with sessions.begin() as session:
        await change(session, *upload)


@ANSWERS.wrong("wrong id")
async def id_of_the_job(sessions, user_id, source, title, content_hash):
    async with sessions.begin() as session:
        id = await session.scalar(upsert(user_id, source, title, content_hash, status="uploaded"))
        job = Job(kind="embed", document_id=id)
        session.add(job)
        await session.flush()
        return job.id
