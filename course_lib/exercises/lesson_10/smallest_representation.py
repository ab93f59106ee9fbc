"""10.2: the smallest way to keep vectors that still finds what is nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector.asyncpg import register_vector
from sqlalchemy import text

from course_lib.judging.asking import calling_it, expect_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.methods import look_for_methods
from course_lib.judging.quoting import article
from course_lib.postgres.address import libpq_uri

ROWS, QUESTIONS, K, DIMENSIONS = 4_000, 60, 10, 256
RECALL = 0.95
MOST = 1_100  # bytes a row: halves take 590, bits with their links 350, a primary key 30, what is fixed 20
RANK, NOISE = 24, 0.2  # how alike the numbers of a vector are; signs and halves lose as much as with real texts
FIRST_ID, IDS_APART = 5_000_000_000, 7
UNDEFINED_TABLE = "42P01"
TABLE = f"CREATE TABLE passages (id bigint PRIMARY KEY, embedding vector({DIMENSIONS}) NOT NULL)"
MADE = """
    SELECT coalesce(sum(pg_table_size(oid)) FILTER (WHERE relkind <> 'i'), 0)::bigint,
           coalesce(sum(pg_relation_size(oid)) FILTER (WHERE relkind = 'i'), 0)::bigint
    FROM pg_class WHERE relkind IN ('r', 'm', 'i') AND oid >= 16384 AND NOT oid = ANY(:before)
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace)
"""
BEFORE = "SELECT array_agg(oid::bigint) FROM pg_class"
VECTOR_INDEXES = """
    SELECT count(*), coalesce(sum(pg_stat_get_numscans(index.oid)), 0)::bigint FROM pg_class AS index
    JOIN pg_am AS method ON method.oid = index.relam WHERE index.relkind = 'i' AND method.amname IN ('hnsw', 'ivfflat')
"""
REPORT = text("SELECT pg_stat_force_next_flush()")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Collection:
    """Vectors of all lengths with their ids, questions that are none of them, and the ids nearest to each by cosine."""

    ids: list[int]
    vectors: Vectors
    questions: Vectors
    nearest: list[set[int]]


def make_collection() -> Collection:
    """Other vectors each time."""
    draw = np.random.default_rng()
    directions = draw.normal(size=(RANK, DIMENSIONS)) / RANK**0.5

    def some(count: int) -> NDArray[np.float64]:
        noise = NOISE * draw.normal(size=(count, DIMENSIONS))
        made = draw.normal(size=(count, RANK)) @ directions + noise
        unit: NDArray[np.float64] = made / np.linalg.norm(made, axis=1, keepdims=True)
        return unit

    stored, questions = some(ROWS), some(QUESTIONS)
    ids = FIRST_ID + IDS_APART * draw.permutation(ROWS)
    order = np.argsort(-(questions @ stored.T), axis=1)[:, :K]
    lengths = draw.uniform(0.2, 5, size=(ROWS, 1))
    nearest = [{int(id) for id in ids[row]} for row in order]
    return Collection(ids.tolist(), (stored * lengths).astype(np.float32), questions.astype(np.float32), nearest)


class SmallestRepresentation(Exercise):
    """Bits as the index, halves as the column, and the second puts the candidates of the first in order."""

    id = "10.2"
    title = "As small as it can be"
    answer = "Small"
    recipe = "empty"
    points = 3
    minutes = 20
    level = "senior"
    seconds = 30.0
    statement_seconds = 12  # to build an index of vectors on a busy machine
    hints: ClassVar = (
        "Whole numbers in the table and in the index take 2,500 bytes a row. Which of the two has to know every number "
        "exactly? `table_size` and `index_size` say what each way takes; `recall` is measured.",
        "Halves (`halfvec`) lose nothing that matters. Signs (`binary_quantize`) make an index of 350 bytes a row, and "
        "find only half of the nearest by themselves; among 150 candidates nearly all of them are.",
        "A column `halfvec(256)`, an HNSW index on `(binary_quantize(embedding)::bit(256)) bit_hamming_ops`. The "
        "search: an inner query orders by that expression `<~>` the question's signs with LIMIT 160 and "
        "`hnsw.ef_search` at 160 or more; the outer one orders these by `<=>` and takes ten.",
    )
    why = (
        "Recall is decided by two steps: the index has to bring the neighbours among its candidates, and the order of "
        "the candidates has to be right. The first can be coarse if it brings more; for the second halves are exact "
        "enough. So the index keeps one bit of each number, and the column sixteen. The price is a row fetched for "
        "every candidate. Fewer dimensions for the index work in the same way, where the model puts the important ones "
        "in front; stored alone they lose what no order brings back."
    )
    follow_up = (
        "The product asks for 100 results instead of ten, and for those of one user only. What happens to the number "
        "of candidates, and when does the large index pay again?"
    )
    mistakes: ClassVar = {
        "method missing": "`Small` has no method `{method}`. | Two are asked for: `build` and `search`.",
        "not written": "`{method}` of `Small` is not written yet. | Two are asked for: `build` and `search`.",
        "no index": "`build` ran and its caller committed, and there is no HNSW or IVFFlat index besides those of "
        "`passages`. | Has the statement been executed? What is made on `passages` goes with it.",
        "needs passages": "The search failed when `passages` was gone: {said}. "
        "| `build` takes along whatever a search will need.",
        "too large": "What `build` left takes {bytes:,.0f} bytes a row, {table:,.0f} in tables and {index:,.0f} in "
        "indexes, and {most:,} are allowed. | Which of the two can do with fewer bits of each number?",
        "nothing returned": "`search` returned None. | Did you forget `return`?",
        "not a list": "`search` returned {kind}, and a list was asked for. | `.all()` makes a list of a result.",
        "not ids": "The list holds {kind}, and ids were asked for. | `scalars` gives the first column alone.",
        "wrong length": "{count} different id(s) came back, and ten were asked for. "
        "| How many does the index yield, and how many does each LIMIT leave?",
        "index not used": "{count} of {n} searches went through an index on vectors. "
        "| ORDER BY the indexed expression itself, cast for cast, by its operator, with LIMIT.",
        "recall": "Of the ten nearest {share:.0%} came back, in the mean over {n} questions. "
        "| Are the candidates too few, or is their last order too coarse? Is it the cosine?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        collection = make_collection()
        await _load(attempt, collection)
        # the table is small, and reading it whole would be cheap: without this a right query might do so
        await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET enable_seqscan = off')
        before = await attempt.value(BEFORE)
        async with attempt.session() as session:
            small = await attempt.call(session)
            look_for_methods(attempt, small, "build", "search")
            await attempt.call(function=small.build)
            await attempt.call(function=session.commit)  # may fail by what the answer has done to the session
        await attempt.sql("DROP TABLE IF EXISTS passages CASCADE")
        await attempt.sql("VACUUM")
        indexes, scans = (await attempt.sql(VECTOR_INDEXES))[0]
        attempt.expect(indexes > 0, "no index")
        found = [await self._search(attempt, question) for question in collection.questions]
        used = (await attempt.sql(VECTOR_INDEXES))[0][1] - scans
        table, index = (await attempt.sql(MADE, before=before))[0]
        sizes = {"table": table / ROWS, "index": index / ROWS}
        attempt.expect(table + index <= MOST * ROWS, "too large", bytes=(table + index) / ROWS, most=MOST, **sizes)
        attempt.expect(used >= QUESTIONS, "index not used", count=used, n=QUESTIONS)
        shares = [len(ids & nearest) / K for ids, nearest in zip(found, collection.nearest, strict=True)]
        share = math.fsum(shares) / QUESTIONS
        attempt.expect(share >= RECALL, "recall", share=share, n=QUESTIONS)

    async def _search(self, attempt: Attempt, question: Vectors) -> set[int]:
        async with attempt.session() as session:
            small = await attempt.call(session)
            vector = question.tolist()
            with calling_it(attempt, "needs passages", saying=UNDEFINED_TABLE):
                found = expect_list(attempt, await attempt.call(vector, function=small.search))
            await session.rollback()
            await session.execute(REPORT)
            await session.commit()
        odd = [article(one) for one in found if not isinstance(one, int)]
        attempt.expect(not odd, "not ids", kind="".join(odd[:1]))
        attempt.expect(len(set(found)) == len(found) == K, "wrong length", count=len(set(found)))
        return set(found)


async def _load(attempt: Attempt, collection: Collection) -> None:
    """By COPY in binary: as text they are ten megabytes."""
    await attempt.sql(TABLE)
    connection: Any = await asyncpg.connect(libpq_uri(attempt.database.url))
    try:
        await register_vector(connection)
        records = list(zip(collection.ids, collection.vectors, strict=True))
        await connection.copy_records_to_table("passages", records=records, columns=["id", "embedding"])
    finally:
        await connection.close()
    await attempt.sql("ANALYZE passages")
