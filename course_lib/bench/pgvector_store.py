"""pgvector as a store among others: the product's own table, through psycopg, one statement for each call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from pgvector.psycopg import register_vector
from sqlalchemy import URL

from course_lib.bench.chunk_table import INDEX_NAMES, MODEL, TABLE, user_id
from course_lib.bench.filters import BY_GRAPH
from course_lib.bench.points import K, Numbers, Vectors
from course_lib.bench.stores import Store
from course_lib.postgres.address import libpq_uri

FORCED, PLAIN, ITERATIVE, DOCUMENTED = (
    "HNSW forced, iterative scan off", "HNSW alone, iterative scan off", "HNSW forced, iterative scan",
    "B-tree on the tenant and iterative scan",
)  # fmt: skip
FRESH = UUID(int=1 << 100)  # the document of the rows that come later
INSERT = f"""
    INSERT INTO {TABLE} (id, document_id, chunk_index, content, token_count, embedding, embedding_model, tenant_id)
    VALUES (%s, %s, %s, 'A passage that came later.', 6, %b, %s, %s)
"""
SEARCH = f"SELECT id FROM {TABLE} ORDER BY embedding <=> %b LIMIT {K}"
WITHIN = f"SELECT id FROM {TABLE} WHERE tenant_id = %s ORDER BY embedding <=> %b LIMIT {K}"


class PgvectorStore(Store):
    """One connection. Rows are durable when ``add`` returns: fsync and synchronous_commit are on."""

    name = "pgvector"
    settings = (
        "fsync and synchronous_commit on; hnsw.iterative_scan relaxed_order and a B-tree on the tenant "
        "(https://github.com/pgvector/pgvector#filtering)"
    )
    not_for = "a graph that is larger than memory; searches that must not wait for a server"
    ways = (PLAIN, FORCED, ITERATIVE, DOCUMENTED)

    def __init__(self, url: URL) -> None:
        self.url = url
        self._connection: psycopg.Connection[Any] = psycopg.connect(libpq_uri(url), autocommit=True)
        register_vector(self._connection)
        self._connection.prepare_threshold = 1
        self._set("plan_cache_mode", "force_custom_plan")  # tenants are of all sizes
        self._ef, self._way = 0, ""

    @classmethod
    def open(cls, folder: Path) -> Store:
        raise NotImplementedError("a server is connected to")

    def _set(self, name: str, value: object) -> None:
        self._connection.execute("SELECT set_config(%s, %s, false)", (name, str(value)))

    def add(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        with self._connection.transaction():
            self._insert(ids, block, tenants)

    def add_in_two(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        half = len(ids) // 2
        with self._connection.transaction():
            self._insert(ids[:half], block[:half], tenants[:half])
            raise RuntimeError("the program fails")

    def _insert(self, ids: Numbers, block: Vectors, tenants: Numbers) -> None:
        self._connection.execute(
            "INSERT INTO documents (id, user_id, source, title, status) VALUES (%s, %s, 'fresh', 'Fresh', 'ready')"
            " ON CONFLICT DO NOTHING",
            (FRESH, user_id(1)),
        )
        rows = zip(ids.tolist(), block, tenants.tolist(), strict=True)
        values = [(UUID(int=id), FRESH, id, vector, MODEL, tenant) for id, vector, tenant in rows]
        with self._connection.cursor() as cursor:
            cursor.executemany(INSERT, values)

    def search(self, query: Vectors, ef: int, tenant: int | None = None, way: str = "") -> Sequence[int]:
        self._prepare(ef, way)
        if tenant is None:
            rows = self._connection.execute(SEARCH, (query,), binary=True)
        else:
            rows = self._connection.execute(WITHIN, (tenant, query), binary=True)
        return [row[0].int for row in rows.fetchall()]

    def explain(self, way: str, query: Vectors, tenant: int) -> str:
        self._prepare(self._ef, way)
        plan = self._connection.execute("EXPLAIN " + WITHIN, (tenant, query)).fetchall()
        names = [name for (line,) in plan for name in INDEX_NAMES.findall(line)]
        return ", ".join(dict.fromkeys(names)) or "no index"

    def _prepare(self, ef: int, way: str) -> None:
        if ef != self._ef:
            self._ef = ef
            self._set("hnsw.ef_search", ef)
        if way != self._way:
            self._way = way
            self._set("hnsw.iterative_scan", "relaxed_order" if way in (ITERATIVE, DOCUMENTED) else "off")
            for name in BY_GRAPH:
                self._set(name, "off" if way in (FORCED, ITERATIVE) else "on")
            self._connection.execute(f"DROP INDEX IF EXISTS {TABLE}_tenant")
            if way == DOCUMENTED:
                self._connection.execute(f"CREATE INDEX {TABLE}_tenant ON {TABLE} (tenant_id)")
            self._connection.execute(f"ANALYZE {TABLE}")

    def delete(self, ids: Numbers) -> None:
        self._connection.execute(f"DELETE FROM {TABLE} WHERE id = ANY(%s)", ([UUID(int=id) for id in ids.tolist()],))

    def upkeep(self) -> None:
        self._connection.execute(f"VACUUM ANALYZE {TABLE}")

    def close(self) -> None:
        self._connection.close()

    def count_of(self, ids: Numbers) -> int:
        wanted = [UUID(int=id) for id in ids.tolist()]
        row = self._connection.execute(f"SELECT count(*) FROM {TABLE} WHERE id = ANY(%s)", (wanted,)).fetchone()
        return int(row[0]) if row else 0

    def size(self) -> int:
        """Bytes of the table with its indexes."""
        row = self._connection.execute("SELECT pg_total_relation_size(%s::regclass)", (TABLE,)).fetchone()
        return int(row[0]) if row else 0
