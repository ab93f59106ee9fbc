"""Answers to 7.3, a document that comes again."""

from __future__ import annotations

import asyncio

import openai
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from course_lib.llm import EMBEDDING_MODEL
from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("7.3")
READY = {"status": "ready", "error": None}


async def known_vectors(session, user_id, source, *where):
    earlier = select(DocumentChunk.content, DocumentChunk.embedding).join(Document)
    earlier = earlier.where(Document.user_id == user_id, Document.source == source, *where)
    return dict((await session.execute(earlier)).all())


OURS = DocumentChunk.embedding_model == EMBEDDING_MODEL


async def buy(client, texts):
    if not texts:
        return {}
    answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    return {texts[item.index]: item.embedding for item in answer.data}


def rows(id, chunks, vectors, start=0):
    return [
        {
            "document_id": id,
            "chunk_index": index,
            "content": chunk,
            "token_count": len(chunk.split()),
            "embedding": vectors[chunk],
            "embedding_model": EMBEDDING_MODEL,
        }
        for index, chunk in enumerate(chunks, start)
    ]


async def put(session, user_id, source, title):
    state = {"title": title, **READY}
    statement = upsert(Document).values(user_id=user_id, source=source, **state)
    statement = statement.on_conflict_do_update(index_elements=["user_id", "source"], set_=state)
    return await session.scalar(statement.returning(Document.id))


async def empty_out(session, id):
    await session.execute(delete(DocumentChunk).where(DocumentChunk.document_id == id))


async def fill(session, id, chunks, vectors):
    if chunks:
        await session.execute(insert(DocumentChunk), rows(id, chunks, vectors))


def missing(chunks, vectors):
    return [chunk for chunk in dict.fromkeys(chunks) if chunk not in vectors]


async def exchange(session, user_id, source, title, chunks, vectors):
    id = await put(session, user_id, source, title)
    await empty_out(session, id)
    await fill(session, id, chunks, vectors)
    return id


@ANSWERS.right
async def three_steps(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.right
async def with_an_advisory_lock(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
        await session.execute(lock, {"what": f"{user_id} {source}"})
        mine = select(Document).where(Document.user_id == user_id, Document.source == source)
        document = await session.scalar(mine)
        if document is None:
            document = Document(user_id=user_id, source=source)
            session.add(document)
        document.title, document.status, document.error = title, "ready", None
        await session.flush()
        await empty_out(session, document.id)
        await fill(session, document.id, chunks, vectors)
    return document.id


@ANSWERS.wrong("not an id")
async def says_nothing(sessions, client, user_id, source, title, chunks):
    await three_steps(sessions, client, user_id, source, title, chunks)


@ANSWERS.wrong("wrong document")
async def keeps_the_title(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
        found = await session.scalar(
            select(Document.title).where(Document.user_id == user_id, Document.source == source)
        )
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, found or title, chunks, vectors)


@ANSWERS.wrong("wrong document")
async def keeps_the_error(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        state = {"title": title, "status": "ready"}
        statement = upsert(Document).values(user_id=user_id, source=source, **state)
        statement = statement.on_conflict_do_update(index_elements=["user_id", "source"], set_=state)
        id = await session.scalar(statement.returning(Document.id))
        await empty_out(session, id)
        await fill(session, id, chunks, vectors)
    return id


@ANSWERS.wrong("chunks missing")
async def equal_ones_once(sessions, client, user_id, source, title, chunks):
    return await three_steps(sessions, client, user_id, source, title, list(dict.fromkeys(chunks)))


@ANSWERS.wrong("chunks missing")
async def forgets_to_commit(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("left over")
async def writes_over(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        id = await put(session, user_id, source, title)
        for row in rows(id, chunks, vectors):
            where = {"index_elements": ["document_id", "chunk_index"], "set_": row}
            await session.execute(upsert(DocumentChunk).values(row).on_conflict_do_update(**where))
    return id


@ANSWERS.wrong("wrong chunk")
async def counts_from_one(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        id = await put(session, user_id, source, title)
        await empty_out(session, id)
        if chunks:
            await session.execute(insert(DocumentChunk), rows(id, chunks, vectors, 1))
    return id


@ANSWERS.wrong("bought too much")
async def buys_all(sessions, client, user_id, source, title, chunks):
    vectors = await buy(client, missing(chunks, {}))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("bought too much")
async def equal_ones_twice(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, [chunk for chunk in chunks if chunk not in vectors])
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("bought too much")
async def by_position(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        earlier = (
            select(DocumentChunk).join(Document).where(Document.user_id == user_id, Document.source == source, OURS)
        )
        stored = {chunk.chunk_index: chunk for chunk in await session.scalars(earlier)}
    same = {
        chunk: stored[at].embedding for at, chunk in enumerate(chunks) if at in stored and stored[at].content == chunk
    }
    vectors = same | await buy(client, missing(chunks, same))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("asked for nothing")
async def asks_with_an_empty_list(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    new = missing(chunks, vectors)
    try:
        answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=new)
        vectors |= {new[item.index]: item.embedding for item in answer.data}
    except openai.BadRequestError:
        pass
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("too many requests")
async def a_request_for_each(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    for chunk in missing(chunks, vectors):
        vectors |= await buy(client, [chunk])
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("vector of another")
async def of_whatever_user(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        stored = select(DocumentChunk.content, DocumentChunk.embedding).where(DocumentChunk.content.in_(chunks), OURS)
        vectors = dict((await session.execute(stored)).all())
        vectors |= await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("vector of another")
async def of_all_documents_of_the_user(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        stored = select(DocumentChunk.content, DocumentChunk.embedding).join(Document).where(OURS)
        vectors = dict((await session.execute(stored.where(Document.user_id == user_id))).all())
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("vector of another")
async def of_whatever_model(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("connection held")
async def in_one_session(sessions, client, user_id, source, title, chunks):
    async with sessions.begin() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
        vectors |= await buy(client, missing(chunks, vectors))
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("several transactions")
async def deletes_first(sessions, client, user_id, source, title, chunks):
    async with sessions.begin() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
        await empty_out(session, await put(session, user_id, source, title))
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("several transactions")
async def a_commit_in_between(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        id = await put(session, user_id, source, title)
        await empty_out(session, id)
    async with sessions.begin() as session:
        await fill(session, id, chunks, vectors)
    return id


@ANSWERS.wrong("gap")
async def deletes_what_is_gone_first(sessions, client, user_id, source, title, chunks):
    async with sessions.begin() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
        mine = select(Document.id).where(Document.user_id == user_id, Document.source == source).scalar_subquery()
        gone = delete(DocumentChunk).where(DocumentChunk.document_id == mine, DocumentChunk.content.not_in(chunks))
        await session.execute(gone)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("old version lost")
async def clears_up_after_a_failure(sessions, client, user_id, source, title, chunks):
    try:
        return await three_steps(sessions, client, user_id, source, title, chunks)
    except openai.OpenAIError:
        async with sessions.begin() as session:
            await session.execute(delete(Document).where(Document.user_id == user_id, Document.source == source))
        raise


@ANSWERS.wrong("state lost")
async def says_that_it_is_at_work(sessions, client, user_id, source, title, chunks):
    async with sessions.begin() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
        mine = (Document.user_id == user_id, Document.source == source)
        await session.execute(update(Document).where(*mine).values(status="processing"))
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        return await exchange(session, user_id, source, title, chunks, vectors)


@ANSWERS.wrong("error swallowed")
async def says_none_when_it_fails(sessions, client, user_id, source, title, chunks):
    try:
        return await three_steps(sessions, client, user_id, source, title, chunks)
    except openai.OpenAIError:
        return None


@ANSWERS.wrong("another error")
async def in_its_own_words(sessions, client, user_id, source, title, chunks):
    try:
        return await three_steps(sessions, client, user_id, source, title, chunks)
    except openai.OpenAIError as error:
        raise RuntimeError("ingest failed") from error


@ANSWERS.wrong("overtaken")
async def moves_what_stays(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        earlier = (
            select(DocumentChunk).join(Document).where(Document.user_id == user_id, Document.source == source, OURS)
        )
        stored = {chunk.content: chunk.id for chunk in await session.scalars(earlier)}
    bought = await buy(client, missing(chunks, stored))
    async with sessions.begin() as session:
        id = await put(session, user_id, source, title)
        kept = await known_vectors(session, user_id, source, DocumentChunk.id.in_(stored.values()))
        await empty_out(session, id)
        vectors = kept | bought
        await session.execute(text("SELECT 1"))
        there = rows(id, [chunk for chunk in chunks if chunk in vectors], vectors)
        if there:
            await session.execute(insert(DocumentChunk), there)
    return id


@ANSWERS.wrong("failed at once")
async def looks_before_it_inserts(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        mine = select(Document).where(Document.user_id == user_id, Document.source == source).with_for_update()
        document = await session.scalar(mine)
        if document is None:
            document = Document(user_id=user_id, source=source)
            session.add(document)
        document.title, document.status, document.error = title, "ready", None
        await session.flush()
        await empty_out(session, document.id)
        await fill(session, document.id, chunks, vectors)
    return document.id


@ANSWERS.wrong("mixed versions")
async def deletes_what_it_saw(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        mine = select(Document.id).where(Document.user_id == user_id, Document.source == source)
        id = await session.scalar(mine) or await put(session, user_id, source, title)
        await empty_out(session, id)
        id = await put(session, user_id, source, title)
        for row in rows(id, chunks, vectors):
            where = {"index_elements": ["document_id", "chunk_index"], "set_": row}
            await session.execute(upsert(DocumentChunk).values(row).on_conflict_do_update(**where))
    return id


LOCK = asyncio.Lock()


@ANSWERS.wrong("locked in this process")
async def with_a_lock_of_python(sessions, client, user_id, source, title, chunks):
    async with LOCK:
        return await three_steps(sessions, client, user_id, source, title, chunks)


@ANSWERS.wrong("other documents")
async def deletes_by_text(sessions, client, user_id, source, title, chunks):
    async with sessions() as session:
        vectors = await known_vectors(session, user_id, source, OURS)
    vectors |= await buy(client, missing(chunks, vectors))
    async with sessions.begin() as session:
        id = await put(session, user_id, source, title)
        await session.execute(delete(DocumentChunk).where(DocumentChunk.content.in_(vectors)))
        await empty_out(session, id)
        await fill(session, id, chunks, vectors)
    return id
