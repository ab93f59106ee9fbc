"""Answers to 4.3, relevant, or nothing."""

from __future__ import annotations

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import DocumentChunk
from tests.exercises.lesson_04.answers_4_02 import far, looking_far, with_similarity
from tests.exercises.written import Answers

ANSWERS = Answers("4.3")
CTE = """
    WITH nearest AS MATERIALIZED (
        SELECT id, embedding <=> CAST(:vector AS vector) AS distance
        FROM document_chunks ORDER BY distance LIMIT :k
    ) SELECT id, 1 - distance FROM nearest WHERE distance <= 1 - CAST(:least AS float) ORDER BY distance
"""


def nearest(vector, k):
    return select(DocumentChunk.id, far(vector).label("distance")).order_by(far(vector)).limit(k)


async def answers(session, statement):
    await looking_far(session)
    return (await session.execute(statement)).all()


@ANSWERS.right
async def in_a_subquery(session, vector, k, least):
    near = nearest(vector, k).subquery()
    similarity = 1 - near.c.distance
    return await answers(session, select(near.c.id, similarity).where(similarity >= least).order_by(near.c.distance))


@ANSWERS.right
async def in_a_materialized_cte(session, vector, k, least):
    await looking_far(session)
    values = {"vector": str(vector), "k": k, "least": least}
    return (await session.execute(text(CTE), values)).all()


@ANSWERS.right
async def beside_the_order(session, vector, k, least):
    statement = with_similarity(vector).where(far(vector) <= 1 - least).order_by(far(vector)).limit(k)
    return await answers(session, statement)


@ANSWERS.right
async def beside_the_order_going_on(session, vector, k, least):
    async with session.begin_nested():
        await session.execute(text("SET LOCAL hnsw.iterative_scan = 'strict_order'"))
        return await beside_the_order(session, vector, k, least)


@ANSWERS.right
async def cut_in_python(session, vector, k, least):
    return [(id, 1 - distance) for id, distance in await answers(session, nearest(vector, k)) if 1 - distance >= least]


@ANSWERS.right
async def from_more_than_k(session, vector, k, least):
    found = await answers(session, nearest(vector, 4 * k))
    return [(id, 1 - distance) for id, distance in found if 1 - distance >= least][:k]


@ANSWERS.right
async def streamed_until_it_is_too_far(session, vector, k, least):
    relevant = []
    for id, distance in await answers(session, nearest(vector, k)):
        if 1 - distance < least:
            break
        relevant.append([id, 1 - distance])
    return relevant


@ANSWERS.wrong("nothing returned")
async def none_if_empty(session, vector, k, least):
    return await in_a_subquery(session, vector, k, least) or None


@ANSWERS.wrong("not a list")
async def a_generator(session, vector, k, least):
    found = await in_a_subquery(session, vector, k, least)
    return (pair for pair in found)


@ANSWERS.wrong("not pairs")
async def ids_only(session, vector, k, least):
    return [id for id, _ in await in_a_subquery(session, vector, k, least)]


@ANSWERS.wrong("twice")
async def every_one_twice(session, vector, k, least):
    found = await in_a_subquery(session, vector, k, least)
    return sorted([*found, *found], key=lambda pair: -pair[1])[:k]


@ANSWERS.wrong("distance")
async def distances(session, vector, k, least):
    return [(id, 1 - similarity) for id, similarity in await in_a_subquery(session, vector, k, least)]


@ANSWERS.wrong("wrong numbers")
async def percent(session, vector, k, least):
    return [(id, round(100 * similarity)) for id, similarity in await in_a_subquery(session, vector, k, least)]


@ANSWERS.wrong("below")
async def no_threshold(session, vector, k, least):
    return [(id, 1 - distance) for id, distance in await answers(session, nearest(vector, k))]


@ANSWERS.wrong("below")
async def similarity_at_most(session, vector, k, least):
    return await answers(
        session, with_similarity(vector).where(1 - far(vector) <= least).order_by(far(vector)).limit(k)
    )


@ANSWERS.wrong("too many")
async def a_threshold_for_a_limit(session, vector, k, least):
    statement = with_similarity(vector).where(far(vector) <= 1 - least).order_by(far(vector))
    return await answers(session, statement)


@ANSWERS.wrong("left out")
async def never_anything(session, vector, k, least):
    return [pair for pair in await in_a_subquery(session, vector, k, least) if pair[1] > 1]


@ANSWERS.wrong("left out")
async def limit_before_order(session, vector, k, least):
    near = with_similarity(vector).limit(k).subquery()
    statement = select(near).where(near.c.similarity >= least).order_by(near.c.similarity.desc())
    return await answers(session, statement)


@ANSWERS.wrong("order")
async def by_id(session, vector, k, least):
    return sorted(await in_a_subquery(session, vector, k, least))


@ANSWERS.wrong("another operator")
async def euclidean(session, vector, k, least):
    statement = with_similarity(vector).order_by(DocumentChunk.embedding.l2_distance(vector)).limit(k)
    return [pair for pair in await answers(session, statement) if pair.similarity >= least]


@ANSWERS.wrong("downwards")
async def by_similarity(session, vector, k, least):
    similarity = (1 - far(vector)).label("similarity")
    statement = select(DocumentChunk.id, similarity).where(similarity >= least).order_by(similarity.desc()).limit(k)
    return await answers(session, statement)


@ANSWERS.wrong("no limit")
async def sorted_and_cut_in_python(session, vector, k, least):
    found = await answers(session, with_similarity(vector).where(far(vector) <= 1 - least))
    return sorted(found, key=lambda pair: -pair.similarity)[:k]


@ANSWERS.wrong("index not used")
async def by_an_expression(session, vector, k, least):
    statement = with_similarity(vector).where(far(vector) <= 1 - least).order_by(far(vector) - 1).limit(k)
    return await answers(session, statement)


@ANSWERS.wrong("reads all")
async def counted_first(session, vector, k, least):
    enough = await session.scalar(select(func.count()).where(1 - far(vector) >= least))
    return await in_a_subquery(session, vector, min(k, max(1, enough)), least)


@ANSWERS.wrong("left out")
async def no_more_than_the_index_yields(session, vector, k, least):
    return (await session.execute(text(CTE), {"vector": str(vector), "k": k, "least": least})).all()


@ANSWERS.wrong("left out")
async def zero_is_no_threshold(session, vector, k, least):
    return await in_a_subquery(session, vector, k, least or 0.5)


@ANSWERS.wrong("just at it")
async def more_than_the_threshold(session, vector, k, least):
    return await answers(session, with_similarity(vector).where(1 - far(vector) > least).order_by(far(vector)).limit(k))


LAST = {}


@ANSWERS.wrong("unknown")
async def the_last_answer_is_kept(session, vector, k, least):
    if LAST.get("asked") != (vector, k, least):
        LAST.update(asked=(vector, k, least), found=await in_a_subquery(session, vector, k, least))
    return LAST["found"]


@ANSWERS.wrong("begun already")
async def in_a_transaction_of_its_own(session, vector, k, least):
    async with session.begin():
        return await in_a_subquery(session, vector, k, least)


@ANSWERS.wrong("ends it")
async def rolls_back(session, vector, k, least):
    found = await in_a_subquery(session, vector, k, least)
    await session.rollback()
    return found


@ANSWERS.wrong("not seen")
async def on_another_connection(session, vector, k, least):
    async with AsyncSession(session.bind) as other:
        return await in_a_subquery(other, vector, k, least)


@ANSWERS.wrong("setting stays")
async def for_the_session(session, vector, k, least):
    await session.execute(text("SET hnsw.iterative_scan = 'strict_order'"))
    return await in_a_subquery(session, vector, k, least)
