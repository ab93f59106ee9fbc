"""4.3: at most k, none below a threshold, and still by the index."""

from __future__ import annotations

import random
from collections.abc import Sequence
from secrets import randbelow
from typing import ClassVar
from uuid import UUID

from course_lib.exercises.lesson_04.scenes import searching
from course_lib.exercises.lesson_04.scenes.searching import Searches, nearest, some_queries
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise

ABOVE = (0, 3, 4, 5, 25, 30)  # how many chunks there are above the threshold of each search
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
        "| Distance and similarity run against each other: at least s is a distance of at most 1 - s.",
        "too many": "{count} chunks came back for k = {k}. | At most k: the threshold replaces no limit.",
        "left out": "{found} chunks came back in {n} searches, and {right} of them are among the nearest above the "
        "threshold: too many are left out. | Order before you limit. And which of the two, distance or similarity, is "
        "compared with what?",
        "order": "The right chunks came, but not most similar first. | A query around a subquery has to sort again.",
        "another operator": searching.ANOTHER_OPERATOR,
        "downwards": searching.DOWNWARDS,
        "no limit": searching.NO_LIMIT,
        "index not used": searching.INDEX_NOT_USED,
        "setting stays": searching.SETTING_STAYS,
    }

    async def judge(self, attempt: Attempt) -> None:
        searches, came, unsorted = await Searches.begin(attempt), 0, []
        for vector, above in zip(some_queries(len(ABOVE)), random.sample(ABOVE, len(ABOVE)), strict=True):
            k = 8 + randbelow(5)
            real = await nearest(attempt, vector, max(ABOVE) + 5)
            least, above = _between(real, above)
            found = await searches.ask(vector, k, least)
            below = sum(similarity < least for _, similarity in found)
            attempt.expect(not below, "below", count=below, n=len(found), least=least)
            attempt.expect(len(found) <= k, "too many", count=len(found), k=k)
            searches.add_right(found, real[: min(k, above)])
            came += len(found)
            unsorted.append(found)
        enough = searches.right >= searching.ENOUGH * searches.wanted
        attempt.expect(enough, "left out", found=came, n=searches.count, right=searches.right)
        for found in unsorted:
            searches.compare_order(found)
        await searches.look_at_the_index()


def _between(real: Sequence[tuple[UUID, float]], above: int) -> tuple[float, int]:
    """A threshold that ``above`` chunks pass, or some more, with no chunk just at it; how many pass it."""
    similarities = [1.0] + [similarity for _, similarity in real]
    while similarities[above] - similarities[above + 1] < LITTLE:
        above += 1
    return (similarities[above] + similarities[above + 1]) / 2, above
