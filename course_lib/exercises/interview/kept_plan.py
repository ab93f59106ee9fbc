"""S8: a statement that is fast five times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text

from course_lib.judging.asking import expect_list, expect_news, small_pool
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.staging import add_user

SMALL, FEW, MANY = 20, 25, 9000  # customers, documents of each, and documents of the large one
CALLS = 9  # a plan for all values may be made from the sixth on
MOST = 1000  # rows, a tenth of the table; an index on the owner leads to a few dozen
ADD = """
    INSERT INTO documents (user_id, source, title, status)
    SELECT u, 'upload/' || gen_random_uuid(), 'Draft ' || gen_random_uuid(),
           (ARRAY['ready', 'ready', 'failed', 'ready', 'processing'])[1 + (n - 1) % 5]
    FROM generate_series(1, :count) AS n, unnest(CAST(string_to_array(:ids, ',') AS uuid[])) AS u
"""
WANTED = """
    SELECT title FROM (SELECT * FROM documents WHERE user_id = :id OFFSET 0) AS d
    WHERE status = 'ready' ORDER BY id DESC LIMIT 5
"""
FLUSH = "SELECT pg_stat_force_next_flush()"
READ = """
    SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)
         + (SELECT sum(greatest(idx_tup_read, idx_tup_fetch)) FROM pg_stat_user_indexes)
"""
LEFT = "SELECT name, setting FROM pg_settings WHERE source = 'session'"
INDEXES = "SELECT count(*) FROM pg_index"


@dataclass(frozen=True)
class Called:
    """What a call returned, and how many rows or entries of indexes the server read for it."""

    said: Any
    read: int


class KeptPlan(Drill):
    """A generic plan is made for a customer who does not exist."""

    id = "S8"
    title = "Fast five times, then slow"
    answer = "latest_titles"
    minutes = 15
    points = 3
    level = "senior"
    topics: ClassVar = ("performance", "postgres", "tenants")
    faults: ClassVar = ("slow later",)
    hints: ClassVar = (
        "The driver prepares the statement once for each connection and keeps it. What does the server know of the "
        "value when it plans the sixth execution, and what did it know at the first?",
        "Ask for both plans: `PREPARE`, `SET plan_cache_mode = force_generic_plan`, `EXPLAIN (ANALYZE) EXECUTE`. By "
        "which index does each of them read, and for whom is that good?",
        "Neither plan is right for everybody: one suits the large customer, the other the small ones. So the plan has "
        "to be made with the value: `plan_cache_mode = force_custom_plan`, for this transaction only, or a value that "
        "stands in the text of the statement.",
    )
    why = (
        "The first five executions are planned with their values. Then the server compares what those plans cost with "
        "the cost of one for any value, which it can keep. That one assumes an average customer, and expects to find "
        "five of their documents near the end of the table. Where one customer owns nearly all rows, nobody is "
        "average. Planning anew costs a fraction of a millisecond, and SET LOCAL ends with the transaction."
    )
    follow_up = (
        "An index on (user_id, id) would serve every customer by the same plan. When would you rather make that index, "
        "and what does it cost?"
    )
    mistakes: ClassVar = {
        "slow later": "The first {fast} calls on a connection read at most {few} rows each on the server, and then a "
        "call for a user with {own} documents read {read}. "
        "| That is what was reported. Who makes the plan of a prepared statement, when, and knowing what?",
        "slow at once": "The first call on a connection, for a user with {own} documents, read {read} rows on the "
        "server. | Which index leads to the documents of one user?",
        "slow for the large": "For the user with {own} documents a call read {read} rows, to return {count}. "
        "| Who owns most of the table has their newest documents at the end of it.",
        "left behind": "After the calls their connection was in the pool with {name} set to {setting}. "
        "| The next user of the connection did not ask for that. Which SET ends with the transaction?",
        "index made": "`latest_titles` made an index. | That is for a migration, and it locks the table.",
        "nothing returned": "`latest_titles` returned None. | The code as it was found returned a list.",
        "not a list": "`latest_titles` returned {kind}, and a list of titles was asked for. | `.all()` makes one.",
        "not titles": "The list holds {kind}, and titles were asked for. | `scalars` gives the only column itself.",
        "wrong titles": "Of {total} titles {count} are not among the {shown} that were asked for. "
        "| Documents of this user that are `ready`, and of these the newest.",
        "missing": "{count} titles came, and the user has {total} to be shown. | Up to five.",
        "order": "The right titles came in another order. | Newest first, by `id`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        small = [await add_user(attempt) for _ in range(SMALL)]
        large, nobody = await add_user(attempt), await add_user(attempt)
        await attempt.sql(ADD, count=FEW, ids=",".join(map(str, small)))
        await attempt.sql(ADD, count=MANY, ids=str(large))
        await attempt.sql("ANALYZE documents")
        wanted = {user_id: await _wanted(attempt, user_id) for user_id in (*small[:CALLS], small[-1], large, nobody)}
        await attempt.sql(FLUSH)
        indexes = await attempt.value(INDEXES)
        for order in ([*small[:CALLS], large, nobody, small[0]], [*[large] * CALLS, small[-1], large]):
            async with small_pool(attempt, 1):
                before = await _settings(attempt)
                try:
                    await self._one_connection(attempt, order, large, wanted)
                finally:  # who makes one reads the whole table for that
                    attempt.expect(await attempt.value(INDEXES) == indexes, "index made")
                for name, setting in (await _settings(attempt)).items():
                    attempt.expect(before.get(name) == setting, "left behind", name=name, setting=setting)
        await attempt.sql(ADD, count=1, ids=str(small[1]))
        said = (await _call(attempt, small[1])).said
        expect_news(attempt, wanted[small[1]], said)
        self._look_at(attempt, said, await _wanted(attempt, small[1]))

    async def _one_connection(
        self, attempt: Attempt, order: list[UUID], large: UUID, wanted: dict[UUID, list[str]]
    ) -> None:
        few = 0
        for number, user_id in enumerate(order, 1):
            called = await _call(attempt, user_id, commits=number < len(order))
            self._look_at(attempt, called.said, wanted[user_id])
            own = {large: MANY}.get(user_id, FEW if wanted[user_id] else 0)
            if called.read <= MOST:
                few = max(few, called.read)
                continue
            numbers = {"own": own, "read": called.read, "count": len(called.said), "fast": number - 1, "few": few}
            later = "slow later" if number > 1 else "slow at once"
            raise attempt.wrong("slow for the large" if user_id == large else later, **numbers)

    def _look_at(self, attempt: Attempt, said: Any, wanted: list[str]) -> None:
        found = list(expect_list(attempt, said))
        odd = next((title for title in found if not isinstance(title, str)), None)
        attempt.expect(odd is None, "not titles", kind=article(odd))
        others = [title for title in found if title not in wanted]
        attempt.expect(not others, "wrong titles", count=len(others), total=len(found), shown=len(wanted))
        attempt.expect(len(set(found)) == len(wanted), "missing", count=len(found), total=len(wanted))
        attempt.expect(found == wanted, "order")


async def _call(attempt: Attempt, user_id: UUID, commits: bool = True) -> Called:
    """Call the answer as a request does, which commits or rolls back, and ask the server what it read for that."""
    before = await attempt.value(READ)
    async with attempt.session() as session:
        said = await attempt.call(session, user_id)
        attempt.look_for_tasks()
        await (session.commit() if commits else session.rollback())
    async with attempt.session() as session:
        await session.execute(text(FLUSH))
        await session.commit()
    return Called(said, int(await attempt.value(READ) - before))


async def _settings(attempt: Attempt) -> dict[str, str]:
    """What is set on the connection in the pool, beyond what a new one has."""
    async with attempt.session() as session:
        return {name: setting for name, setting in await session.execute(text(LEFT))}


async def _wanted(attempt: Attempt, user_id: UUID) -> list[str]:
    return [row[0] for row in await attempt.sql(WANTED, id=user_id)]
