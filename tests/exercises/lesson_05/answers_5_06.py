"""Answers to 5.6, work in the background."""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("5.6")
running = set()


def keep(task):
    running.add(task)
    task.add_done_callback(running.discard)
    return task


async def store(session, user_id, source, title, status="processing"):
    document = Document(user_id=user_id, source=source, title=title, status=status)
    session.add(document)
    await session.commit()
    return document


async def finish(sessions, document_id, **values):
    async with sessions.begin() as session:
        await session.execute(update(Document).where(Document.id == document_id).values(**values))


async def work(sessions, document_id, process):
    """What nearly all right answers do in the background."""
    try:
        values = {"status": "ready", "meta": await process(document_id)}
    except Exception as error:
        values = {"status": "failed", "error": str(error)}
    await finish(sessions, document_id, **values)


@ANSWERS.right
async def committed_kept_and_apart(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.right
async def written_inside(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    await session.flush()
    document_id = document.id
    await session.commit()

    async def background():
        try:
            meta = await process(document_id)
            async with sessions() as own:
                stored = await own.get(Document, document_id)
                stored.status, stored.meta = "ready", meta
                await own.commit()
        except Exception as error:
            async with sessions() as own:
                stored = await own.get(Document, document_id)
                stored.status, stored.error = "failed", str(error)
                await own.commit()

    keep(asyncio.ensure_future(background()))
    return document_id


@ANSWERS.right
async def another_session_for_the_request_too(session, sessions, user_id, source, title, process):
    async with sessions.begin() as own:
        statement = insert(Document).values(user_id=user_id, source=source, title=title, status="processing")
        document_id = await own.scalar(statement.returning(Document.id))
    keep(asyncio.create_task(work(sessions, document_id, process)))
    return document_id


@ANSWERS.right
async def uploaded_first(session, sessions, user_id, source, title, process):
    """The task itself says that it has begun, in a transaction of its own."""
    document = await store(session, user_id, source, title, status="uploaded")

    async def background():
        await finish(sessions, document.id, status="processing")
        await work(sessions, document.id, process)

    keep(asyncio.create_task(background()))
    return document.id


@ANSWERS.right
async def kept_by_a_timer(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def in_time(document_id):
        return await asyncio.wait_for(process(document_id), 60)

    keep(asyncio.create_task(work(sessions, document.id, in_time)))
    return document.id


@ANSWERS.right
async def a_callback_picks_it_up(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    processing = keep(asyncio.create_task(process(document.id)))

    def done(task):
        error = task.exception()
        values = {"status": "failed", "error": str(error)} if error else {"status": "ready", "meta": task.result()}
        keep(asyncio.create_task(finish(sessions, document.id, **values)))

    processing.add_done_callback(done)
    return document.id


@ANSWERS.right
async def found_again_in_another_session(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def background():
        values = {"status": "ready"}
        try:
            values["meta"] = await process(document.id)
        except Exception as error:
            values = {"status": "failed", "error": str(error)}
        async with AsyncSession(session.bind) as own, own.begin():
            await own.execute(update(Document).where(Document.id == document.id).values(**values))

    keep(asyncio.create_task(background()))
    return document.id


@ANSWERS.right
async def kept_by_its_id(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            await work(sessions, document_id, process)
        finally:
            del tasks[document_id]

    tasks = handle_upload_tasks
    tasks[document_id] = asyncio.create_task(background())
    return document_id


handle_upload_tasks = {}


@ANSWERS.right
async def started_by_a_callback_of_the_loop(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, lambda: keep(loop.create_task(work(sessions, document_id, process))))
    return document_id


@ANSWERS.right
async def merged_into_another_session(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def background():
        try:
            values = {"status": "ready", "meta": await process(document.id)}
        except Exception as error:
            values = {"status": "failed", "error": str(error)}
        async with sessions() as own:
            mine = await own.merge(document)
            for name, value in values.items():
                setattr(mine, name, value)
            await own.commit()

    keep(asyncio.create_task(background()))
    return document.id


@ANSWERS.right
async def an_error_of_its_own(session, sessions, user_id, source, title, process):
    try:
        async with session.begin():
            document = Document(user_id=user_id, source=source, title=title, status="processing")
            session.add(document)
    except IntegrityError as error:
        raise ValueError(f"{source} is there already") from error
    everlasting.append(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


everlasting = []


@ANSWERS.right
async def flushed_under_a_time_limit(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    await asyncio.wait_for(session.flush(), 5)
    await session.commit()
    keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.right
async def stored_in_two_steps(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def background():
        try:
            meta = await process(document.id)
        except Exception as error:
            await finish(sessions, document.id, status="failed")
            await finish(sessions, document.id, error=str(error))
        else:
            await finish(sessions, document.id, status="ready")
            await finish(sessions, document.id, meta=meta)

    keep(asyncio.create_task(background()))
    return document.id


@ANSWERS.wrong("not stored")
async def left_to_the_caller(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    await session.flush()
    keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.wrong("nothing returned")
async def forgotten_return(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    keep(asyncio.create_task(work(sessions, document.id, process)))


@ANSWERS.wrong("another value")
async def the_task_returned(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    return keep(asyncio.create_task(work(sessions, document.id, process)))


@ANSWERS.wrong("wrong title")
async def named_after_its_source(session, sessions, user_id, source, title, process):
    return await committed_kept_and_apart(session, sessions, user_id, source, source, process)


@ANSWERS.wrong("waited for")
async def one_after_the_other(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    await work(sessions, document.id, process)
    return document.id


@ANSWERS.wrong("waited for")
async def a_group_that_waits(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    async with asyncio.TaskGroup() as group:
        group.create_task(work(sessions, document.id, process))
    return document.id


@ANSWERS.wrong("never started")
async def only_called(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    work(sessions, document.id, process)
    return document.id


@ANSWERS.wrong("never started")
async def fails_on_the_way(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def background():
        await work(sessions, document.number, process)

    keep(asyncio.create_task(background()))
    return document.id


@ANSWERS.wrong("called twice")
async def twice(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    for _ in range(2):
        keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.wrong("started too early")
async def task_before_commit(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    await session.flush()
    keep(asyncio.create_task(work(sessions, document.id, process)))
    await session.commit()
    return document.id


@ANSWERS.wrong("started too early")
async def task_that_looks_first(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    await session.flush()

    async def background():
        async with sessions() as own:
            await own.get(Document, document.id)
        await work(sessions, document.id, process)

    keep(asyncio.create_task(background()))
    await session.commit()
    return document.id


@ANSWERS.wrong("started too early")
async def takes_a_breath_first(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    await session.flush()

    async def later():
        await asyncio.sleep(0.01)
        await work(sessions, document.id, process)

    keep(asyncio.create_task(later()))
    await session.commit()
    return document.id


@ANSWERS.wrong("refused, and started")
async def started_whatever_happens(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title, status="processing")
    session.add(document)
    try:
        await session.commit()
    finally:
        keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.wrong("error swallowed")
async def says_none(session, sessions, user_id, source, title, process):
    try:
        document = await store(session, user_id, source, title)
    except IntegrityError:
        await session.rollback()
        return None
    keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.wrong("not an id")
async def object_handed_over(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def background(document):
        values = {"status": "ready", "meta": await process(document)}
        await finish(sessions, document.id, **values)

    keep(asyncio.create_task(background(document)))
    return document.id


@ANSWERS.wrong("wrong status")
async def still_uploaded(session, sessions, user_id, source, title, process):
    document = Document(user_id=user_id, source=source, title=title)
    session.add(document)
    await session.commit()
    keep(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


@ANSWERS.wrong("request's session")
async def one_session_for_both(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    document_id = document.id

    async def background():
        meta = await process(document_id)
        await session.execute(update(Document).where(Document.id == document_id).values(status="ready", meta=meta))
        await session.commit()

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("request's session")
async def one_session_for_both_errors_too(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        document = await session.get(Document, document_id)
        try:
            document.meta = await process(document_id)
            document.status = "ready"
        except Exception as error:
            document.status, document.error = "failed", str(error)
        await session.commit()

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("connection held")
async def session_around_everything(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        async with sessions.begin() as own:
            document = await own.get(Document, document_id)
            try:
                document.meta = await process(document_id)
                document.status = "ready"
            except Exception as error:
                document.status, document.error = "failed", str(error)

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("task lost")
async def nobody_holds_the_task(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    asyncio.create_task(work(sessions, document.id, process))  # noqa: RUF006
    return document.id


@ANSWERS.wrong("task lost")
async def held_by_the_requests_session(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    session.info["task"] = asyncio.create_task(work(sessions, document.id, process))
    return document.id


latest = None


@ANSWERS.wrong("task lost")
async def only_the_latest_is_held(session, sessions, user_id, source, title, process):
    global latest
    document = await store(session, user_id, source, title)
    latest = asyncio.create_task(work(sessions, document.id, process))
    return document.id


@ANSWERS.wrong("never finished")
async def not_committed(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            meta = await process(document_id)
        except Exception as error:
            await finish(sessions, document_id, status="failed", error=str(error))
            return
        async with sessions() as own:
            await own.execute(update(Document).where(Document.id == document_id).values(status="ready", meta=meta))

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("result not stored")
async def status_only(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            await process(document_id)
        except Exception as error:
            await finish(sessions, document_id, status="failed", error=str(error))
        else:
            await finish(sessions, document_id, status="ready")

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("failure not stored")
async def knows_one_kind_of_error(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            values = {"status": "ready", "meta": await process(document_id)}
        except RuntimeError as error:
            values = {"status": "failed", "error": str(error)}
        await finish(sessions, document_id, **values)

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("failure not stored")
async def failed_without_a_word(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            await finish(sessions, document_id, status="ready", meta=await process(document_id))
        except Exception:
            await finish(sessions, document_id, status="failed")

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("raised")
async def nothing_written_yet_but_an_error(session, sessions, user_id, source, title, process):
    document = Document(user=user_id, source=source, title=title)
    session.add(document)
    await session.commit()
    return document.id


LATEST = deque(maxlen=8)


@ANSWERS.wrong("tasks lost")
async def the_latest_eight_are_held(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    LATEST.append(asyncio.create_task(work(sessions, document.id, process)))
    return document.id


SHARED = WeakKeyDictionary()


@ANSWERS.wrong("not side by side")
async def one_session_for_all_tasks(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id
    own = SHARED.setdefault(sessions, sessions())

    async def background():
        try:
            values = {"status": "ready", "meta": await process(document_id)}
        except Exception as error:
            values = {"status": "failed", "error": str(error)}
        await own.execute(update(Document).where(Document.id == document_id).values(**values))
        await own.commit()

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("another document")
async def found_by_its_source(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            values = {"status": "ready", "meta": await process(document_id)}
        except Exception as error:
            values = {"status": "failed", "error": str(error)}
        async with sessions.begin() as own:
            await own.execute(update(Document).where(Document.source == source).values(**values))

    keep(asyncio.create_task(background()))
    return document_id


@ANSWERS.wrong("never finished")
async def the_requests_object_in_another_session(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)

    async def background():
        try:
            document.status, document.meta = "ready", await process(document.id)
        except Exception as error:
            document.status, document.error = "failed", str(error)
        async with sessions.begin() as own:
            own.add(document)

    keep(asyncio.create_task(background()))
    return document.id


@ANSWERS.wrong("failure not stored")
async def says_the_class_where_there_is_no_text(session, sessions, user_id, source, title, process):
    document_id = (await store(session, user_id, source, title)).id

    async def background():
        try:
            values = {"status": "ready", "meta": await process(document_id)}
        except Exception as error:
            values = {"status": "failed", "error": str(error) or type(error).__name__}
        await finish(sessions, document_id, **values)

    keep(asyncio.create_task(background()))
    return document_id


all_at_once = set()


@ANSWERS.wrong("let go early")
async def lets_go_of_all(session, sessions, user_id, source, title, process):
    document = await store(session, user_id, source, title)
    task = asyncio.create_task(work(sessions, document.id, process))
    all_at_once.add(task)
    task.add_done_callback(lambda _: all_at_once.clear())
    return document.id
