"""Answers to 4.2, the index nobody used."""

from __future__ import annotations

from sqlalchemy import Float, bindparam, select, text

from course_lib.models import DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("4.2")
NEAR = """
    SELECT id, 1 - (embedding <=> CAST(:vector AS vector)) AS similarity
    FROM document_chunks ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k
"""


def far(vector):
    return DocumentChunk.embedding.cosine_distance(vector)


def with_similarity(vector):
    return select(DocumentChunk.id, (1 - far(vector)).label("similarity"))


async def sql(session, statement, vector, k):
    return (await session.execute(text(statement), {"vector": str(vector), "k": k})).all()


@ANSWERS.right
async def by_distance(session, vector, k):
    return (await session.execute(with_similarity(vector).order_by(far(vector)).limit(k))).all()


@ANSWERS.right
async def written_out(session, vector, k):
    return await sql(session, NEAR, vector, k)


@ANSWERS.right
async def by_position(session, vector, k):
    positions = "SELECT id, embedding <=> CAST(:vector AS vector) FROM document_chunks ORDER BY 2 LIMIT :k"
    return [(id, 1 - distance) for id, distance in await sql(session, positions, vector, k)]


@ANSWERS.right
async def by_label_and_operator(session, vector, k):
    distance = DocumentChunk.embedding.op("<=>", return_type=Float)(bindparam(None, vector)).label("distance")
    found = await session.execute(select(DocumentChunk.id, distance).order_by("distance").limit(k))
    return [(row.id, 1 - row.distance) for row in found]


@ANSWERS.right
async def sorted_again_outside(session, vector, k):
    nearest = select(DocumentChunk.id, far(vector).label("distance")).order_by(far(vector)).limit(k).subquery()
    similarity = 1 - nearest.c.distance
    return (await session.execute(select(nearest.c.id, similarity).order_by(similarity.desc()))).all()


@ANSWERS.right
async def objects(session, vector, k):
    async with session.begin():
        await session.execute(text("SET LOCAL hnsw.ef_search = 100"))
        found = await session.execute(select(DocumentChunk, far(vector)).order_by(far(vector)).fetch(k))
        return [[chunk.id, 1 - distance] for chunk, distance in found]


@ANSWERS.right
async def ids_then_numbers(session, vector, k):
    ids = (await session.scalars(select(DocumentChunk.id).order_by(far(vector)).limit(k))).all()
    found = (await session.execute(with_similarity(vector).where(DocumentChunk.id.in_(ids)))).tuples()
    return sorted(found, key=lambda pair: -pair[1])


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, vector, k):
    await by_distance(session, vector, k)


@ANSWERS.wrong("not a list")
async def a_result(session, vector, k):
    return await session.execute(with_similarity(vector).order_by(far(vector)).limit(k))


@ANSWERS.wrong("not pairs")
async def ids_only(session, vector, k):
    return (await session.scalars(with_similarity(vector).order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("twice")
async def joined_in_vain(session, vector, k):
    doubled = f"SELECT one.* FROM ({NEAR}) AS one, (VALUES (1), (2)) AS two ORDER BY similarity DESC LIMIT :k"
    return await sql(session, doubled, vector, k)


@ANSWERS.wrong("distance")
async def distances(session, vector, k):
    return (await session.execute(select(DocumentChunk.id, far(vector)).order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("wrong numbers")
async def halves(session, vector, k):
    return [(id, similarity / 2) for id, similarity in await by_distance(session, vector, k)]


@ANSWERS.wrong("wrong length")
async def one_more(session, vector, k):
    return await by_distance(session, vector, k + 1)


@ANSWERS.wrong("order")
async def upside_down(session, vector, k):
    return (await by_distance(session, vector, k))[::-1]


@ANSWERS.wrong("far")
async def furthest(session, vector, k):
    return (await session.execute(with_similarity(vector).order_by(far(vector).desc()).limit(k))).all()[::-1]


@ANSWERS.wrong("far")
async def without_order(session, vector, k):
    found = (await session.execute(with_similarity(vector).limit(k))).all()
    return sorted(found, key=lambda pair: -pair.similarity)


@ANSWERS.wrong("another operator")
async def euclidean(session, vector, k):
    length_one = DocumentChunk.embedding.l2_distance(vector)
    return (await session.execute(with_similarity(vector).order_by(length_one).limit(k))).all()


@ANSWERS.wrong("another operator")
async def inner_product(session, vector, k):
    return await sql(session, NEAR.replace("BY embedding <=>", "BY embedding <#>"), vector, k)


@ANSWERS.wrong("downwards")
async def as_it_was(session, vector, k):
    similarity = (1 - far(vector)).label("similarity")
    return (await session.execute(select(DocumentChunk.id, similarity).order_by(similarity.desc()).limit(k))).all()


@ANSWERS.wrong("downwards")
async def as_it_was_with_seqscan_off(session, vector, k):
    await session.execute(text("SET LOCAL enable_seqscan = off"))
    return await as_it_was(session, vector, k)


@ANSWERS.wrong("no limit")
async def cut_in_python(session, vector, k):
    return (await session.execute(with_similarity(vector).order_by(far(vector)))).all()[:k]


@ANSWERS.wrong("no limit")
async def sorted_in_python(session, vector, k):
    found = (await session.execute(with_similarity(vector))).all()
    return sorted(found, key=lambda pair: pair.similarity, reverse=True)[:k]


@ANSWERS.wrong("index not used")
async def negated(session, vector, k):
    return (await session.execute(with_similarity(vector).order_by(-(1 - far(vector))).limit(k))).all()


@ANSWERS.wrong("index not used")
async def with_a_second_order(session, vector, k):
    statement = with_similarity(vector).order_by(far(vector) + 0, DocumentChunk.id).limit(k)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("setting stays")
async def for_the_session(session, vector, k):
    await session.execute(text("SET hnsw.ef_search = 100"))
    await session.commit()
    return await by_distance(session, vector, k)
