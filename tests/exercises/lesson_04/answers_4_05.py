"""Answers to 4.5, as little as is enough."""

from __future__ import annotations

from statistics import mean

import numpy as np
from sqlalchemy import func, literal_column, select, text

from course_lib.instruments import recall
from course_lib.models import DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("4.5")
FRESH = {"plan_cache_mode": "force_custom_plan"}


async def under(session, **settings):
    names = {name.replace("__", "."): str(value) for name, value in settings.items()}
    await session.execute(select(*[func.set_config(name, value, True) for name, value in names.items()]))


async def ids(session, queries, k):
    distances = map(DocumentChunk.embedding.cosine_distance, queries)
    near = [select(DocumentChunk.id).order_by(distance).limit(k) for distance in distances]
    return [set((await session.scalars(statement)).all()) for statement in near]


async def literally(session, queries, k):
    """The limit written into the statement, so that a plan for any parameters costs no more than one for these."""
    return await ids(session, queries, literal_column(str(k)))


def share(found, exact):
    return sum(len(one & other) for one, other in zip(found, exact, strict=True)) / sum(map(len, exact))


async def least(session, queries, k, target, exact, values=range(1, 401)):
    """The first of the values that reaches the target, by halving."""
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        await under(session, hnsw__ef_search=values[middle])
        if share(await ids(session, queries, k), exact) >= target:
            high = middle
        else:
            low = middle + 1
    return values[low]


async def exactly(session, queries, k):
    await under(session, **FRESH, enable_indexscan="off")
    exact = await ids(session, queries, k)
    await under(session, enable_indexscan="on")
    return exact


@ANSWERS.right
async def halving(session, queries, k, target):
    return await least(session, queries, k, target, await exactly(session, queries, k))


@ANSWERS.right
async def in_growing_steps(session, queries, k, target):
    values = [*range(1, 20), *range(20, 80, 3), *range(80, 400, 10), 400]
    return await least(session, queries, k, target, await exactly(session, queries, k), values)


@ANSWERS.right
async def in_two_transactions(session, queries, k, target):
    async with session.begin():
        exact = await exactly(session, queries, k)
    async with session.begin():
        await under(session, **FRESH)
        return await least(session, queries, k, target, exact)


@ANSWERS.right
async def upwards(session, queries, k, target):
    exact = await exactly(session, queries, k)
    value = 1
    while value < 400:
        await session.execute(text(f"SET LOCAL hnsw.ef_search = {value}"))
        shares = [len(one & other) / k for one, other in zip(await ids(session, queries, k), exact, strict=True)]
        if sum(shares) / len(shares) >= target:
            return value
        value = value * 21 // 20 + 1
    return 400


@ANSWERS.right
async def exact_by_numpy(session, queries, k, target):
    rows = (await session.execute(select(DocumentChunk.id, DocumentChunk.embedding))).all()
    matrix = np.array([embedding for _, embedding in rows], dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    near = np.argsort(-(np.array(queries, dtype=np.float32) @ matrix.T), axis=1)[:, :k]
    exact = [{rows[place][0] for place in places} for places in near]
    return await least(session, queries, k, target, exact)


@ANSWERS.right
async def exact_by_another_expression(session, queries, k, target):
    """One that no index knows, so nothing needs to be switched off."""
    exact = []
    for vector in queries:
        similarity = 1 - DocumentChunk.embedding.cosine_distance(vector)
        found = await session.scalars(select(DocumentChunk.id).order_by(similarity.desc()).limit(k))
        exact.append(set(found.all()))
    return await least(session, queries, k, target, exact)


@ANSWERS.right
async def in_savepoints(session, queries, k, target):
    async with session.begin_nested() as scope:
        exact = await exactly(session, queries, k)
        value = await least(session, queries, k, target, exact)
        await scope.rollback()
    return value


@ANSWERS.right
async def by_the_instrument(session, queries, k, target):
    low, high = 1, 400
    while low < high:
        middle = (low + high) // 2
        measured = await recall(session.bind, DocumentChunk.embedding, queries, k, ef_search=middle)
        low, high = (low, middle) if measured.recall >= target else (middle + 1, high)
    return low


@ANSWERS.right
async def exact_in_one_statement(session, queries, k, target):
    """The vectors are read from their text at every row, which takes seconds."""
    sql = """
        SELECT asked.number, near.id FROM unnest(CAST(:vectors AS text[])) WITH ORDINALITY AS asked (vector, number)
        CROSS JOIN LATERAL (
            SELECT id FROM document_chunks ORDER BY (embedding <=> asked.vector::vector) + 0 LIMIT :k
        ) AS near
    """
    exact = [set() for _ in queries]
    for number, id in await session.execute(text(sql), {"vectors": [str(vector) for vector in queries], "k": k}):
        exact[number - 1].add(id)
    return await least(session, queries, k, target, exact)


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, queries, k, target):
    await exactly(session, queries, k)


@ANSWERS.wrong("not a number")
async def a_recall(session, queries, k, target):
    return share(await ids(session, queries, k), await exactly(session, queries, k))


@ANSWERS.wrong("not a number")
async def out_of_range(session, queries, k, target):
    return 401


@ANSWERS.wrong("not a number")
async def a_number_of_numpy(session, queries, k, target):
    return np.int64(await halving(session, queries, k, target))


@ANSWERS.wrong("no parameters")
async def set_with_a_parameter(session, queries, k, target):
    await session.execute(text("SET LOCAL hnsw.ef_search = :value"), {"value": 100})


@ANSWERS.wrong("setting stays")
async def for_the_session(session, queries, k, target):
    value = await halving(session, queries, k, target)
    await session.execute(text(f"SET hnsw.ef_search = {value}"))
    return value


@ANSWERS.wrong("not exact")
async def never_switched_off(session, queries, k, target):
    return await least(session, queries, k, target, await ids(session, queries, k))


@ANSWERS.wrong("not exact")
async def the_same_twice(session, queries, k, target):
    for value in range(5, 401, 5):
        await under(session, hnsw__ef_search=value)
        if share(await ids(session, queries, k), await ids(session, queries, k)) >= target:
            return value
    return 400


@ANSWERS.wrong("index not used")
async def never_switched_on(session, queries, k, target):
    await under(session, **FRESH, enable_indexscan="off")
    return await least(session, queries, k, target, await ids(session, queries, k))


@ANSWERS.wrong("index not used")
async def by_an_exact_plan_made_before(session, queries, k, target):
    await under(session, enable_indexscan="off")
    exact = await literally(session, queries, k)
    await under(session, enable_indexscan="on")
    for value in (40, 80, 160, 320):
        await under(session, hnsw__ef_search=value)
        if share(await literally(session, queries, k), exact) >= target:
            return value
    return 400


@ANSWERS.wrong("too small")
async def the_default(session, queries, k, target):
    exact = await exactly(session, queries, k)
    await ids(session, queries, k)
    return 40 if exact else 0


@ANSWERS.wrong("too small")
async def of_the_first_queries(session, queries, k, target):
    exact = await exactly(session, queries, k)
    return max(1, await least(session, queries, k, target, exact) // 2)


@ANSWERS.wrong("not measured")
async def what_it_was_last_time(session, queries, k, target):
    return 100


@ANSWERS.wrong("too small")
async def of_those_that_were_found(session, queries, k, target):
    exact = await exactly(session, queries, k)
    for value in range(1, 401, 2):
        await under(session, hnsw__ef_search=value)
        found = await ids(session, queries, k)
        if sum(len(one & other) / len(one) for one, other in zip(found, exact, strict=True)) >= target * len(exact):
            return value
    return 400


@ANSWERS.wrong("too small")
async def going_on_until_there_are_k(session, queries, k, target):
    exact = await exactly(session, queries, k)
    await under(session, hnsw__iterative_scan="relaxed_order")
    return await least(session, queries, k, target, exact)


@ANSWERS.wrong("too small")
async def recall_in_two_digits(session, queries, k, target):
    return await halving(session, queries, k, target - 0.005)


async def by_each_query(session, queries, k, reached):
    exact = await exactly(session, queries, k)
    for value in [*range(1, 20), *range(20, 400, 4)]:  # so fine that no step makes a value too large
        await under(session, hnsw__ef_search=value)
        found = await ids(session, queries, k)
        if reached([len(one & other) / k for one, other in zip(found, exact, strict=True)]):
            return value
    return 400


@ANSWERS.wrong("too small")
async def leaving_out_the_slowest(session, queries, k, target):
    return await by_each_query(session, queries, k, lambda shares: mean(sorted(shares)[1:] or shares) >= target)


@ANSWERS.wrong("too large")
async def gives_up_at_a_hundred(session, queries, k, target):
    value = await halving(session, queries, k, target)
    return value if value <= 100 else 400


@ANSWERS.wrong("raised")
async def refuses_what_cannot_be_reached(session, queries, k, target):
    value = await halving(session, queries, k, target)
    if value == 400:
        raise ValueError("no value reaches the target")
    return value


@ANSWERS.wrong("too large")
async def more_than_the_target(session, queries, k, target):
    return await halving(session, queries, k, target + 1e-9)


@ANSWERS.wrong("too large")
async def never_below_k(session, queries, k, target):
    return await least(session, queries, k, target, await exactly(session, queries, k), range(k, 401))


@ANSWERS.wrong("too large")
async def powers_of_two(session, queries, k, target):
    exact = await exactly(session, queries, k)
    return await least(session, queries, k, target, exact, [1, 2, 4, 8, 16, 32, 64, 128, 256, 400])


KEPT = {}


@ANSWERS.wrong("not measured")
async def kept_by_k_and_target(session, queries, k, target):
    if (k, target) not in KEPT:
        KEPT[k, target] = await halving(session, queries, k, target)
    return KEPT[k, target]


@ANSWERS.wrong("not exact")
async def against_the_greatest_value(session, queries, k, target):
    await under(session, hnsw__ef_search=400)
    return await least(session, queries, k, target, await ids(session, queries, k))


@ANSWERS.wrong("not measured")
async def the_greatest(session, queries, k, target):
    return 400


@ANSWERS.wrong("too large")
async def doubled(session, queries, k, target):
    exact = await exactly(session, queries, k)
    return min(400, 2 * await least(session, queries, k, target, exact))
