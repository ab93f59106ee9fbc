"""Answers to 4.6, all ten for a small tenant."""

from __future__ import annotations

from sqlalchemy import func, select, text

from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("4.6")


def nearest(user_id, vector, k):
    distance = DocumentChunk.embedding.cosine_distance(vector).label("distance")
    own = select(DocumentChunk.id, distance).join(Document).where(Document.user_id == user_id)
    return own.order_by(distance).limit(k)


async def settings(session, local=True, **values):
    for name, value in values.items():
        await session.execute(select(func.set_config(f"hnsw.{name}", str(value), local)))


@ANSWERS.right
async def strictly_and_thoroughly(session, user_id, vector, k=10):
    await settings(session, iterative_scan="strict_order", ef_search=200)
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.right
async def relaxed_and_sorted_in_python(session, user_id, vector, k=10):
    await session.execute(text("SET LOCAL hnsw.iterative_scan = relaxed_order"))
    await session.execute(text("SET LOCAL hnsw.ef_search = 300"))
    found = (await session.execute(nearest(user_id, vector, k))).all()
    return sorted(((id, distance) for id, distance in found), key=lambda pair: pair[1])


@ANSWERS.right
async def in_sql(session, user_id, vector, k=10):
    await session.execute(
        text(
            "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '200', true)"
        )
    )
    found = await session.execute(
        text("""
            WITH near AS MATERIALIZED (
                SELECT c.id, c.embedding <=> :vector AS distance FROM document_chunks AS c
                WHERE c.document_id IN (SELECT id FROM documents WHERE user_id = :user_id)
                ORDER BY distance LIMIT :k
            )
            SELECT id, distance FROM near ORDER BY distance + 0
        """),
        {"vector": str(vector), "user_id": user_id, "k": k},
    )
    return [tuple(row) for row in found]


@ANSWERS.right
async def exact_for_who_has_few(session, user_id, vector, k=10):
    own = select(DocumentChunk.id).join(Document).where(Document.user_id == user_id)
    some = (await session.scalars(own.limit(1_001))).all()
    if len(some) <= 1_000:
        distance = DocumentChunk.embedding.cosine_distance(vector)
        found = select(DocumentChunk.id, distance).where(DocumentChunk.id.in_(some)).order_by(distance + 0).limit(k)
        return (await session.execute(found)).all()
    await settings(session, ef_search=250)
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.right
async def many_candidates_filtered_afterwards(session, user_id, vector, k=10):
    """400 candidates of everybody's; who has no ten among them is small enough to be read whole."""
    await settings(session, ef_search=400)
    distance = DocumentChunk.embedding.cosine_distance(vector).label("distance")
    near = select(DocumentChunk.id, DocumentChunk.document_id, distance).order_by(distance).limit(400).cte()
    own = select(near.c.id, near.c.distance).join(Document, Document.id == near.c.document_id)
    found = (await session.execute(own.where(Document.user_id == user_id).order_by(near.c.distance).limit(k))).all()
    if len(found) == k:
        return found
    await session.execute(text("SET LOCAL enable_indexscan = off"))
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("reads too much")
async def as_many_candidates_as_there_can_be(session, user_id, vector, k=10):
    await settings(session, ef_search=1000)
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("nothing returned")
async def forgets_return(session, user_id, vector, k=10):
    await settings(session, iterative_scan="strict_order", ef_search=200)
    (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("not a list")
async def a_result(session, user_id, vector, k=10):
    return await session.execute(nearest(user_id, vector, k))


@ANSWERS.wrong("not pairs")
async def ids_alone(session, user_id, vector, k=10):
    return (await session.scalars(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("no parameters")
async def set_with_a_parameter(session, user_id, vector, k=10):
    await session.execute(text("SET LOCAL hnsw.ef_search = :ef"), {"ef": 200})
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("short")
async def the_index_as_it_is(session, user_id, vector, k=10):
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("short")
async def only_more_candidates(session, user_id, vector, k=10):
    await settings(session, ef_search=200)
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("recall")
async def only_iterative(session, user_id, vector, k=10):
    await settings(session, iterative_scan="strict_order")
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("order")
async def relaxed_and_left_so(session, user_id, vector, k=10):
    await settings(session, iterative_scan="relaxed_order", ef_search=60)
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("reads too much")
async def everything_of_the_user(session, user_id, vector, k=10):
    await session.execute(text("SET LOCAL enable_indexscan = off"))
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("reads too much")
async def sorted_in_python(session, user_id, vector, k=10):
    distance = DocumentChunk.embedding.cosine_distance(vector)
    rows = await session.execute(select(DocumentChunk.id, distance).join(Document).where(Document.user_id == user_id))
    return sorted((tuple(row) for row in rows), key=lambda row: row[1])[:k]


@ANSWERS.wrong("setting stays")
async def for_the_whole_session(session, user_id, vector, k=10):
    await settings(session, local=False, iterative_scan="strict_order", ef_search=200)
    return (await session.execute(nearest(user_id, vector, k))).all()


@ANSWERS.wrong("begun already")
async def in_a_transaction_of_its_own(session, user_id, vector, k=10):
    async with session.begin():
        return await strictly_and_thoroughly(session, user_id, vector, k)


@ANSWERS.wrong("ends it")
async def rolls_back(session, user_id, vector, k=10):
    found = await strictly_and_thoroughly(session, user_id, vector, k)
    await session.rollback()
    return found


SMALL = {}


@ANSWERS.wrong("reads too much")
async def who_was_small_once(session, user_id, vector, k=10):
    own = select(DocumentChunk.id).join(Document).where(Document.user_id == user_id).limit(1_001)
    if user_id not in SMALL:
        SMALL[user_id] = len((await session.scalars(own)).all()) <= 1_000
    if SMALL[user_id]:
        await session.execute(text("SET LOCAL enable_indexscan = off"))
    return await strictly_and_thoroughly(session, user_id, vector, k)


@ANSWERS.wrong("recall")
async def of_those_that_are_ready(session, user_id, vector, k=10):
    await settings(session, iterative_scan="strict_order", ef_search=200)
    statement = nearest(user_id, vector, None).where(Document.status == "ready").limit(k)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("somebody else's")
async def everybodys(session, user_id, vector, k=10):
    distance = DocumentChunk.embedding.cosine_distance(vector)
    return (await session.execute(select(DocumentChunk.id, distance).order_by(distance).limit(k))).all()


@ANSWERS.wrong("twice")
async def joined_with_everybody(session, user_id, vector, k=10):
    rows = nearest(user_id, vector, k).subquery()
    two = select(rows.c.id, rows.c.distance).join(Document, Document.user_id == user_id).order_by(rows.c.distance)
    return (await session.execute(two.limit(k))).all()


@ANSWERS.wrong("too many")
async def without_a_limit(session, user_id, vector, k=10):
    return (await session.execute(nearest(user_id, vector, 3 * k))).all()


@ANSWERS.wrong("wrong numbers")
async def similarities(session, user_id, vector, k=10):
    found = (await session.execute(nearest(user_id, vector, k))).all()
    return [(id, 1 - distance) for id, distance in found]


@ANSWERS.wrong("indexes changed")
async def an_index_of_its_own(session, user_id, vector, k=10):
    sql = "CREATE INDEX IF NOT EXISTS more ON document_chunks (embedding_model)"
    await session.execute(text(sql))
    await settings(session, iterative_scan="strict_order", ef_search=200)
    return (await session.execute(nearest(user_id, vector, k))).all()
