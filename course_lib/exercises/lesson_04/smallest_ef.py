"""4.5: how little effort is enough, found by measuring against the truth."""

from __future__ import annotations

from numbers import Integral
from secrets import choice
from typing import ClassVar

from course_lib.exercises.lesson_04.scenes.searching import some_queries
from course_lib.exercises.lesson_04.scenes.server_counts import Counts, count_scans, count_searches
from course_lib.instruments.recall_at_k.measure import recalls
from course_lib.instruments.recall_at_k.question import ask as question_of
from course_lib.instruments.recall_at_k.settings import search_settings
from course_lib.judging.asking import ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.models import DocumentChunk

QUERIES, K = 15, 10
TARGETS = (0.93, 0.95)  # of 150 rows neither is a whole number, so rounding decides nothing
MOST = 400
DEFAULT, GREAT = 40, 320  # the task is to find a value between them
DRAWS = 10  # of queries; the first will nearly always do
SMALLER = (0.9, 0.8)  # shares of the value that must not all do: recall does not grow evenly
SYNTAX_ERROR = "42601"
HAIR = 1e-6


class SmallestEf(Exercise):
    """Recall against exact answers, and a setting that nobody else gets to feel."""

    id = "4.5"
    title = "As little as is enough"
    answer = "smallest_ef_search"
    recipe = "vectors"
    points = 3
    minutes = 20
    level = "senior"
    seconds = 20.0  # hundreds of searches, on a machine that may be busy
    hints: ClassVar = (
        "First the truth, once: the k nearest of each query with the index out of the way. Then the same searches by "
        "the index, for one value after the other. What is the cheapest order to try 400 values in?",
        "`SELECT set_config('enable_indexscan', 'off', true)` keeps the index out until the transaction ends, and "
        "`set_config('hnsw.ef_search', '100', true)` sets the other. Values are texts. `SET` takes no parameters.",
        "The driver keeps prepared statements, and after five executions the server may keep the plan too: then the "
        "switch changes nothing, and both sides run alike. `plan_cache_mode` = `force_custom_plan` plans each time.",
        "With `low = 1` and `high = 400`: does the middle reach the target? If so it is the new `high`, else `low` is "
        "one more than it.",
    )
    why = (
        "Recall rises with ef_search and so does the time, so the value to take is the smallest that is good enough, "
        "and nine measurements find it among 400. Against what it is measured decides everything: a prepared statement "
        "may go on with a plan made before the switch, and an exact side that uses the index finds a recall of 1.0 for "
        "any value. Settings local to the transaction leave the pooled connection as it was."
    )
    follow_up = (
        "The number is right for these queries and today's rows. When would you measure again, and with whose queries?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`smallest_ef_search` returned None. | Did you forget `return`?",
        "not a number": "`smallest_ef_search` returned {kind}, and an int from 1 to 400 was asked for. "
        "| The value, not its recall.",
        "not measured": "`smallest_ef_search` said {value}, and neither searched by the index nor looked at all rows. "
        "| Each set of queries has its own value, and only measuring tells.",
        "no parameters": "The server found a syntax error in a statement of `smallest_ef_search`. "
        "| `SET` takes no parameters. `set_config(name, value, true)` is a function, and takes them.",
        "setting stays": "After the call {settings} stays changed on the connection, for whoever gets it next. "
        "| `set_config(name, value, true)` ends with the transaction, `false` does not.",
        "not exact": "With hnsw.ef_search = {value} the recall is {recall:.2f}, and the whole table was read {whole} "
        "times for {n} queries. | So the side that was to be exact went through the index as well. Look at its plan, "
        "and ask for a fresh one: `plan_cache_mode`.",
        "index not used": "With hnsw.ef_search = {value} the recall is {recall:.2f}, and for all values together the "
        "index was used {count} times. | The searches to be measured have to go through it. Is it switched on again, "
        "and is the plan a fresh one? `plan_cache_mode`.",
        "too small": "With hnsw.ef_search = {value} the recall is {recall:.3f}, and {target} was to be reached. "
        "| How many of the k truly nearest came back, over all queries together?",
        "too large": "hnsw.ef_search = {value} reaches the target, and so does {smaller}. "
        "| Try smaller steps, or halve the range until nothing is left of it.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        target = choice(TARGETS)
        queries = await self._queries(attempt, target)
        before = await count_scans(attempt)
        await attempt.engine.dispose()  # no statement of ours is prepared on the connections of the answer
        with calling_it(attempt, "no parameters", saying=SYNTAX_ERROR):
            value = await ask(attempt, queries, K, target)
        attempt.expect(value is not None, "nothing returned")
        is_int = isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= MOST
        attempt.expect(is_int, "not a number", kind=value if isinstance(value, Integral) else article(value))
        _, after = await count_searches(attempt, before, QUERIES)
        attempt.expect(not after.settings, "setting stays", settings=" and ".join(after.settings))
        await self._measure(attempt, queries, target, int(value), (before, after))

    async def _queries(self, attempt: Attempt, target: float) -> list[list[float]]:
        """Vectors for which neither the default nor the greatest value is the answer, as rarely it is."""
        for _ in range(DRAWS):
            queries = some_queries(QUERIES)
            default, great = await self._recalls(attempt, queries, DEFAULT, GREAT)
            if default < target <= great:
                break
        return queries

    async def _recalls(self, attempt: Attempt, queries: list[list[float]], *values: int) -> list[float]:
        question = question_of(DocumentChunk.embedding, queries, K, None, "cosine")
        each = [search_settings(value, None, None, None) for value in values]
        return [one.recall for one in await recalls(attempt.engine, question, each)]

    async def _measure(
        self, attempt: Attempt, queries: list[list[float]], target: float, value: int, counts: tuple[Counts, Counts]
    ) -> None:
        others = sorted({max(1, value - 1), *(max(1, int(share * value)) for share in SMALLER)} - {value})
        found, *smaller = await self._recalls(attempt, queries, value, *others)
        before, after = counts
        whole, by_index = after.whole - before.whole, after.by_index(before)
        numbers = {"value": value, "recall": found, "whole": whole, "n": QUERIES, "count": by_index, "target": target}
        too_small = found < target - HAIR and value < MOST
        too_large = bool(others) and all(recall >= target for recall in smaller)
        attempt.expect(whole > 0 or by_index > 0, "not measured", value=value)
        if too_small or too_large:
            attempt.expect(by_index >= QUERIES or too_large or whole == 0, "index not used", **numbers)
            attempt.expect(whole > 0 or by_index == 0, "not exact", **numbers)  # once is enough for who sorts in Python
        attempt.expect(not too_small, "too small", **numbers)
        attempt.expect(not too_large, "too large", value=value, smaller=min(others, default=0))
