"""Which indexes were used, as the server itself counts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# counted by this session, in this transaction too; the view pg_stat_user_indexes lags behind
SCANS = text("""
    SELECT index.relname, method.amname IN ('hnsw', 'ivfflat'), pg_stat_get_xact_numscans(index.oid)
    FROM pg_class AS index JOIN pg_am AS method ON method.oid = index.relam
    WHERE index.relkind = 'i' AND index.relnamespace <> 'pg_catalog'::regnamespace
      AND index.relnamespace <> 'pg_toast'::regnamespace
    ORDER BY 2 DESC, 1
""")


@dataclass(frozen=True)
class IndexScans:
    """How often each index was scanned, those on vectors first."""

    counts: Mapping[str, int]
    vectors: frozenset[str]

    def since(self, before: IndexScans) -> IndexScans:
        """Those scanned since ``before``."""
        more = {name: count - before.counts.get(name, 0) for name, count in self.counts.items()}
        return IndexScans({name: count for name, count in more.items() if count > 0}, self.vectors)

    def is_of_vectors(self, name: str | None) -> bool:
        return name in self.vectors

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.counts)

    @property
    def of_vectors(self) -> tuple[str, ...]:
        return tuple(name for name in self.counts if name in self.vectors)


async def index_scans(connection: AsyncConnection) -> IndexScans:
    """The counts as they stand."""
    rows = (await connection.execute(SCANS)).all()
    return IndexScans({name: count for name, _, count in rows}, frozenset(name for name, vectors, _ in rows if vectors))
