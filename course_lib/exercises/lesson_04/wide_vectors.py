"""4.4: vectors that are too long for an index, and the index that finds them all the same."""

from __future__ import annotations

import json
from itertools import pairwise
from secrets import choice
from typing import Any, ClassVar

from course_lib.exercises.lesson_04.scenes.server_counts import count_scans, count_searches
from course_lib.judging.asking import calling_it, expect_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article

DIMENSIONS, ROWS, SEARCHES = 3072, 400, 6
ENOUGH = 0.9  # of the truly nearest. An index on halves finds 1.0 of them, so do bits with rerank
FEW = 0.6  # by another distance .15 are found; bits alone find more, in another order
ROUNDING = 0.0005  # by which halves may swap two that are about equally near: they are off by .00002

TABLE = f"""
    CREATE TABLE passages (id bigint PRIMARY KEY, content text NOT NULL, embedding vector({DIMENSIONS}) NOT NULL)
"""
# Sums of one of 8 centres and two of 82 noises, all of different lengths: made by the server in a tenth of a second.
FILL = f"""
    WITH parts AS MATERIALIZED (
        SELECT n, (SELECT array_agg(random() - 0.5) FROM generate_series(1, {DIMENSIONS}) WHERE n >= 0)
                  ::vector({DIMENSIONS}) AS part
        FROM generate_series(0, 89) AS n
    ), lengths AS MATERIALIZED (
        SELECT n, array_fill((0.2 + 0.2 * n)::real, ARRAY[{DIMENSIONS}])::vector({DIMENSIONS}) AS length
        FROM generate_series(0, 6) AS n
    )
    INSERT INTO passages
    SELECT i, 'passage ' || i, (centre.part + one.part * much.length + two.part * less.length) * whole.length
    FROM generate_series(1, {ROWS}) AS i
    JOIN parts AS centre ON centre.n = i % 8
    JOIN parts AS one ON one.n = 8 + i * 37 % 82
    JOIN parts AS two ON two.n = 8 + (i * 31 + i / 82 * 13) % 82
    JOIN lengths AS much ON much.n = i % 3 JOIN lengths AS less ON less.n = i / 3 % 3
    JOIN lengths AS whole ON whole.n = i % 7
"""
BETWEEN_TWO = """
    SELECT (l2_normalize(one.embedding) + l2_normalize(two.embedding))::text
    FROM passages AS one JOIN passages AS two ON two.id = one.id + 40 ORDER BY random() LIMIT :count
"""
EXACT = "SELECT id, embedding <=> CAST(:vector AS vector) FROM passages ORDER BY 2"
STATE = """
    SELECT (SELECT format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid = 'passages'::regclass AND attname = 'embedding'),
           (SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(embedding::text, ',' ORDER BY id)), '')
            FROM passages WHERE id % 50 = 0)
"""


class WideVectors(Exercise):
    """An index on an expression, and a search that asks for the same expression."""

    id = "4.4"
    title = "Three thousand dimensions"
    answer = "Passages"
    points = 2
    minutes = 15
    level = "mid"
    hints: ClassVar = (
        "HNSW takes a `vector` of 2,000 dimensions at most. There is a type with half the bytes for each number, and "
        "an index may be made on an expression instead of a column.",
        "`CREATE INDEX ON passages USING hnsw ((embedding::halfvec(3072)) halfvec_cosine_ops)`. The planner takes such "
        "an index when the query orders by that very expression.",
        "In the search, ORDER BY the column cast to `halfvec(3072)`, `<=>`, and the parameter cast alike, with LIMIT. "
        "A vector in a parameter of `text()` can be given as `str(vector)`.",
    )
    why = (
        "A page of PostgreSQL is 8 KB, and an index entry has to fit on one: 2,000 numbers of four bytes, or 4,000 of "
        "two. Half precision costs next to nothing in recall, and the column keeps all its digits. One bit for each "
        "dimension (`binary_quantize`) makes a far smaller index, which finds candidates only: order some of them by "
        "the real distance afterwards."
    )
    follow_up = (
        "The model can give you 1,024 dimensions instead (`dimensions=`). What would you measure before you choose "
        "between fewer dimensions, half precision, and one bit each?"
    )
    mistakes: ClassVar = {
        "method missing": "`Passages` has no method `{method}`. | Two are asked for: `make_index` and `search`.",
        "refused": "The server refused the index: 2,000 dimensions of a `vector` are the limit. "
        "| That is for four bytes a number. What else can be indexed than the column itself?",
        "no index": "`make_index` ran and the caller committed, but no index on vectors is there. "
        "| An index of the methods `hnsw` or `ivfflat`; and has the statement been executed?",
        "column changed": "`embedding` was `vector(3072)`, and after `make_index` it is `{type}`. "
        "| Others read that column. The index can be on an expression.",
        "rows changed": "After `make_index` the table does not hold what it held. | An index is all it needs.",
        "nothing returned": "`search` returned None. | Did you forget `return`?",
        "not a list": "`search` returned {kind}, and a list was asked for. | `.all()` makes a list of a result.",
        "not ids": "The list holds {kind}, and ids were asked for. | `scalars` gives the first column alone.",
        "wrong length": "{count} id(s) came back for k = {k}. "
        "| `LIMIT :k`, and nothing twice. An index that looks at too little finds too few: `ivfflat.probes`.",
        "index not used": "{count} of {n} searches went through the index `{index}`: the others read the whole table. "
        "| ORDER BY the indexed expression, cast for cast, by the operator of the index's operator class, with LIMIT.",
        "recall": "{right} of {n} ids that came back are among the {k} nearest by cosine. "
        "| Is it the cosine? What does the index look at, and how far does it look?",
        "order": "The passages that came are not in the order of their cosine distance, nearest first. "
        "| An outer query needs an ORDER BY of its own. An index on bits finds candidates: fetch more than k, order "
        "those by `<=>`, then cut.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(TABLE)
        await attempt.sql(FILL)
        # the table is small, and reading it whole would be cheap: without this a right query might do so
        await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET enable_seqscan = off')
        await attempt.sql("ANALYZE passages")
        before = (await attempt.sql(STATE))[0]
        await self._make_index(attempt)
        after = (await attempt.sql(STATE))[0]
        attempt.expect(after[0] == before[0], "column changed", type=after[0])
        attempt.expect(after == before, "rows changed")
        await self._search(attempt)

    async def _make_index(self, attempt: Attempt) -> None:
        async with attempt.session() as session:
            passages = await self._passages(attempt, session)
            with calling_it(attempt, "refused", saying="cannot have more than"):
                await attempt.call(function=passages.make_index)
            await session.commit()
        counts = await count_scans(attempt, "passages")
        attempt.expect(bool(counts.indexes), "no index")

    async def _passages(self, attempt: Attempt, session: Any) -> Any:
        passages = await attempt.call(session)
        for method in ("make_index", "search"):
            attempt.expect(callable(getattr(passages, method, None)), "method missing", method=method)
        return passages

    async def _search(self, attempt: Attempt) -> None:
        k, right, ordered = choice((8, 9, 11)), 0, True
        before = await count_scans(attempt, "passages")
        vectors = await attempt.sql(BETWEEN_TWO, count=SEARCHES)
        for (vector,) in vectors:
            async with attempt.session() as session:
                passages = await self._passages(attempt, session)
                found = await attempt.call(json.loads(vector), k, function=passages.search)
            ids = self._read(attempt, found, k)
            distances: dict[int, float] = dict(await attempt.sql(EXACT, vector=vector))  # nearest first
            right += len(set(ids) & set(list(distances)[:k]))
            far = [distances.get(id, 2.0) for id in ids]
            ordered &= all(a <= b + ROUNDING for a, b in pairwise(far))
        used, counts = await count_searches(attempt, before, SEARCHES, "passages")
        index = ", ".join(counts.indexes)
        attempt.expect(used == SEARCHES, "index not used", count=used, n=SEARCHES, index=index)
        attempt.expect(ordered or right < FEW * SEARCHES * k, "order")
        attempt.expect(right >= ENOUGH * SEARCHES * k, "recall", right=right, n=SEARCHES * k, k=k)

    def _read(self, attempt: Attempt, found: Any, k: int) -> list[int]:
        ids = list(expect_list(attempt, found))
        odd = [id for id in ids if not isinstance(id, int)]
        attempt.expect(not odd, "not ids", kind=article(odd[0]) if odd else "")
        attempt.expect(len(set(ids)) == len(ids) == k, "wrong length", count=len(set(ids)), k=k)
        return ids
