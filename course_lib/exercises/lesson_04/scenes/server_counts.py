"""What the server itself counts: scans of tables and indexes, whoever made them and however they were written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from sqlalchemy import text

from course_lib.judging.attempt import Attempt
from course_lib.judging.leftovers import look_for_leftovers

REPORT = text("SELECT pg_stat_force_next_flush()")
# asyncpg itself sets jit for a moment, and back; isolation levels are SQLAlchemy's, which sets them back as well
CHANGED = text("""
    SELECT name FROM pg_settings
    WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND name NOT LIKE 'transaction%'
""")
# rows that an index led to are counted as the index's, those of a bitmap and of a whole scan as the table's
COUNTS = """
    SELECT coalesce(jsonb_object_agg(index.relname, pg_stat_get_numscans(index.oid))
               FILTER (WHERE method.amname IN ('hnsw', 'ivfflat')), '{}'),
           max(pg_stat_get_numscans(whole.oid)),
           max(pg_stat_get_tuples_returned(whole.oid) + pg_stat_get_tuples_fetched(whole.oid))
               + coalesce(sum(pg_stat_get_tuples_fetched(index.oid)), 0)::bigint
    FROM pg_class AS whole
    LEFT JOIN pg_index AS of ON of.indrelid = whole.oid
    LEFT JOIN pg_class AS index ON index.oid = of.indexrelid
    LEFT JOIN pg_am AS method ON method.oid = index.relam
    WHERE whole.oid = to_regclass(:table)
"""


@dataclass(frozen=True)
class Counts:
    """Scans since the database was made.

    Attributes:
        indexes: of each index on vectors that the table has.
        whole: of the table, from its first row to its last.
        rows: of the table that were read, in whatever way.
        settings: that somebody changed on a connection of the learner's pool and left so.
    """

    indexes: Mapping[str, int]
    whole: int
    rows: int
    settings: tuple[str, ...] = ()

    def by_index(self, before: Counts) -> int:
        """Scans of indexes on vectors since ``before``."""
        return sum(count - before.indexes.get(name, 0) for name, count in self.indexes.items())


async def reported(attempt: Attempt, table: str = "document_chunks") -> Counts:
    """The counts as far as they have been reported.

    A server process reports now and then. Asked for it by ``REPORT``, it does so when its transaction ends, before it
    says that it is ready again.
    """
    indexes, whole, rows = (await attempt.sql(COUNTS, table=table))[0]
    return Counts(indexes, whole or 0, rows or 0)


async def count_scans(attempt: Attempt, table: str = "document_chunks") -> Counts:
    """The counts as they stand, with what the learner's connections have not reported yet."""
    left: set[str] = set()
    async with AsyncExitStack() as all_at_once:
        for _ in range(attempt.engine.pool.checkedin()):  # type: ignore[attr-defined]
            connection = await all_at_once.enter_async_context(attempt.engine.connect())
            left |= set(await connection.scalars(CHANGED))
            await connection.execute(REPORT)
    return replace(await reported(attempt, table), settings=tuple(sorted(left)))


async def count_searches(
    attempt: Attempt, before: Counts, searches: int, table: str = "document_chunks"
) -> tuple[int, Counts]:
    """How many of so many searches since ``before`` went through an index on vectors, and all counts.

    Raises:
        Wrong: some did not, and a connection or an engine of the answer's own is left open.
    """
    counts = await count_scans(attempt, table)
    if counts.by_index(before) < searches:  # connections that are not of our pool report when they are closed
        await look_for_leftovers(attempt)
        counts = replace(await count_scans(attempt, table), settings=counts.settings)
    return min(counts.by_index(before), searches), counts
