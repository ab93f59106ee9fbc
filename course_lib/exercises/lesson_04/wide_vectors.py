"""4.4: vectors that are too long for an index, and the index that finds them all the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from secrets import randbelow
from statistics import fmean
from typing import Any, ClassVar

from sqlalchemy import text

from course_lib.exercises.lesson_04.scenes import callers, searching
from course_lib.exercises.lesson_04.scenes.callers import call_within
from course_lib.exercises.lesson_04.scenes.server_counts import (
    CHANGED,
    REPORT,
    count_scans,
    count_searches,
    reported,
)
from course_lib.judging.asking import calling_it, expect_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.methods import look_for_methods
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_methods_to_raise

DIMENSIONS, ROWS = 3072, 200
MOST = 100  # the greatest k of the statement
ENOUGH = 0.9  # of the truly nearest, in the mean. An index on halves finds 1.0 of them, so do bits with rerank
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
ADD = "INSERT INTO passages VALUES (:id, 'It''s new', CAST(:vector AS vector))"
NEW = 90_001  # its id
EXACT = "SELECT id, embedding <=> CAST(:vector AS vector) FROM passages ORDER BY 2"
COLUMNS = """
    SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'passages'::regclass AND attnum > 0 AND NOT attisdropped
"""
CONTENTS = """
    SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(id || content || embedding::text, ',' ORDER BY id)
        FILTER (WHERE id % 50 = 0)), '') FROM passages
"""


@dataclass(frozen=True)
class Question:
    """A vector, as text; the ids and distances of all passages, nearest first; how many to ask for."""

    vector: str
    distances: dict[int, float]
    k: int


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
        "not written": "`{method}` of `Passages` is not written yet. | Two are asked for: `make_index` and `search`.",
        "refused": "The server refused the index: 2,000 dimensions of a `vector` are the limit. "
        "| That is for four bytes a number. What else can be indexed than the column itself?",
        "begun already": callers.BEGUN_ALREADY,
        "ends it": callers.ENDS_IT,
        "made elsewhere": "The index was there for everybody before the caller had committed. "
        "| What is made on another connection stays, whatever becomes of the transaction that asked for it.",
        "no index": "`make_index` ran and the caller committed, but `passages` has no index on vectors. "
        "| An index of the methods `hnsw` or `ivfflat`; and has the statement been executed?",
        "columns changed": "The columns were `{before}`, and after `make_index` they are `{after}`. "
        "| Others read that table. The index can be on an expression.",
        "rows changed": "After `make_index` the table does not hold what it held. | An index is all it needs.",
        "nothing returned": "`search` returned None. | Did you forget `return`?",
        "not a list": "`search` returned {kind}, and a list was asked for. | `.all()` makes a list of a result.",
        "not ids": "The list holds {kind}, and ids were asked for. | `scalars` gives the first column alone.",
        "wrong length": "{count} different id(s) came back for k = {k}. "
        "| Which LIMIT was sent? One scan yields `hnsw.ef_search` rows and no more, or what `ivfflat.probes` lists "
        "hold.",
        "not found": "A passage that was added after `make_index` was not found by its own vector. "
        "| An index of the table follows it; a copy does not.",
        "index not used": "{count} of {n} searches went through the index `{index}`. "
        "| ORDER BY the indexed expression, cast for cast, by the operator of the index's operator class, with LIMIT.",
        "reads all": "All searches went through the index, and {count} times the whole table was read as well. "
        "| Which statement does that?",
        "recall": "Of the nearest by cosine {share:.0%} came back, in the mean over {n} search(es) of about the same "
        "k. | Is it the cosine? What does the index look at, and how far does it look?",
        "order": "The passages that came are not in the order of their cosine distance, nearest first. "
        "| An outer query needs an ORDER BY of its own. An index on bits finds candidates: fetch more than k, order "
        "those by `<=>`, then cut.",
        "setting stays": searching.SETTING_STAYS,
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(TABLE)
        await attempt.sql(FILL)
        # the table is small, and reading it whole would be cheap: without this a right query might do so
        await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET enable_seqscan = off')
        await attempt.sql("ANALYZE passages")
        columns, contents = await attempt.value(COLUMNS), await attempt.value(CONTENTS)
        await self._make_index(attempt)
        after = await attempt.value(COLUMNS)
        attempt.expect(after == columns, "columns changed", before=columns, after=after)
        attempt.expect(await attempt.value(CONTENTS) == contents, "rows changed")
        attempt.expect(bool((await reported(attempt, "passages")).indexes), "no index")
        await self._search(attempt)
        async with attempt.session() as session:
            passages, (vector,) = await self._passages(attempt, session), (await attempt.sql(BETWEEN_TWO, count=1))[0]
            await expect_methods_to_raise(attempt, passages, make_index=(), search=(json.loads(vector), MOST))

    async def _make_index(self, attempt: Attempt) -> None:
        async with attempt.session() as session:
            passages = await self._passages(attempt, session)
            with calling_it(attempt, "refused", saying="cannot have more than"):
                await call_within(attempt, session, lambda: attempt.call(function=passages.make_index))
            early = bool((await reported(attempt, "passages")).indexes)
            attempt.expect(not early, "made elsewhere")
            await session.commit()

    async def _passages(self, attempt: Attempt, session: Any) -> Any:
        passages = await attempt.call(session)
        look_for_methods(attempt, passages, "make_index", "search")
        return passages

    async def _search(self, attempt: Attempt) -> None:
        questions = await self._questions(attempt)
        before = await count_scans(attempt, "passages")
        shares: dict[bool, list[float]] = {False: [], True: []}  # of a few, and of as many as can be asked for
        ordered, left = True, set(before.settings)
        for place, question in enumerate(questions):
            async with attempt.session() as session:
                found = await self._ask(attempt, session, question)
                await (session.rollback() if place == 0 else session.commit())
                if question.k == MOST:  # the next search may set back what this one needed
                    left |= set(await session.scalars(CHANGED))
            near = list(question.distances)[: question.k]
            attempt.expect(question.k > 1 or near == found, "not found")
            if question.k > 1:
                shares[question.k == MOST].append(len(set(found) & set(near)) / question.k)
            far = [question.distances.get(id, 2.0) for id in found]
            ordered &= all(a <= b + ROUNDING for a, b in pairwise(far))
        used, counts = await count_searches(attempt, before, len(questions), "passages")
        index, whole = ", ".join(counts.indexes), counts.whole - before.whole
        fewest = min(shares.values(), key=fmean)
        attempt.expect(used == len(questions), "index not used", count=used, n=len(questions), index=index)
        attempt.expect(not whole, "reads all", count=whole)
        attempt.expect(ordered or fmean(fewest) < FEW, "order")
        attempt.expect(fmean(fewest) >= ENOUGH, "recall", share=fmean(fewest), n=len(fewest))
        left |= set(counts.settings)
        attempt.expect(not left, "setting stays", settings=" and ".join(sorted(left)))

    async def _questions(self, attempt: Attempt) -> list[Question]:
        """Some small k, the greatest, and one that asks for a passage that was not there when the index was made."""
        vectors = await attempt.sql(BETWEEN_TWO, count=6)
        await attempt.sql(ADD, id=NEW, vector=vectors[-1][0])
        ks = [8 + randbelow(4), MOST, 8 + randbelow(4), 9, 11, 1]
        questions = []
        async with attempt.judge_session() as session:
            for (vector,), k in zip(vectors, ks, strict=True):
                rows = await session.execute(text(EXACT), {"vector": vector})
                questions.append(Question(vector, {id: distance for id, distance in rows}, k))
            await session.execute(REPORT)  # what the judge has read is not to be counted later
        return questions

    async def _ask(self, attempt: Attempt, session: Any, question: Question) -> list[int]:
        passages = await self._passages(attempt, session)
        vector = json.loads(question.vector)
        found = await call_within(attempt, session, lambda: attempt.call(vector, question.k, function=passages.search))
        ids = list(expect_list(attempt, found))
        odd = [id for id in ids if not isinstance(id, int)]
        attempt.expect(not odd, "not ids", kind=article(odd[0]) if odd else "")
        attempt.expect(len(set(ids)) == len(ids) == question.k, "wrong length", count=len(set(ids)), k=question.k)
        return ids
