"""Searches of the library of clustered vectors: what to ask for, and what is truly nearest."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.data.clustered import clustered_queries
from course_lib.data.library import CHUNKS
from course_lib.exercises.lesson_04.scenes.callers import call_within
from course_lib.exercises.lesson_04.scenes.hits import Hits, differ, read_pairs
from course_lib.exercises.lesson_04.scenes.server_counts import (
    CHANGED,
    REPORT,
    Counts,
    count_scans,
    count_searches,
    reported,
)
from course_lib.judging.asking import sent_most
from course_lib.judging.attempt import Attempt
from course_lib.models import DIMENSIONS

# parameters are text: asyncpg asks the server about any other type, once a connection, for longer than the query takes
NEAREST = """
    SELECT id, 1 - (embedding <=> CAST(CAST(:vector AS text) AS vector)) FROM document_chunks
    ORDER BY embedding <=> CAST(CAST(:vector AS text) AS vector) LIMIT :count
"""
THESE = """
    SELECT id, 1 - (embedding <=> CAST(CAST(:vector AS text) AS vector)) FROM document_chunks
    WHERE id = ANY(CAST(string_to_array(:ids, ',') AS uuid[]))
"""
ADD = """
    INSERT INTO document_chunks (id, document_id, chunk_index, content, token_count, embedding, embedding_model)
    SELECT :id, id, 9999, 'It''s new', 2, CAST(CAST(:vector AS text) AS vector), 'clustered-256' FROM documents
    WHERE title LIKE 'Volume%' LIMIT 1
"""
EFFORT = 100  # the hnsw.ef_search by which a query has to be able to find what is near it
REACHABLE = 0.6  # of its nearest hundred
ENOUGH = 0.4  # of the truly nearest, over all searches. The index finds .8 of them by itself
SAME = 1e-5  # the index computes in another precision than `<=>`, and orders by its own
OTHER_OPERATORS = ("<->", "<#>", "<+>")

UNKNOWN = (
    "{count} of {n} ids that came are of no chunk that is in the table. "
    "| The table changes from one call to the next, so what was found once is not kept."
)
UNORDERED = (
    "The chunks did not come most similar first: the one at place {place}, counted from 0, is more similar than the "
    "one before it. | What puts the list that is returned in order? `relaxed_order` does not, nor does a query around "
    "an ordered one."
)
NOT_SEEN = (
    "A chunk that the caller had added in the same transaction was not found. "
    "| It is not committed yet, so only the session that was passed in sees it; and a list kept from before lacks it."
)
ANOTHER_OPERATOR = (
    "The index was not used for {count} of {n} searches, which are ordered by `{operator}`: `{statement}`. "
    "| An index answers for the operator it was built for, which is `<=>` here."
)
DOWNWARDS = (
    "The index was not used for {count} of {n} searches, which are ordered downwards: `{statement}`. "
    "| It gives rows by distance, upwards."
)
NO_LIMIT = (
    "The index was not used for {count} of {n} searches, and {rows} rows were fetched in one of them: `{statement}`. "
    "| What is to come back is known from the start, and the server can be told."
)
INDEX_NOT_USED = (
    "The index was not used for {count} of {n} searches: `{statement}`. "
    "| ORDER BY column operator constant, nothing around it, and LIMIT; `explain` shows what the planner makes of it."
)
READS_ALL = (
    "The index was used, and {rows} rows of the table were read in one search all the same. "
    "| Every row is read by whatever else was sent: one statement too many, or one without the index."
)
SETTING_STAYS = (
    "After the search {settings} stays changed on the connection, for whoever gets it next. "
    "| `SET LOCAL`, or `set_config(name, value, true)`, ends with the transaction."
)


def some_queries(count: int) -> list[list[float]]:
    """Vectors to search with, others each time."""
    many: list[list[float]] = clustered_queries(20 * count, of=CHUNKS).tolist()
    return random.sample(many, count)


def farther_off(vector: Sequence[float]) -> list[float]:
    """A vector from the same region with which nothing in the library is very similar: about .4 at the most."""
    aside = np.random.default_rng().normal(size=DIMENSIONS) / np.sqrt(DIMENSIONS)
    moved: list[float] = (np.array(vector) + aside).astype(np.float32).tolist()
    return moved


@dataclass(frozen=True)
class Query:
    """A vector, and what is near it.

    Attributes:
        nearest: the truly nearest chunks with their similarity.
        found: those that the index finds when it looks as far as for a hundred.
        surely: those that it finds by itself, among the nearest thirty.
    """

    vector: list[float]
    nearest: list[tuple[UUID, float]]
    found: set[UUID]
    surely: set[UUID]


async def reachable(attempt: Attempt, vectors: Iterator[list[float]], count: int, depth: int = 130) -> list[Query]:
    """The first ``count`` of the vectors that an index of few links does not happen to be blind for."""
    queries: list[Query] = []
    async with attempt.judge_session() as session:  # its plans are made anew for each statement
        for vector in vectors:
            values = {"vector": str(vector), "count": depth}
            await session.execute(text("SET LOCAL enable_indexscan = off"))
            near = [(id, similarity) for id, similarity in await session.execute(text(NEAREST), values)]
            await session.execute(text("SET LOCAL enable_indexscan = on"))
            await session.execute(text("RESET hnsw.ef_search"))
            surely = set(await session.scalars(text(NEAREST), values | {"count": 30}))
            await session.execute(text(f"SET LOCAL hnsw.ef_search = {EFFORT}"))
            found = set(await session.scalars(text(NEAREST), values | {"count": EFFORT}))
            if sum(id in found for id, _ in near[:EFFORT]) >= REACHABLE * EFFORT:
                queries.append(Query(vector, near, found, surely & found))
            if len(queries) == count:
                break
        await session.execute(REPORT)  # what the judge has read is not to be counted later
    return queries


@dataclass
class Searches:
    """Some searches by the answer, read, and what was seen of them."""

    attempt: Attempt
    before: Counts
    last: Counts
    count: int = 0
    used: int = 0
    rows: int = 0  # that the greatest of them fetched
    read: int = 0  # rows of the table, that the greatest of them read
    statement: str = ""  # of one that went past the index
    right: int = 0
    wanted: int = 0
    sql: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)  # settings that stayed when a transaction was committed

    @classmethod
    async def begin(cls, attempt: Attempt) -> Searches:
        counts = await count_scans(attempt)
        return cls(attempt, counts, counts)

    async def ask(self, vector: list[float], *arguments: Any, keep: bool = True) -> Hits:
        """One search in a transaction that is committed (``keep``) or rolled back: pairs of id and similarity.

        Raises:
            Wrong: what ``call_within`` says, "nothing returned", "not a list", "not pairs", "twice", "distance",
                "unknown", or "wrong numbers".
        """
        async with self.attempt.session() as session:
            found = await self._ask(session, vector, *arguments)
            await (session.commit() if keep else session.rollback())
            self.left |= set(await session.scalars(CHANGED)) if keep else set()
        await self._look_at_the_counts()
        await self._compare(vector, found)
        return found

    async def ask_with_more(self, vector: list[float], *arguments: Any) -> None:
        """One search whose caller has just added the most similar chunk of all, and then commits; it is deleted again.

        Raises:
            Wrong: as ``ask``, or "not seen".
        """
        added = {"id": uuid4(), "vector": str(vector)}
        async with self.attempt.session() as session:
            await session.execute(text(ADD), added)
            found = await self._ask(session, vector, *arguments)
            if added["id"] not in dict(found):  # as long as the index leads there at all
                near = await session.scalar(text(NEAREST), {"vector": str(vector), "count": 1})
                self.attempt.expect(near != added["id"], "not seen")
            await session.commit()
        await self._look_at_the_counts()
        await self._compare(vector, found)
        await self.attempt.sql("DELETE FROM document_chunks WHERE id = :id", id=added["id"])

    async def _ask(self, session: AsyncSession, vector: list[float], *arguments: Any) -> Hits:
        said = await call_within(self.attempt, session, lambda: self.attempt.call(session, vector, *arguments))
        found = read_pairs(self.attempt, said, UUID)
        self.count += 1
        self.rows = max([self.rows, *(statement.rows or 0 for statement in self.attempt.log.statements)])
        return found

    async def _look_at_the_counts(self) -> None:
        last, self.last = self.last, await reported(self.attempt)
        self.read = max(self.read, self.last.rows - last.rows)
        if self.last.by_index(last) > 0:
            self.used += 1
        elif not self.statement:
            self.statement = sent_most(self.attempt.log)
            self.sql = [statement.sql for statement in self.attempt.log.statements]

    async def _compare(self, vector: list[float], found: Hits) -> None:
        ids = [id for id, _ in found]
        self.attempt.expect(len(set(ids)) == len(ids), "twice", count=len(ids) - len(set(ids)))
        known: dict[UUID, float] = dict(await self.attempt.sql(THESE, vector=str(vector), ids=",".join(map(str, ids))))
        unknown = [id for id in ids if id not in known]
        self.attempt.expect(not unknown, "unknown", count=len(unknown), n=len(ids))
        real = [known[id] for id in ids]
        said = [number for _, number in found]
        wrong = differ(said, real)
        if wrong and not differ(said, [1 - similarity for similarity in real]):
            raise self.attempt.wrong("distance", first=said[0])
        self.attempt.expect(not wrong, "wrong numbers", count=wrong, n=len(found))

    def compare_order(self, found: Hits) -> None:
        for place, ((_, one), (_, other)) in enumerate(pairwise(found), start=1):
            self.attempt.expect(other <= one + SAME, "order", place=place)

    def add_right(self, found: Hits, wanted: Sequence[tuple[UUID, float]]) -> None:
        """Count how many of ``wanted`` were found."""
        self.right += len({id for id, _ in found} & {id for id, _ in wanted})
        self.wanted += len(wanted)

    async def look_at_the_index(self) -> None:
        """Every search went through an index on vectors, read no more than that, and no setting stays.

        Raises:
            Wrong: "another operator", "no limit", "downwards", "index not used" or "reads all"; "setting stays".
        """
        used, after = await count_searches(self.attempt, self.before, self.count)
        if self.used < self.count and (used < self.count or self.read >= CHUNKS):
            self._tell_why(self.count - self.used)
        self.attempt.expect(self.read < CHUNKS, "reads all", rows=self.read)
        left = sorted(self.left | set(after.settings))
        self.attempt.expect(not left, "setting stays", settings=" and ".join(left))

    def _tell_why(self, not_used: int) -> None:
        numbers = {"count": not_used, "n": self.count, "rows": self.rows, "statement": self.statement}
        orders = " ".join(sql.upper().partition("ORDER BY")[2] for sql in self.sql)
        for operator in OTHER_OPERATORS:
            if operator in orders and "<=>" not in orders:
                raise self.attempt.wrong("another operator", operator=operator, **numbers)
        self.attempt.expect(self.rows <= CHUNKS // 20, "no limit", **numbers)
        self.attempt.expect(" DESC" not in orders, "downwards", **numbers)
        raise self.attempt.wrong("index not used", **numbers)
