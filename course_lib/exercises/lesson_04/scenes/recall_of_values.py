"""Recall of the library's index for some queries: the truth looked up once, any ef_search against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from course_lib.exercises.lesson_04.scenes.server_counts import REPORT
from course_lib.judging.attempt import Attempt

DEEPEST = 100  # the greatest k
NEAREST = """
    SELECT asked.number, near.id, near.distance FROM (
        SELECT CAST(written AS vector) AS vector, number
        FROM unnest(CAST(:vectors AS text[])) WITH ORDINALITY AS given(written, number)
        OFFSET 0  -- read once each, and not at every row
    ) AS asked
    CROSS JOIN LATERAL (
        SELECT id, embedding <=> asked.vector AS distance FROM document_chunks ORDER BY distance LIMIT :k
    ) AS near
"""
APART = 1e-5  # between the last of the nearest and the next one: who computes in another precision finds the same
Found = list[dict[UUID, float]]  # for each query, nearest first, with their distances


@dataclass(frozen=True)
class Truth:
    """Some queries and what is truly nearest to each."""

    attempt: Attempt
    queries: list[list[float]]
    nearest: Found

    @classmethod
    async def of(cls, attempt: Attempt, queries: list[list[float]]) -> Truth:
        return cls(attempt, queries, await search_all(attempt, queries, DEEPEST, "enable_indexscan = off"))

    def only(self, places: Sequence[int]) -> Truth:
        """The same about some of the queries."""
        return Truth(self.attempt, [self.queries[n] for n in places], [self.nearest[n] for n in places])

    def clear_cut(self, k: int) -> list[int]:
        """The queries, by place, whose nearest ``k`` are the same in whatever precision distances are computed."""
        distances = [list(near.values()) for near in self.nearest]
        return [place for place, near in enumerate(distances) if near[k] - near[k - 1] > APART]

    async def shares(self, k: int, value: int) -> list[float]:
        """For each query, how much of its nearest ``k`` a search with this ef_search finds."""
        found = await search_all(self.attempt, self.queries, k, f"hnsw.ef_search = {value}")
        nearest = [list(near)[:k] for near in self.nearest]
        return [len(one.keys() & near) / k for one, near in zip(found, nearest, strict=True)]

    async def recall(self, k: int, value: int) -> float:
        """The mean of ``shares``."""
        return sum(await self.shares(k, value)) / len(self.queries)


async def search_all(attempt: Attempt, queries: list[list[float]], k: int, setting: str) -> Found:
    """The ids nearest to each query, nearest first, with one setting (``"hnsw.ef_search = 200"``), in one statement."""
    found: Found = [{} for _ in queries]
    async with attempt.judge_session() as session:
        await session.execute(text(f"SET LOCAL {setting}"))
        await session.execute(text("SET LOCAL enable_seqscan = " + ("on" if "indexscan" in setting else "off")))
        for number, id, distance in await session.execute(
            text(NEAREST), {"vectors": [str(q) for q in queries], "k": k}
        ):
            found[number - 1][id] = distance
        await session.execute(REPORT)  # what the judge has read is not to be counted later
    return found
