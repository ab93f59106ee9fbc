"""Answers to 4.7, twelve hundred vectors in one go."""

from __future__ import annotations

import math

import numpy as np
from pgvector import Vector
from sqlalchemy import insert, text

from course_lib.db import copy_rows
from course_lib.models import DIMENSIONS, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("4.7")
COLUMNS = ["document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model"]


def look_at(chunks):
    for position, (_, vector) in enumerate(chunks):
        if len(vector) != DIMENSIONS:
            raise ValueError(f"chunk {position} has {len(vector)} numbers")
        if not all(map(math.isfinite, vector)) or not any(vector):
            raise ValueError(f"chunk {position} has a vector that cannot be searched")


def rows_of(document_id, model, chunks):
    return [
        (document_id, index, content, len(content.split()), vector, model)
        for index, (content, vector) in enumerate(chunks)
    ]


def dicts_of(document_id, model, chunks):
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows_of(document_id, model, chunks)]


@ANSWERS.right
async def copied(session, document_id, model, chunks):
    look_at(chunks)
    return await copy_rows(session, DocumentChunk, COLUMNS, rows_of(document_id, model, chunks))


@ANSWERS.right
async def many_in_one_insert(session, document_id, model, chunks):
    look_at(chunks)
    if chunks:
        await session.execute(insert(DocumentChunk), dicts_of(document_id, model, chunks))
    return len(chunks)


@ANSWERS.right
async def as_objects(session, document_id, model, chunks):
    look_at(chunks)
    session.add_all([DocumentChunk(**values) for values in dicts_of(document_id, model, chunks)])
    await session.flush()
    return len(chunks)


@ANSWERS.right
async def through_the_driver_after_begin(session, document_id, model, chunks):
    vectors = [np.asarray(vector, dtype=np.float32) for _, vector in chunks]
    for position, vector in enumerate(vectors):
        if vector.shape != (DIMENSIONS,) or not np.isfinite(vector).all() or not vector.any():
            raise ValueError(f"vector number {position} is of no use")
    await session.execute(text("SELECT 1"))  # BEGIN goes with it
    connection = await (await session.connection()).get_raw_connection()
    driver = connection.driver_connection
    assert driver.is_in_transaction()
    records = [(*row[:4], Vector(row[4]), row[5]) for row in rows_of(document_id, model, chunks)]
    await driver.copy_records_to_table("document_chunks", columns=COLUMNS, records=records)
    return len(records)


@ANSWERS.right
async def unnested(session, document_id, model, chunks):
    """A hundred values for each column; the vectors as text."""
    look_at(chunks)
    sql = """
        INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
        SELECT :document_id, n - 1, content, words, vector::vector, :model
        FROM unnest(CAST(:contents AS text[]), CAST(:words AS int[]), CAST(:vectors AS text[]))
        WITH ORDINALITY AS _(content, words, vector, n)
    """
    contents = [content for content, _ in chunks]
    values = {"contents": contents, "words": [len(c.split()) for c in contents], "vectors": [str(v) for _, v in chunks]}
    await session.execute(text(sql), {"document_id": document_id, "model": model, **values})
    return len(chunks)


@ANSWERS.wrong("not a number")
async def says_nothing(session, document_id, model, chunks):
    await copied(session, document_id, model, chunks)


@ANSWERS.wrong("wrong number")
async def says_a_number_of_its_own(session, document_id, model, chunks):
    return await copied(session, document_id, model, chunks) + 1


@ANSWERS.wrong("rows missing")
async def the_first_ones(session, document_id, model, chunks):
    await copied(session, document_id, model, chunks[:30])
    return len(chunks)


@ANSWERS.wrong("wrong row")
async def counted_from_one(session, document_id, model, chunks):
    look_at(chunks)
    rows = [(row[0], row[1] + 1, *row[2:]) for row in rows_of(document_id, model, chunks)]
    return await copy_rows(session, DocumentChunk, COLUMNS, rows)


@ANSWERS.wrong("wrong vector")
async def vectors_of_the_neighbours(session, document_id, model, chunks):
    look_at(chunks)
    vectors = [vector for _, vector in chunks]
    shifted = list(zip([content for content, _ in chunks], vectors[1:] + vectors[:1], strict=True))
    return await copied(session, document_id, model, shifted)


@ANSWERS.wrong("one by one")
async def a_statement_each(session, document_id, model, chunks):
    look_at(chunks)
    for values in dicts_of(document_id, model, chunks):
        await session.execute(insert(DocumentChunk).values(**values))
    return len(chunks)


@ANSWERS.wrong("begun already")
async def a_transaction_of_its_own(session, document_id, model, chunks):
    look_at(chunks)
    if not session.in_transaction():
        await session.connection()
    async with session.begin():
        return await copied(session, document_id, model, chunks)


@ANSWERS.wrong("commits itself")
async def committed(session, document_id, model, chunks):
    count = await copied(session, document_id, model, chunks)
    await session.commit()
    return count


@ANSWERS.wrong("outside the transaction")
async def copied_before_begin(session, document_id, model, chunks):
    look_at(chunks)
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    records = [(*row[:4], Vector(row[4]), row[5]) for row in rows_of(document_id, model, chunks)]
    await driver.copy_records_to_table("document_chunks", columns=COLUMNS, records=records)
    return len(records)


@ANSWERS.wrong("caller's work lost")
async def clears_up_behind_itself(session, document_id, model, chunks):
    try:
        return await copied(session, document_id, model, chunks)
    except ValueError:
        await session.rollback()
        raise


@ANSWERS.wrong("accepted")
async def as_they_come(session, document_id, model, chunks):
    for position, (_, vector) in enumerate(chunks):
        if len(vector) != DIMENSIONS or not all(map(math.isfinite, vector)):
            raise ValueError(f"chunk {position}")
    return await copy_rows(session, DocumentChunk, COLUMNS, rows_of(document_id, model, chunks))


@ANSWERS.wrong("accepted")
async def those_that_are_good(session, document_id, model, chunks):
    good = [(content, v) for content, v in chunks if len(v) == DIMENSIONS and all(map(math.isfinite, v)) and any(v)]
    return await copied(session, document_id, model, good)


@ANSWERS.wrong("good ones refused")
async def no_zero_at_all(session, document_id, model, chunks):
    for position, (_, vector) in enumerate(chunks):
        if not all(vector):
            raise ValueError(f"chunk {position} has a zero")
    return await copied(session, document_id, model, chunks)


@ANSWERS.wrong("good ones refused")
async def by_the_sum(session, document_id, model, chunks):
    for position, (_, vector) in enumerate(chunks):
        if sum(vector) == 0:
            raise ValueError(f"chunk {position} is nothing")
    return await copied(session, document_id, model, chunks)


@ANSWERS.wrong("wrong row")
async def words_between_blanks(session, document_id, model, chunks):
    look_at(chunks)
    rows = [(*row[:3], len(row[2].split(" ")), *row[4:]) for row in rows_of(document_id, model, chunks)]
    return await copy_rows(session, DocumentChunk, COLUMNS, rows)


@ANSWERS.wrong("not a ValueError")
async def left_to_the_server(session, document_id, model, chunks):
    return await copy_rows(session, DocumentChunk, COLUMNS, rows_of(document_id, model, chunks))


@ANSWERS.wrong("position not named")
async def which_one(session, document_id, model, chunks):
    try:
        look_at(chunks)
    except ValueError:
        raise ValueError("one of the vectors is broken") from None
    return await copied(session, document_id, model, chunks)


@ANSWERS.wrong("stored before")
async def batch_by_batch(session, document_id, model, chunks):
    rows = rows_of(document_id, model, chunks)
    for start in range(0, len(rows), 200):
        for position, row in enumerate(rows[start : start + 200], start):
            if len(row[4]) != DIMENSIONS or not all(map(math.isfinite, row[4])) or not any(row[4]):
                raise ValueError(f"chunk {position}")
        await copy_rows(session, DocumentChunk, COLUMNS, rows[start : start + 200])
    return len(rows)
