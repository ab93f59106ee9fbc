"""Searches of the library of clustered vectors: what to ask for, and what is truly nearest."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from course_lib.data.clustered import clustered_queries
from course_lib.data.library import CHUNKS
from course_lib.exercises.lesson_04.scenes.hits import Hits, differ, read_pairs
from course_lib.exercises.lesson_04.scenes.server_counts import Counts, count_scans, count_searches
from course_lib.judging.asking import ask, sent_most
from course_lib.judging.attempt import Attempt

NEAREST = """
    SELECT id, 1 - (embedding <=> CAST(:vector AS vector)) FROM document_chunks
    ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :count
"""
THESE = "SELECT id, 1 - (embedding <=> CAST(:vector AS vector)) FROM document_chunks WHERE id = ANY(:ids)"
ENOUGH = 0.2  # of the truly nearest. The index finds .8 of them, though of single queries hardly one
OTHER_OPERATORS = ("<->", "<#>", "<+>")

ANOTHER_OPERATOR = (
    "The index was not used for {count} of {n} searches: `{statement}`. "
    "| An index answers for the operator it was built for, which is `<=>` here."
)
DOWNWARDS = (
    "The index was not used for {count} of {n} searches: `{statement}`. "
    "| It gives rows by distance, upwards. Which way, and by what, does this statement sort?"
)
NO_LIMIT = (
    "The index was not used for {count} of {n} searches, and {rows} rows were fetched in one of them: `{statement}`. "
    "| Without LIMIT the whole table is asked for, and is best read as a whole."
)
INDEX_NOT_USED = (
    "The index was not used for {count} of {n} searches: `{statement}`. "
    "| ORDER BY column operator constant, nothing around it, and LIMIT."
)
SETTING_STAYS = (
    "After the search {settings} stays changed on the connection, for whoever gets it next. "
    "| `SET LOCAL`, or `set_config(name, value, true)`, ends with the transaction."
)


def some_queries(count: int) -> list[list[float]]:
    """Vectors to search with, others each time."""
    many: list[list[float]] = clustered_queries(20 * count, of=CHUNKS).tolist()
    return random.sample(many, count)


async def nearest(attempt: Attempt, vector: Sequence[float], count: int) -> list[tuple[UUID, float]]:
    """The ``count`` chunks that are truly the most similar, with their similarity: found by looking at all."""
    async with attempt.judge_session() as session:  # on a connection of its own, so no cached plan is in the way
        await session.execute(text("SET LOCAL enable_indexscan = off"))
        found = await session.execute(text(NEAREST), {"vector": str(list(vector)), "count": count})
        return [(id, similarity) for id, similarity in found]


@dataclass
class Searches:
    """Some searches by the answer, read, and what was seen of them."""

    attempt: Attempt
    before: Counts
    count: int = 0
    rows: int = 0  # that the greatest of them fetched
    statement: str = ""
    right: int = 0
    wanted: int = 0
    sql: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, attempt: Attempt) -> Searches:
        return cls(attempt, await count_scans(attempt))

    async def ask(self, vector: list[float], *arguments: Any) -> Hits:
        """One search by the answer: pairs of id and similarity, most similar first.

        Raises:
            Wrong: "nothing returned", "not a list", "not pairs", "twice", "distance", "wrong numbers" or "order".
        """
        attempt = self.attempt
        found = read_pairs(attempt, await ask(attempt, vector, *arguments), UUID)
        self.count += 1
        self.rows = max([self.rows, *(statement.rows or 0 for statement in attempt.log.statements)])
        self.statement = self.statement or sent_most(attempt.log)
        self.sql += [statement.sql for statement in attempt.log.statements]
        await self._compare(vector, found)
        return found

    async def _compare(self, vector: list[float], found: Hits) -> None:
        ids = [id for id, _ in found]
        self.attempt.expect(len(set(ids)) == len(ids), "twice", count=len(ids) - len(set(ids)))
        known: dict[UUID, float] = dict(await self.attempt.sql(THESE, vector=str(vector), ids=ids))
        real = [known.get(id, 9.0) for id in ids]
        said = [number for _, number in found]
        wrong = differ(said, real)
        if wrong and not differ(said, [1 - similarity for similarity in real]):
            raise self.attempt.wrong("distance", first=said[0])
        self.attempt.expect(not wrong, "wrong numbers", count=wrong, n=len(found))

    def compare_order(self, found: Hits) -> None:
        said = [number for _, number in found]
        self.attempt.expect(said == sorted(said, reverse=True), "order")

    def add_right(self, found: Hits, wanted: Sequence[tuple[UUID, float]]) -> None:
        """Count how many of ``wanted`` were found."""
        self.right += len({id for id, _ in found} & {id for id, _ in wanted})
        self.wanted += len(wanted)

    async def look_at_the_index(self) -> None:
        """Every search went through an index on vectors, and no setting stays.

        Raises:
            Wrong: "another operator", "no limit", "downwards" or "index not used"; "setting stays".
        """
        used, after = await count_searches(self.attempt, self.before, self.count)
        if used < self.count:
            self._tell_why(self.count - used)
        self.attempt.expect(not after.settings, "setting stays", settings=" and ".join(after.settings))

    def _tell_why(self, not_used: int) -> None:
        numbers = {"count": not_used, "n": self.count, "rows": self.rows, "statement": self.statement}
        sql = " ".join(self.sql)
        if any(operator in sql for operator in OTHER_OPERATORS):
            raise self.attempt.wrong("another operator", **numbers)
        if self.rows > CHUNKS // 20 or "LIMIT" not in sql.upper():
            raise self.attempt.wrong("no limit", **numbers)
        if " DESC" in sql.upper():
            raise self.attempt.wrong("downwards", **numbers)
        raise self.attempt.wrong("index not used", **numbers)
