"""Answers to 3.10, five hundred chunks or none."""

from __future__ import annotations

import asyncio
from itertools import chain
from uuid import uuid4

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("3.10")


def rows_of(document_id, texts, vectors, model):
    return [
        {"document_id": document_id, "chunk_index": index, "content": content, "embedding": vector}
        | {"embedding_model": model, "token_count": len(content.split())}
        for index, (content, vector) in enumerate(zip(texts, vectors, strict=True))
    ]


def old_chunks(document_id):
    return delete(DocumentChunk).where(DocumentChunk.document_id == document_id)


def becomes(document_id, **values):
    return update(Document).where(Document.id == document_id).values(**values)


async def write_down(sessions, document_id, error):
    async with sessions.begin() as session:
        await session.execute(becomes(document_id, status="failed", error=repr(error)))


async def replace(session, document_id, rows):
    await session.execute(old_chunks(document_id))
    if rows:
        await session.execute(insert(DocumentChunk), rows)
    await session.execute(becomes(document_id, status="ready", error=None))


async def embedded(sessions, embed, document_id, texts):
    """The rows to be; a failure is written down."""
    try:
        return rows_of(document_id, texts, await embed(texts), embed.model)
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise


@ANSWERS.right
async def document_locked(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows)


@ANSWERS.right
async def status_first_and_in_batches(sessions, embed, document_id, texts):
    async with sessions() as session:
        await session.execute(becomes(document_id, status="processing"))
        await session.commit()
    vectors = []
    try:
        for start in range(0, len(texts), 64):
            vectors += await embed(texts[start : start + 64])
    except Exception as error:
        await write_down(sessions, document_id, repr(error))
        raise
    async with sessions() as session:
        await session.execute(becomes(document_id, status="ready", error=None))  # locks the row too
        await session.execute(old_chunks(document_id))
        if texts:
            await session.execute(insert(DocumentChunk), rows_of(document_id, texts, vectors, embed.model))
        await session.commit()


@ANSWERS.right
async def through_the_orm(sessions, embed, document_id, texts):
    batches = [texts[start : start + 100] for start in range(0, len(texts), 100)]
    try:
        answers = await asyncio.gather(*map(embed, batches), return_exceptions=True)
        for failure in filter(lambda answer: isinstance(answer, Exception), answers):
            raise failure
        vectors = [vector for answer in answers for vector in answer]
    except Exception as error:
        async with sessions.begin() as session:
            document = await session.get(Document, document_id)
            document.status, document.error = "failed", f"{type(error).__name__}: {error}"
        raise
    async with sessions.begin() as session:
        document = (await session.scalars(select(Document).where(Document.id == document_id).with_for_update())).one()
        await session.execute(old_chunks(document_id))
        session.add_all(DocumentChunk(**row) for row in rows_of(document_id, texts, vectors, embed.model))
        document.status, document.error = "ready", None


@ANSWERS.right
async def upsert_and_cut_off(sessions, embed, document_id, texts):
    """Overwrites by index, so a second call waits at the first row; what is longer is cut off after that."""
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        if not rows:
            return await replace(session, document_id, rows)
        statement = upsert(DocumentChunk)
        new = {
            name: getattr(statement.excluded, name) for name in rows[0] if name not in ("document_id", "chunk_index")
        }
        statement = statement.on_conflict_do_update(index_elements=["document_id", "chunk_index"], set_=new)
        await session.execute(statement, rows)
        await session.execute(old_chunks(document_id).where(DocumentChunk.chunk_index >= len(rows)))
        await session.execute(becomes(document_id, status="ready", error=None))
        return None


@ANSWERS.right
async def collision_tried_again(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    while True:
        try:
            async with sessions.begin() as session:
                return await replace(session, document_id, rows)
        except IntegrityError as error:
            if error.orig.sqlstate != "23505":
                raise


@ANSWERS.right
async def serializable_and_tried_again(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    while True:
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                await replace(session, document_id, rows)
                return await session.commit()
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "23505"):
                raise


@ANSWERS.right
async def advisory_lock_and_one_by_one(sessions, embed, document_id, texts):
    vectors = []
    for content in texts:
        try:
            vectors += await embed([content])
        except Exception as error:
            await write_down(sessions, document_id, error)
            raise
    async with sessions.begin() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:id))"), {"id": str(document_id)})
        await replace(session, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.right
async def gathered_elsewhere(sessions, embed, document_id, texts):
    """Batches are stored as they come, under a document of their own, and change their owner in one transaction."""
    async with sessions.begin() as session:
        document = await session.get(Document, document_id)
        aside = Document(user_id=document.user_id, source=f"{document.source} {uuid4()}", title=document.title)
        session.add(aside)
    try:
        for start in range(0, len(texts), 100):
            vectors = await embed(texts[start : start + 100])
            rows = rows_of(aside.id, texts[start : start + 100], vectors, embed.model)
            async with sessions.begin() as session:
                shifted = [row | {"chunk_index": row["chunk_index"] + start} for row in rows]
                await session.execute(insert(DocumentChunk), shifted)
    except Exception as error:
        async with sessions.begin() as session:
            await session.execute(delete(Document).where(Document.id == aside.id))
            await session.execute(becomes(document_id, status="failed", error=repr(error)))
        raise
    async with sessions.begin() as session:
        await session.execute(becomes(document_id, status="ready", error=None))
        await session.execute(old_chunks(document_id))
        mine = update(DocumentChunk).where(DocumentChunk.document_id == aside.id)
        await session.execute(mine.values(document_id=document_id))
        await session.execute(delete(Document).where(Document.id == aside.id))


@ANSWERS.right
async def known_texts_are_not_asked_for_again(sessions, embed, document_id, texts):
    async with sessions() as session:
        mine = select(DocumentChunk.content, DocumentChunk.embedding)
        mine = mine.where(DocumentChunk.document_id == document_id, DocumentChunk.embedding_model == embed.model)
        vectors = {content: vector for content, vector in await session.execute(mine)}
    unknown = [content for content in texts if content not in vectors]
    try:
        vectors |= dict(zip(unknown, await embed(unknown), strict=True)) if unknown else {}
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows_of(document_id, texts, [vectors[t] for t in texts], embed.model))


@ANSWERS.wrong("not asked")
async def one_batch_only(sessions, embed, document_id, texts):
    await document_locked(sessions, embed, document_id, texts[:100])


@ANSWERS.wrong("half indexed")
async def chunk_by_chunk(sessions, embed, document_id, texts):
    async with sessions() as session:
        await session.execute(old_chunks(document_id))
        await session.commit()
    for index, content in enumerate(texts):
        try:
            (vector,) = await embed([content])
        except Exception as error:
            await write_down(sessions, document_id, error)
            raise
        async with sessions.begin() as session:
            row = rows_of(document_id, [content], [vector], embed.model)[0] | {"chunk_index": index}
            await session.execute(insert(DocumentChunk).values(row))
    async with sessions.begin() as session:
        await session.execute(becomes(document_id, status="ready", error=None))


@ANSWERS.wrong("error swallowed")
async def only_written_down(sessions, embed, document_id, texts):
    try:
        await document_locked(sessions, embed, document_id, texts)
    except Exception as error:
        await write_down(sessions, document_id, error)


@ANSWERS.wrong("connection held")
async def one_long_transaction(sessions, embed, document_id, texts):
    try:
        async with sessions.begin() as session:
            await session.get(Document, document_id, with_for_update=True)
            await replace(session, document_id, rows_of(document_id, texts, await embed(texts), embed.model))
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise


@ANSWERS.wrong("transaction open")
async def on_an_engine_of_its_own(sessions, embed, document_id, texts):
    from sqlalchemy.ext.asyncio import create_async_engine

    async with sessions() as session:
        engine = create_async_engine(session.bind.url)
    try:
        async with engine.begin() as connection:
            await connection.execute(select(Document.id).where(Document.id == document_id).with_for_update())
            await replace(connection, document_id, rows_of(document_id, texts, await embed(texts), embed.model))
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise
    finally:
        await engine.dispose()


@ANSWERS.wrong("status after failure")
async def failure_not_written_down(sessions, embed, document_id, texts):
    rows = rows_of(document_id, texts, await embed(texts), embed.model)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows)


@ANSWERS.wrong("no reason")
async def failed_and_nobody_knows_why(sessions, embed, document_id, texts):
    try:
        await document_locked(sessions, embed, document_id, texts)
    except Exception:
        async with sessions.begin() as session:
            await session.execute(becomes(document_id, status="failed", error=None))
        raise


@ANSWERS.wrong("retry failed")
async def only_inserts(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await session.execute(insert(DocumentChunk), rows)
        await session.execute(becomes(document_id, status="ready", error=None))


@ANSWERS.wrong("raised")
async def failed_stays_failed(sessions, embed, document_id, texts):
    async with sessions() as session:
        status = await session.scalar(select(Document.status).where(Document.id == document_id))
    if status == "failed":
        raise RuntimeError("this document has failed")
    await document_locked(sessions, embed, document_id, texts)


@ANSWERS.wrong("chunks missing")
async def forgot_commit(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows)


@ANSWERS.wrong("chunks missing")
async def last_batch_forgotten(sessions, embed, document_id, texts):
    whole = texts[: len(texts) // 99 * 99]
    rows = await embedded(sessions, embed, document_id, whole)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows)


@ANSWERS.wrong("wrong chunk")
async def counted_from_one(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, [row | {"chunk_index": row["chunk_index"] + 1} for row in rows])


@ANSWERS.wrong("wrong chunk")
async def model_by_heart(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, [row | {"embedding_model": "text-embedding-3-small"} for row in rows])


@ANSWERS.wrong("not ready")
async def status_forgotten(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await session.execute(old_chunks(document_id))
        await session.execute(insert(DocumentChunk), rows)


@ANSWERS.wrong("old error")
async def error_stays(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        document = await session.get(Document, document_id, with_for_update=True)
        await session.execute(old_chunks(document_id))
        await session.execute(insert(DocumentChunk), rows)
        document.status = "ready"


@ANSWERS.wrong("several transactions")
async def commits_every_hundred(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions() as session:
        await session.get(Document, document_id, with_for_update=True)
        await session.execute(old_chunks(document_id))
        for start in range(0, len(rows), 100):
            await session.execute(insert(DocumentChunk), rows[start : start + 100])
            await session.commit()
        await session.execute(becomes(document_id, status="ready", error=None))
        await session.commit()


@ANSWERS.wrong("ready too early")
async def ready_then_chunks(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions() as session:
        await session.execute(becomes(document_id, status="ready", error=None))
        await session.commit()
        await session.get(Document, document_id, with_for_update=True)
        await session.execute(old_chunks(document_id))
        await session.execute(insert(DocumentChunk), rows)
        await session.commit()


@ANSWERS.wrong("gap")
async def cleared_before_the_call(sessions, embed, document_id, texts):
    """A failure puts back what it took away, and still there was a time without."""
    async with sessions.begin() as session:
        found = (await session.execute(select(*DocumentChunk.__table__.columns))).mappings()
        mine = [dict(row) for row in found if row["document_id"] == document_id]
        await session.execute(old_chunks(document_id))
        await session.execute(becomes(document_id, status="processing"))
    try:
        vectors = await embed(texts)
    except Exception as error:
        async with sessions.begin() as session:
            if mine:
                await session.execute(insert(DocumentChunk), mine)
            await session.execute(becomes(document_id, status="failed", error=repr(error)))
        raise
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.wrong("old version lost")
async def cleared_by_the_failure(sessions, embed, document_id, texts):
    try:
        await document_locked(sessions, embed, document_id, texts)
    except Exception:
        async with sessions.begin() as session:
            await session.execute(old_chunks(document_id))
        raise


@ANSWERS.wrong("old version kept")
async def do_nothing_on_conflict(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.execute(upsert(DocumentChunk).on_conflict_do_nothing(), rows)
        await session.execute(becomes(document_id, status="ready", error=None))


@ANSWERS.wrong("left over")
async def upserts_only(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        statement = upsert(DocumentChunk)
        new = {
            name: getattr(statement.excluded, name) for name in rows[0] if name not in ("document_id", "chunk_index")
        }
        statement = statement.on_conflict_do_update(index_elements=["document_id", "chunk_index"], set_=new)
        await session.execute(statement, rows)
        await session.execute(becomes(document_id, status="ready", error=None))


@ANSWERS.wrong("other documents")
async def clears_everything(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await session.execute(delete(DocumentChunk))
        await session.execute(insert(DocumentChunk), rows)
        await session.execute(becomes(document_id, status="ready", error=None))


@ANSWERS.wrong("failed at once")
async def nothing_locked(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await replace(session, document_id, rows)


@ANSWERS.wrong("not tried again")
async def repeatable_read(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        await session.execute(becomes(document_id, status="ready", error=None))
        await session.execute(old_chunks(document_id))
        await session.execute(insert(DocumentChunk), rows)
        await session.commit()


@ANSWERS.wrong("mixed versions")
async def cut_off_then_upserted(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.execute(old_chunks(document_id).where(DocumentChunk.chunk_index >= len(rows)))
        statement = upsert(DocumentChunk)
        new = {
            name: getattr(statement.excluded, name) for name in rows[0] if name not in ("document_id", "chunk_index")
        }
        statement = statement.on_conflict_do_update(index_elements=["document_id", "chunk_index"], set_=new)
        await session.execute(statement, rows)
        await session.execute(becomes(document_id, status="ready", error=None))


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("locked in this process")
async def lock_of_python(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()), sessions.begin() as session:
        await replace(session, document_id, rows)


@ANSWERS.right
async def two_at_a_time(sessions, embed, document_id, texts):
    vectors = []
    try:
        for start in range(0, len(texts), 2):
            vectors += await embed(texts[start : start + 2])
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.wrong("no reason")
async def not_every_error_has_a_text(sessions, embed, document_id, texts):
    try:
        await embed(texts)
    except Exception as error:
        async with sessions.begin() as session:
            await session.execute(becomes(document_id, status="failed", error=str(error)))
        raise
    return await document_locked(sessions, embed, document_id, texts)


@ANSWERS.wrong("status after failure")
async def errors_it_knows(sessions, embed, document_id, texts):
    try:
        vectors = await embed(texts)
    except (OSError, RuntimeError) as error:
        await write_down(sessions, document_id, error)
        raise
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.wrong("old version kept")
async def nothing_to_do(sessions, embed, document_id, texts):
    if texts:
        await document_locked(sessions, embed, document_id, texts)


@ANSWERS.wrong("old version kept")
async def as_many_as_there_are(sessions, embed, document_id, texts):
    async with sessions() as session:
        stored = await session.scalars(select(DocumentChunk.id).where(DocumentChunk.document_id == document_id))
        if len(stored.all()) == len(texts):
            await session.execute(becomes(document_id, status="ready", error=None))
            return await session.commit()
    return await document_locked(sessions, embed, document_id, texts)


@ANSWERS.wrong("chunks missing")
async def equal_ones_once(sessions, embed, document_id, texts):
    await document_locked(sessions, embed, document_id, list(dict.fromkeys(texts)))


@ANSWERS.wrong("chunks missing")
async def somebody_is_at_it(sessions, embed, document_id, texts):
    async with sessions() as session:
        if (await session.get(Document, document_id)).status == "processing":
            return
    await document_locked(sessions, embed, document_id, texts)


@ANSWERS.wrong("empty version")
async def a_row_of_defaults(sessions, embed, document_id, texts):
    rows = await embedded(sessions, embed, document_id, texts)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await session.execute(old_chunks(document_id))
        await session.execute(insert(DocumentChunk), rows)
        await session.execute(becomes(document_id, status="ready", error=None))


@ANSWERS.wrong("another error")
async def goes_on_without_vectors(sessions, embed, document_id, texts):
    try:
        vectors = await embed(texts)
    except Exception as error:
        await write_down(sessions, document_id, error)
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows_of(document_id, texts, vectors, embed.model))


async def stored(sessions, document_id, rows):
    async with sessions.begin() as session:
        await session.get(Document, document_id, with_for_update=True)
        await replace(session, document_id, rows)


def in_batches(embed, texts):
    return [embed(texts[start : start + 50]) for start in range(0, len(texts), 50)]


@ANSWERS.wrong("left at work")
async def gathered_up_to_the_first_error(sessions, embed, document_id, texts):
    try:
        answers = await asyncio.gather(*in_batches(embed, texts))
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise
    await stored(sessions, document_id, rows_of(document_id, texts, chain(*answers), embed.model))


@ANSWERS.wrong("left at work")
async def each_writes_down_its_failure(sessions, embed, document_id, texts):
    async def embedded_text(content):
        async with four:
            try:
                return (await embed([content]))[0]
            except Exception as error:
                await write_down(sessions, document_id, error)
                raise

    four = asyncio.Semaphore(4)
    vectors = await asyncio.gather(*map(embedded_text, texts))
    await stored(sessions, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.right
async def a_group_whose_error_is_unpacked(sessions, embed, document_id, texts):
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in in_batches(embed, texts)]
    except* Exception as failed:
        error = failed.exceptions[0]
        await write_down(sessions, document_id, error)
    else:
        vectors = chain(*(task.result() for task in tasks))
        return await stored(sessions, document_id, rows_of(document_id, texts, vectors, embed.model))
    raise error


@ANSWERS.wrong("another error")
async def a_group_of_errors(sessions, embed, document_id, texts):
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in in_batches(embed, texts)]
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise
    vectors = chain(*(task.result() for task in tasks))
    await stored(sessions, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.wrong("another error")
async def an_error_of_its_own(sessions, embed, document_id, texts):
    try:
        vectors = await embed(texts)
    except Exception as error:
        await write_down(sessions, document_id, error)
        raise RuntimeError("no embeddings") from error
    await stored(sessions, document_id, rows_of(document_id, texts, vectors, embed.model))


@ANSWERS.wrong("state of before")
async def an_object_of_before(sessions, embed, document_id, texts):
    async with sessions() as session:
        document = await session.get(Document, document_id)
        await session.commit()
        rows = await embedded(sessions, embed, document_id, texts)
        await session.execute(select(Document.id).where(Document.id == document_id).with_for_update())
        await session.execute(old_chunks(document_id))
        if rows:
            await session.execute(insert(DocumentChunk), rows)
        document.status, document.error = "ready", None
        await session.commit()


@ANSWERS.wrong("old model kept")
async def what_has_not_changed_stays(sessions, embed, document_id, texts):
    async with sessions() as session:
        mine = select(DocumentChunk.content).where(DocumentChunk.document_id == document_id)
        known = (await session.scalars(mine.order_by(DocumentChunk.chunk_index))).all()
    if known == list(texts):
        async with sessions.begin() as session:
            await session.execute(becomes(document_id, status="ready", error=None))
    else:
        await document_locked(sessions, embed, document_id, texts)
