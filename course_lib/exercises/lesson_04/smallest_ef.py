"""4.5: how little effort is enough, found by measuring against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import randbelow
from typing import Any, ClassVar

from course_lib.data.library import CHUNKS
from course_lib.exercises.lesson_04.scenes import callers
from course_lib.exercises.lesson_04.scenes.callers import setting_without_parameters
from course_lib.exercises.lesson_04.scenes.recall_of_values import Truth
from course_lib.exercises.lesson_04.scenes.searching import some_queries
from course_lib.exercises.lesson_04.scenes.server_counts import Counts, count_scans, count_searches
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise

POOL, K = 14, 10  # queries to choose from
TARGETS = (0.91, 0.93, 0.95)  # of 70 rows none is a whole number, so rounding decides nothing
LAST_ROW = 0.97  # of 30 rows all of them; with one less recall is that, too, in two digits
MOST = 400
DEFAULT, EARLY, LATE, GREAT = 40, 100, 130, 320
EASY, OTHERS = 3, 3  # queries; with the slow one more than five, after which the server may keep a plan
QUICK = 2  # with the slow one
FEW_OF_MANY = (60, 0.28)  # k and target: 17 candidates or little more are enough, which is far from powers of two
ALL = (1, 1.0)  # reached by the least value there is
NEVER = (100, 1.0)  # by none
DRAWS = 10  # of queries; the first will nearly always do
SMALLER = (0.9, 0.8)  # shares of the value that must not all do: recall does not grow evenly
HAIR = 1e-6


@dataclass(frozen=True)
class Task:
    """One call: queries with what is near them, k, and the recall to be reached."""

    truth: Truth
    k: int
    target: float


class SmallestEf(Exercise):
    """Recall against exact answers, and a setting that nobody else gets to feel."""

    id = "4.5"
    title = "As little as is enough"
    answer = "smallest_ef_search"
    recipe = "vectors"
    statement_seconds = 15  # one statement may hold the truth for all queries
    points = 3
    minutes = 20
    level = "senior"
    seconds = 30.0  # hundreds of searches, on a machine that may be busy
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
        "no parameters": callers.NO_PARAMETERS,
        "setting stays": "After the call {settings} stays changed on the connection, for whoever gets it next. "
        "| `set_config(name, value, true)` ends with the transaction, `false` does not.",
        "not exact": "For {n} queries {rows} rows of the table were read, less than there are, and the index was used "
        "{count} times. | So the side that was to be exact went through the index as well. Look at its plan, and ask "
        "for a fresh one: `plan_cache_mode`.",
        "index not used": "With hnsw.ef_search = {value} the recall is {recall:.2f}, and for all values together the "
        "index was used {count} times. | The searches to be measured have to go through it. Is it switched on again, "
        "and is the plan a fresh one? `plan_cache_mode`.",
        "too small": "For {n} queries and k = {k}, hnsw.ef_search = {value} has a recall of {recall:.3f}, and "
        "{target} was to be reached. | How many of the k truly nearest came back, over all queries together? And is "
        "it the plain search that was measured?",
        "too large": "For {n} queries and k = {k}, hnsw.ef_search = {value} reaches {target}, and so does {smaller}. "
        "| Was it measured with these queries? Try smaller steps, from 1 on, or halve the range until nothing is "
        "left of it.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.engine.dispose()  # no statement of ours is prepared on the connections of the answer
        for place, task in enumerate(await self._tasks(attempt)):
            before = await count_scans(attempt)
            value = await self._ask(attempt, task, keep=place != 1)
            _, after = await count_searches(attempt, before, len(task.truth.queries))
            attempt.expect(not after.settings, "setting stays", settings=" and ".join(after.settings))
            await self._measure(attempt, task, value, before, after)
        await expect_errors_to_rise(attempt, task.truth.queries, task.k, task.target)

    async def _ask(self, attempt: Attempt, task: Task, keep: bool) -> int:
        async with attempt.session() as session:
            with setting_without_parameters(attempt):
                value = await attempt.call(session, task.truth.queries, task.k, task.target)
            await (session.commit() if keep else session.rollback())
        attempt.expect(value is not None, "nothing returned")
        is_int = isinstance(value, int) and not isinstance(value, bool)
        shown = value if is_int else article(value)
        attempt.expect(is_int and 1 <= value <= MOST, "not a number", kind=shown)
        return int(value)

    async def _tasks(self, attempt: Attempt) -> list[Task]:
        """Queries of which is known between which values the answer lies, and others."""
        (few, little), (one, all_of_it), (many, never) = FEW_OF_MANY, ALL, NEVER
        for _ in range(DRAWS):
            truth = await Truth.of(attempt, some_queries(POOL))
            found, lost = await truth.shares(one, 1), await truth.only([0, 1, 2]).shares(many, MOST)
            sure = [n for n in truth.clear_cut(one) if found[n] == 1][:1]
            hard = [n for n, share in enumerate(lost) if share < 1][:1]
            known = await _known_between(truth)
            if known and sure and hard:
                break
        return [
            *known, Task(truth.only([0, 1]), few, little), Task(truth.only(sure), one, all_of_it),
            Task(truth.only(hard), many, never),
        ]  # fmt: skip

    async def _measure(self, attempt: Attempt, task: Task, value: int, before: Counts, after: Counts) -> None:
        others = sorted({max(1, value - 1), *(max(1, int(share * value)) for share in SMALLER)} - {value})
        found, *smaller = [await task.truth.recall(task.k, one) for one in (value, *others)]
        rows, by_index = after.rows - before.rows, after.by_index(before)
        asked = {"n": len(task.truth.queries), "k": task.k, "target": task.target}
        numbers: dict[str, Any] = asked | {"value": value, "recall": found, "rows": rows, "count": by_index}
        too_small = found < task.target - HAIR and value < MOST
        too_large = bool(others) and all(recall >= task.target for recall in smaller)
        attempt.expect(rows >= CHUNKS or by_index > 0, "not measured", value=value)
        attempt.expect(rows >= CHUNKS, "not exact", **numbers)  # once is enough for who sorts in Python
        if too_small:
            attempt.expect(by_index >= len(task.truth.queries), "index not used", **numbers)
        attempt.expect(not too_small, "too small", **numbers)
        attempt.expect(not too_large, "too large", value=value, smaller=min(others, default=0), **asked)


async def _known_between(truth: Truth) -> list[Task]:
    """Three tasks, if the queries allow it. In the first and in the last one query is slow: it lacks a row for long.

    So the first is done early, and not by who asks that every query reaches the target, or looks at the easy ones
    only; the last is done late, and not by who takes the median, or rounds.
    """
    default, early, late, great = [await truth.shares(K, value) for value in (DEFAULT, EARLY, LATE, GREAT)]
    hardest = sorted(truth.clear_cut(K), key=lambda n: default[n])
    slow = [n for n in hardest if round(late[n] * K) == K - 1 and great[n] == 1][:1]
    easy = hardest[: -EASY - 1 : -1]
    others = [n for n in hardest if round(early[n] * K) >= K - 1 and n not in [*easy, *slow]][:OTHERS]
    mixed = [*easy, *others, *slow]
    last = [*[n for n in hardest if early[n] == 1][:QUICK], *slow]
    if len(set(mixed)) < EASY + OTHERS + 1 or len(last) < QUICK + 1:
        return []
    for target in sorted(TARGETS, key=lambda _: randbelow(1 << 30)):
        reached = sum(default[n] for n in mixed) < target * len(mixed) <= sum(early[n] for n in mixed)
        if reached and sum(default[n] for n in easy) >= target * EASY:
            tasks = (mixed, target), (easy, target), (last, LAST_ROW)
            return [Task(truth.only(places), K, share) for places, share in tasks]
    return []
