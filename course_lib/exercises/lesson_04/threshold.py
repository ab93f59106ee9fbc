"""4.3: at most k, none below a threshold, and still by the index."""

from __future__ import annotations

from itertools import repeat
from typing import Any, ClassVar
from uuid import UUID

from course_lib.exercises.lesson_04.scenes import callers, searching
from course_lib.exercises.lesson_04.scenes.hits import Hits
from course_lib.exercises.lesson_04.scenes.searching import Query, Searches, farther_off, reachable, some_queries
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.rising import expect_errors_to_rise

MOST = 100  # the greatest k of the statement
ENOUGH = 0.8  # of so many, where a search needs more than the forty that the index yields by itself
LITTLE = 1e-5  # a similarity that near to the threshold would be a matter of rounding


class Threshold(Exercise):
    """A condition beside the order, not instead of it."""

    id = "4.3"
    title = "Relevant, or nothing"
    answer = "relevant"
    recipe = "vectors"
    points = 2
    minutes = 10
    level = "mid"
    hints: ClassVar = (
        "A threshold alone names no order, and an index on vectors gives nothing but an order. What did the search of "
        "4.2 have that a bare `WHERE similarity >= …` has not?",
        "First the k nearest, then those of them that are good enough: in a subquery, in a CTE, or in Python. "
        "Similarity is at least s where the distance is at most 1 - s.",
        "`nearest = select(id, distance).order_by(distance).limit(k).subquery()`, and around it a select with the "
        "condition, and with an order of its own.",
    )
    why = (
        "The index delivers the nearest first, and LIMIT tells it when to stop. Whatever passes the threshold is a "
        "prefix of that list, so cutting it afterwards loses nothing. A WHERE on the distance beside ORDER BY and "
        "LIMIT keeps the index too; a WHERE alone asks for all rows that qualify, and no index on vectors knows where "
        "those end."
    )
    follow_up = "Which threshold? Where would you take the number from, and what happens to it when the model changes?"
    mistakes: ClassVar = {
        "nothing returned": "`relevant` returned None. | With nothing relevant it is an empty list.",
        "not a list": "`relevant` returned {kind}, and a list was asked for. | `.all()` makes a list of a result.",
        "not pairs": "The list holds {kind}, and pairs of an id and a number were asked for. "
        "| `(id, similarity)`: select two columns, and use `execute`.",
        "twice": "{count} chunk(s) came twice. | Is there a join that multiplies rows?",
        "distance": "The numbers beside the ids are distances: the first is {first:.3f}. | Similarity is 1 minus it.",
        "wrong numbers": "{count} of {n} numbers are not the cosine similarity of the chunk beside them. "
        "| 1 minus the cosine distance.",
        "below": "{count} of {n} chunks that came are less similar than {least:.3f}. "
        "| The threshold holds for each of them. At least s, as a distance, is at most 1 - s.",
        "too many": "{count} chunks came back for k = {k}. | At most k: the threshold replaces no limit.",
        "left out": "{count} chunks came back for k = {k}, and the index can find {there} that are at least "
        "{least:.3f} similar. | Order before you limit. Which of the two, distance or similarity, is compared with "
        "what? And one scan of the index yields `hnsw.ef_search` rows and no more.",
        "just at it": "For k = {k} a chunk whose similarity is {least!r} was left out, and that was the threshold. "
        "| At least is not more than.",
        "unknown": searching.UNKNOWN,
        "order": searching.UNORDERED,
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
        (near,) = await reachable(attempt, (v for _ in repeat(None) for v in some_queries(1)), 1)
        other, one = await _with_one_to_hit(attempt, 9)
        (far,) = await reachable(attempt, (farther_off(v) for _ in repeat(None) for v in some_queries(1)), 1)
        searches, missed = await Searches.begin(attempt), []
        for query, k, least in (
            (near, 7, _between(near, 3)), (near, 7, _between(near, 25)), (near, MOST, _between(near, 60)),
            (far, MOST, 0.0), (far, 1, _between(far, 4)), (other, 7, _between(other, 0)), (other, 9, one),
        ):  # fmt: skip
            found = await searches.ask(query.vector, k, least, keep=k > 7)
            there = self._compare(attempt, query, k, least, found)
            searches.compare_order(found)
            searches.add_right(found, there)
            missed.append({"count": len(found), "k": k, "there": len(there), "least": least})
        self._look_for_what_is_missing(attempt, searches, missed)
        asked = near.vector, 7, _between(near, 3)
        await searches.ask_with_more(*asked)  # what was found before is not all there is now
        await searches.ask(*asked)
        await searches.look_at_the_index()
        await expect_errors_to_rise(attempt, *asked)

    def _compare(self, attempt: Attempt, query: Query, k: int, least: float, found: Hits) -> list[tuple[UUID, float]]:
        """What the index leads to of the k nearest that are similar enough."""
        below = sum(similarity < least for _, similarity in found)
        attempt.expect(not below, "below", count=below, n=len(found), least=least)
        attempt.expect(len(found) <= k, "too many", count=len(found), k=k)
        missing = query.surely - set(dict(found))
        just = [id for id, similarity in query.nearest[:k] if similarity == least and id in missing]
        attempt.expect(not (just and found), "just at it", k=k, least=least)
        return [(id, similarity) for id, similarity in query.nearest[:k] if similarity >= least and id in query.found]

    def _look_for_what_is_missing(self, attempt: Attempt, searches: Searches, each: list[dict[str, Any]]) -> None:
        worst = max(each, key=lambda one: one["there"] - one["count"])
        enough = all(one["count"] >= ENOUGH * one["there"] for one in each if one["k"] == MOST)
        enough = enough and searches.right >= searching.ENOUGH * searches.wanted
        attempt.expect(enough, "left out", **worst)


def _between(query: Query, above: int) -> float:
    """A threshold that ``above`` chunks pass, or some more, with no chunk just at it."""
    similarities = [1.0] + [similarity for _, similarity in query.nearest]
    while similarities[above] - similarities[above + 1] < LITTLE:
        above += 1
    return (similarities[above] + similarities[above + 1]) / 2


async def _with_one_to_hit(attempt: Attempt, k: int) -> tuple[Query, float]:
    """A query, and the similarity of one of its k nearest such that its distance is exactly 1 minus that.

    The index finds this chunk, and one that is nearer: so a list that lacks it is not empty.
    """
    while True:
        (query,) = await reachable(attempt, (v for _ in repeat(None) for v in some_queries(1)), 1)
        found = [similarity for id, similarity in query.nearest[:k] if id in query.surely]
        exact = [similarity for similarity in found[1:] if 1 - (1 - similarity) == similarity]
        if exact:
            return query, exact[0]
