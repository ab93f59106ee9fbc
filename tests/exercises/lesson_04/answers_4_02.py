"""Answers to 4.2, the index nobody used."""

from __future__ import annotations

from sqlalchemy import Float, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

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


async def looking_far(session):
    await session.execute(text("SET LOCAL hnsw.ef_search = 100"))


async def sql(session, statement, vector, k):
    await looking_far(session)
    return (await session.execute(text(statement), {"vector": str(vector), "k": k})).all()


@ANSWERS.right
async def by_distance(session, vector, k):
    await looking_far(session)
    return (await session.execute(with_similarity(vector).order_by(far(vector)).limit(k))).all()


@ANSWERS.right
async def no_further_than_k(session, vector, k):
    await session.execute(select(func.set_config("hnsw.ef_search", str(k), True)))
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
    await session.execute(select(func.set_config("hnsw.iterative_scan", "strict_order", True)))
    distance = DocumentChunk.embedding.op("<=>", return_type=Float)(bindparam(None, vector)).label("distance")
    found = await session.execute(select(DocumentChunk.id, distance).order_by("distance").limit(k))
    return [(row.id, 1 - row.distance) for row in found]


@ANSWERS.right
async def relaxed_and_sorted_again_outside(session, vector, k):
    await session.execute(text("SET LOCAL hnsw.iterative_scan = relaxed_order"))
    nearest = select(DocumentChunk.id, far(vector).label("distance")).order_by(far(vector)).limit(k).subquery()
    similarity = 1 - nearest.c.distance
    return (await session.execute(select(nearest.c.id, similarity).order_by(similarity.desc()))).all()


@ANSWERS.right
async def objects(session, vector, k):
    async with session.begin_nested() as scope:
        await looking_far(session)
        found = await session.execute(select(DocumentChunk, far(vector)).order_by(far(vector)).fetch(k))
        pairs = [[chunk.id, 1 - distance] for chunk, distance in found]
        await scope.rollback()  # and the setting is what it was
    return pairs


@ANSWERS.right
async def ids_then_numbers(session, vector, k):
    await looking_far(session)
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


@ANSWERS.wrong("downwards")
async def as_it_was(session, vector, k):
    similarity = (1 - far(vector)).label("similarity")
    return (await session.execute(select(DocumentChunk.id, similarity).order_by(similarity.desc()).limit(k))).all()


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


@ANSWERS.wrong("reads all")
async def a_glance_at_the_index_first(session, vector, k):
    await by_distance(session, vector, 1)
    return await as_it_was(session, vector, k)


@ANSWERS.wrong("wrong length")
async def no_more_than_the_index_yields(session, vector, k):
    return (await session.execute(with_similarity(vector).order_by(far(vector)).limit(k))).all()


LAST = {}


@ANSWERS.wrong("unknown")
async def the_last_answer_is_kept(session, vector, k):
    if LAST.get("asked") != (vector, k):
        LAST.update(asked=(vector, k), found=await by_distance(session, vector, k))
    return LAST["found"]


@ANSWERS.wrong("begun already")
async def in_a_transaction_of_its_own(session, vector, k):
    async with session.begin():
        return await by_distance(session, vector, k)


@ANSWERS.wrong("ends it")
async def commits(session, vector, k):
    found = await by_distance(session, vector, k)
    await session.commit()
    return found


@ANSWERS.wrong("not seen")
async def on_another_connection(session, vector, k):
    async with AsyncSession(session.bind) as other:
        return await by_distance(other, vector, k)


@ANSWERS.wrong("order")
async def relaxed(session, vector, k):
    await session.execute(text("SET LOCAL hnsw.iterative_scan = relaxed_order"))
    return (await session.execute(with_similarity(vector).order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("setting stays")
async def for_the_session(session, vector, k):
    await session.execute(select(func.set_config("hnsw.ef_search", str(max(40, k)), False)))
    return (await session.execute(with_similarity(vector).order_by(far(vector)).limit(k))).all()
