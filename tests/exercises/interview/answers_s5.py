"""Answers to S5, found under the old words."""

from __future__ import annotations

from sqlalchemy import func, literal_column, select, text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("S5")
MODEL = "embed-2"
XMIN = literal_column("document_chunks.xmin::text")


async def old_ones(sessions, document_id, *more, current=False):
    found = select(DocumentChunk.id, DocumentChunk.content, *more).where(DocumentChunk.document_id == document_id)
    if not current:
        found = found.where(DocumentChunk.embedding_model != MODEL)
    async with sessions() as session:
        return (await session.execute(found.order_by(DocumentChunk.chunk_index))).all()


def new(vector, *conditions):
    return update(DocumentChunk).where(*conditions).values(embedding=vector, embedding_model=MODEL)


async def stored_if(sessions, embed, document_id, conditions, *more, current=False):
    """Stores each vector under ``conditions(row)``; how many were stored."""
    old = await old_ones(sessions, document_id, *more, current=current)
    vectors = await embed([row.content for row in old]) if old else []
    async with sessions.begin() as session:
        counts = [
            (await session.execute(new(vector, DocumentChunk.id == row.id, *conditions(row)))).rowcount
            for row, vector in zip(old, vectors, strict=True)
        ]
    return sum(counts)


def same_text(row):
    return [DocumentChunk.content == row.content]


@ANSWERS.right
async def text_in_the_condition(sessions, embed, document_id):
    return await stored_if(sessions, embed, document_id, same_text)


@ANSWERS.right
async def version_in_the_condition(sessions, embed, document_id):
    return await stored_if(sessions, embed, document_id, lambda row: [row.version == XMIN], XMIN.label("version"))


@ANSWERS.right
async def locked_and_compared(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    vectors = await embed([row.content for row in old]) if old else []
    done = 0
    async with sessions.begin() as session:
        for row, vector in zip(old, vectors, strict=True):
            passage = await session.get(DocumentChunk, row.id, with_for_update=True)
            if passage is not None and passage.content == row.content:
                passage.embedding, passage.embedding_model = vector, MODEL
                done += 1
    return done


@ANSWERS.right
async def snapshot_and_again(sessions, embed, document_id):
    for _ in range(4):
        try:
            async with sessions.begin() as session:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                found = select(DocumentChunk).where(DocumentChunk.document_id == document_id)
                old = (await session.scalars(found.where(DocumentChunk.embedding_model != MODEL))).all()
                vectors = await embed([passage.content for passage in old]) if old else []
                for passage, vector in zip(old, vectors, strict=True):
                    await session.execute(new(vector, DocumentChunk.id == passage.id))
                return len(old)
        except DBAPIError as error:
            if error.orig.sqlstate != "40001":
                raise
    return 0


@ANSWERS.right
async def until_none_is_left(sessions, embed, document_id):
    done = 0
    while old := await old_ones(sessions, document_id):
        for row in old:
            [vector] = await embed([row.content])
            async with sessions.begin() as session:
                result = await session.execute(new(vector, DocumentChunk.id == row.id, *same_text(row)))
                done += result.rowcount
    return done


@ANSWERS.wrong("stale")
async def as_long_as_before(sessions, embed, document_id):
    def as_long(row):
        return [func.length(DocumentChunk.content) == len(row.content)]

    return await stored_if(sessions, embed, document_id, as_long)


@ANSWERS.wrong("stale")
async def counted_and_no_more(sessions, embed, document_id):
    return await stored_if(sessions, embed, document_id, lambda row: [])


@ANSWERS.wrong("stale")
async def looks_and_then_writes(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    vectors = await embed([row.content for row in old])
    done = 0
    async with sessions.begin() as session:
        for row, vector in zip(old, vectors, strict=True):
            now = await session.scalar(select(DocumentChunk.content).where(DocumentChunk.id == row.id))
            if now == row.content:
                done += (await session.execute(new(vector, DocumentChunk.id == row.id))).rowcount
    return done


@ANSWERS.wrong("stale")
async def only_if_still_marked_so(sessions, embed, document_id):
    mark = DocumentChunk.embedding_model
    return await stored_if(sessions, embed, document_id, lambda row: [mark == row.embedding_model], mark)


@ANSWERS.wrong("stale")
async def only_if_not_done_meanwhile(sessions, embed, document_id):
    return await stored_if(sessions, embed, document_id, lambda row: [DocumentChunk.embedding_model != MODEL])


@ANSWERS.wrong("editor waits")
async def locked_over_the_model(sessions, embed, document_id):
    async with sessions.begin() as session:
        found = select(DocumentChunk).where(DocumentChunk.document_id == document_id)
        found = found.where(DocumentChunk.embedding_model != MODEL).with_for_update()
        old = (await session.scalars(found)).all()
        vectors = await embed([passage.content for passage in old])
        for passage, vector in zip(old, vectors, strict=True):
            passage.embedding, passage.embedding_model = vector, MODEL
    return len(old)


@ANSWERS.wrong("edit lost")
async def text_and_vector_written(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    vectors = await embed([row.content for row in old])
    done = 0
    async with sessions.begin() as session:
        for row, vector in zip(old, vectors, strict=True):
            whole = new(vector, DocumentChunk.id == row.id).values(content=row.content)
            done += (await session.execute(whole)).rowcount
    return done


@ANSWERS.wrong("came back")
async def made_anew_if_missing(sessions, embed, document_id):
    old = await old_ones(sessions, document_id, DocumentChunk.chunk_index)
    vectors = await embed([row.content for row in old])
    done = 0
    async with sessions.begin() as session:
        for row, vector in zip(old, vectors, strict=True):
            passage = await session.get(DocumentChunk, row.id, with_for_update=True)
            if passage is None:
                passage = DocumentChunk(document_id=document_id, **row._asdict(), token_count=7)
                session.add(passage)
            if passage.content == row.content:
                passage.embedding, passage.embedding_model = vector, MODEL
                done += 1
    return done


@ANSWERS.wrong("edit hidden")
async def marked_as_failed(sessions, embed, document_id):
    done = await text_in_the_condition(sessions, embed, document_id)
    async with sessions.begin() as session:
        rest = update(DocumentChunk).where(DocumentChunk.document_id == document_id)
        await session.execute(rest.where(DocumentChunk.embedding_model != MODEL).values(embedding_model="failed"))
    return done


@ANSWERS.wrong("not done")
async def all_or_nothing(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    vectors = await embed([row.content for row in old])
    async with sessions() as session:
        for row, vector in zip(old, vectors, strict=True):
            if not (await session.execute(new(vector, DocumentChunk.id == row.id, *same_text(row)))).rowcount:
                return 0
        await session.commit()
    return len(old)


@ANSWERS.wrong("vector lost")
async def by_the_place_in_the_list(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    vectors = await embed(sorted({row.content for row in old}))
    done = 0
    async with sessions.begin() as session:
        for row, vector in zip(old, [*vectors, vectors[0]], strict=True):
            done += (await session.execute(new(vector, DocumentChunk.id == row.id, *same_text(row)))).rowcount
    return done


@ANSWERS.wrong("failed on an edit")
async def snapshot_once(sessions, embed, document_id):
    async with sessions.begin() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        found = select(DocumentChunk).where(DocumentChunk.document_id == document_id)
        old = (await session.scalars(found.where(DocumentChunk.embedding_model != MODEL))).all()
        vectors = await embed([passage.content for passage in old])
        for passage, vector in zip(old, vectors, strict=True):
            await session.execute(new(vector, DocumentChunk.id == passage.id))
    return len(old)


@ANSWERS.wrong("bought again")
async def whatever_it_has(sessions, embed, document_id):
    return await stored_if(sessions, embed, document_id, same_text, current=True)


@ANSWERS.wrong("nothing to do")
async def asks_in_any_case(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    vectors = await embed([row.content for row in old] or ["nothing"])
    done = 0
    async with sessions.begin() as session:
        for row, vector in zip(old, vectors, strict=False):
            done += (await session.execute(new(vector, DocumentChunk.id == row.id, *same_text(row)))).rowcount
    return done


@ANSWERS.wrong("wrong count")
async def counts_what_it_bought(sessions, embed, document_id):
    old = await old_ones(sessions, document_id)
    await text_in_the_condition(sessions, embed, document_id)
    return len(old)


@ANSWERS.wrong("others changed")
async def wherever_the_text_stands(sessions, embed, document_id):
    done = await text_in_the_condition(sessions, embed, document_id)
    async with sessions.begin() as session:
        same = text(
            "UPDATE document_chunks c SET embedding = o.embedding, embedding_model = o.embedding_model "
            "FROM document_chunks o WHERE o.document_id = :id AND o.content = c.content AND o.embedding_model = :model "
            "AND c.document_id <> :id"
        )
        await session.execute(same, {"id": document_id, "model": MODEL})
    return done
