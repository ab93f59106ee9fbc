"""4.2: the same search, written so that the index can answer it."""

from __future__ import annotations

from itertools import repeat
from secrets import randbelow
from typing import ClassVar

from course_lib.exercises.lesson_04.scenes import callers, searching
from course_lib.exercises.lesson_04.scenes.searching import Query, Searches, reachable, some_queries
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.rising import expect_errors_to_rise

MOST = 100  # the greatest k of the statement


class IndexedSearch(Exercise):
    """ORDER BY distance, upwards, with LIMIT."""

    id = "4.2"
    title = "The index nobody used"
    answer = "search"
    recipe = "vectors"
    minutes = 8
    level = "mid"
    hints: ClassVar = (
        "Look at the plan of the statement above: `print(await explain(session, statement))`. Then try other orders "
        "until it shows an Index Scan.",
        "An index on vectors knows one thing: rows in the order of `column <=> vector`, nearest first. It does not "
        "know that 1 minus something, downwards, is the same order.",
        "Order by `DocumentChunk.embedding.cosine_distance(vector)` itself, with `limit(k)`, and select 1 minus it.",
    )
    why = (
        "The planner does no algebra: it takes the index for `ORDER BY embedding <=> vector LIMIT k` and for nothing "
        "else, so the order is by the bare distance and the similarity is computed for the k rows that come. The "
        "operator has to be the one of the index's operator class. Nothing fails otherwise: the answer is right, and "
        "every row is read for it."
    )
    follow_up = "How would you notice in production that no query uses an index that costs a gigabyte of memory?"
    mistakes: ClassVar = {
        "nothing returned": "`search` returned None. | Did you forget `return`?",
        "not a list": "`search` returned {kind}, and a list was asked for. | `.all()` makes a list of a result.",
        "not pairs": "The list holds {kind}, and pairs of an id and a number were asked for. "
        "| `(id, similarity)`: select two columns, and use `execute`.",
        "twice": "{count} chunk(s) came twice. | Is there a join that multiplies rows?",
        "distance": "The numbers beside the ids are distances: the first is {first:.3f}. | Similarity is 1 minus it.",
        "wrong numbers": "{count} of {n} numbers are not the cosine similarity of the chunk beside them. "
        "| 1 minus the cosine distance, whatever you order by.",
        "wrong length": "{count} chunk(s) came back for k = {k}. "
        "| Which LIMIT was sent? One scan of the index yields `hnsw.ef_search` rows and no more.",
        "unknown": searching.UNKNOWN,
        "order": searching.UNORDERED,
        "far": "Of the {n} nearest chunks {right} came, over {searches} searches. "
        "| The greatest similarity is the smallest distance.",
        "begun already": callers.BEGUN_ALREADY,
        "ends it": callers.ENDS_IT,
        "not seen": searching.NOT_SEEN,
        "another operator": searching.ANOTHER_OPERATOR,
        "downwards": searching.DOWNWARDS,
        "no limit": searching.NO_LIMIT,
        "index not used": searching.INDEX_NOT_USED,
        "reads all": searching.READS_ALL,
        "setting stays": searching.SETTING_STAYS,
    }

    async def judge(self, attempt: Attempt) -> None:
        first, second, third = await reachable(attempt, (v for _ in repeat(None) for v in some_queries(1)), 3)
        few = 6 + randbelow(5)
        searches = await Searches.begin(attempt)
        for query, k, keep in ((first, few, True), (second, MOST, False), (first, MOST, True), (third, 1, True)):
            await self._search(attempt, searches, query, k, keep)
        numbers = {"right": searches.right, "n": searches.wanted, "searches": searches.count}
        attempt.expect(searches.right >= searching.ENOUGH * searches.wanted, "far", **numbers)
        await searches.ask_with_more(first.vector, few)  # what was found before is not all there is now
        await self._search(attempt, searches, first, few, keep=False, gone=1)
        await searches.look_at_the_index()
        await expect_errors_to_rise(attempt, first.vector, few)

    async def _search(
        self, attempt: Attempt, searches: Searches, query: Query, k: int, keep: bool, gone: int = 0
    ) -> None:
        """``gone``: rows near it that were deleted, which the index still counts for who looks no further than k."""
        found = await searches.ask(query.vector, k, keep=keep)
        attempt.expect(k - gone <= len(found) <= k, "wrong length", count=len(found), k=k)
        searches.add_right(found, query.nearest[:k])
        searches.compare_order(found)
