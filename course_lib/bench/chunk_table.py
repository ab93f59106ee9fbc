"""The vectors in the product's own tables, with an HNSW index, searched through asyncpg.

Tenants are users. The passages carry a ``tenant_id`` besides, for the ways to filter that need it in the same table.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector
from sqlalchemy import URL

from course_lib.bench.large_server import Memory
from course_lib.bench.points import Found, K, Numbers, Points, Series, Vectors
from course_lib.db import migrate
from course_lib.postgres.address import libpq_uri

M, EF_CONSTRUCTION = 16, 64  # pgvector's defaults, given to every engine
MODEL = "clustered-256"
TABLE, INDEX = "document_chunks", "document_chunks_embedding_hnsw"
PASSAGES = 50  # of a document
CONTENT = "Passage {} of a document that was made for measuring, as long as passages are: a few sentences. " * 3
COLUMNS = [
    "id", "document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model", "tenant_id",
]  # fmt: skip
INDEX_NAMES = re.compile(r"Index (?:Only )?Scan (?:using|on) (\w+)")

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection


@dataclass(frozen=True)
class Built:
    """What it took to fill and to index the table. Seconds and bytes; ``said`` are the server's notices."""

    load: float
    build: float
    index_bytes: int
    table_bytes: int
    said: list[str] = field(default_factory=list)


@asynccontextmanager
async def connected(url: URL) -> AsyncIterator[Connection]:
    """A connection on which vectors travel in binary."""
    connection = await asyncpg.connect(libpq_uri(url))
    try:
        await register_vector(connection)
        yield connection
    finally:
        await connection.close()


async def build_table(connection: Connection, url: URL, points: Points, memory: Memory) -> Built:
    """Load by COPY, then index. That order: loading into a table with an HNSW index takes several times as long."""
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(str(message)))
    await migrate(url)
    await connection.execute(f"ALTER TABLE {TABLE} ADD COLUMN tenant_id integer")
    load = await _load(connection, points)
    await _prepare_builds(connection, memory)
    build = await build_index(connection, INDEX, TABLE)
    await connection.execute(f"ALTER TABLE {TABLE} RESET (parallel_workers)")  # scans get what the server gives them
    await connection.execute("VACUUM ANALYZE")
    index_bytes = await connection.fetchval("SELECT pg_relation_size($1::regclass)", INDEX)
    table_bytes = await connection.fetchval("SELECT pg_table_size($1::regclass)", TABLE)
    return Built(load, build, index_bytes, table_bytes, said)


async def _load(connection: Connection, points: Points) -> float:
    """Users and their documents, then the passages; returns the seconds of these."""
    numbers, counts = np.unique(points.tenants, return_counts=True)
    tenants = list(zip(numbers.tolist(), counts.tolist(), strict=True))
    users = [(user_id(tenant), f"tenant-{tenant}@example.org", f"Tenant {tenant}") for tenant, _ in tenants]
    await connection.copy_records_to_table("users", records=users, columns=["id", "email", "name"])
    documents = [
        (_document_id(tenant, number), user_id(tenant), f"source-{number}", f"Title {number}", "ready")
        for tenant, count in tenants
        for number in range(-(-count // PASSAGES))
    ]
    columns = ["id", "user_id", "source", "title", "status"]
    await connection.copy_records_to_table("documents", records=documents, columns=columns)
    seconds = 0.0
    for rows in _passages(points):
        began = perf_counter()
        await connection.copy_records_to_table(TABLE, records=rows, columns=COLUMNS)
        seconds += perf_counter() - began
    return seconds


def _passages(points: Points) -> Iterator[list[tuple[Any, ...]]]:
    """Rows for COLUMNS in blocks. The id holds the vector's number."""
    ranks = points.ranks
    for start, block in points.blocks():
        tenants = points.tenants[start : start + len(block)].tolist()
        places = ranks[start : start + len(block)].tolist()
        yield [
            (
                UUID(int=number), _document_id(tenant, place // PASSAGES), place % PASSAGES,
                CONTENT.format(number, "", ""), 60, vector, MODEL, tenant,
            )
            for number, (tenant, place, vector) in enumerate(zip(tenants, places, block, strict=True), start)
        ]  # fmt: skip


def user_id(tenant: int) -> UUID:
    """The user who is this tenant."""
    return UUID(int=tenant)


def _document_id(tenant: int, number: int) -> UUID:
    return UUID(int=(tenant << 32) + number)


async def _prepare_builds(connection: Connection, memory: Memory) -> None:
    """All cores: workers, and the leader, which builds too."""
    workers = max(1, (os.cpu_count() or 2) - 1)
    await configure(
        connection, {"maintenance_work_mem": f"{memory.graph}MB", "max_parallel_maintenance_workers": workers}
    )
    await connection.execute(f"ALTER TABLE {TABLE} SET (parallel_workers = {workers})")


async def build_index(connection: Connection, name: str, table: str, where: str = "") -> float:
    """An HNSW index by cosine distance; returns the seconds."""
    began = perf_counter()
    await connection.execute(
        f"CREATE INDEX {name} ON {table} USING hnsw (embedding vector_cosine_ops)"
        f" WITH (m = {M}, ef_construction = {EF_CONSTRUCTION}) {where}"
    )
    return perf_counter() - began


async def configure(connection: Connection, settings: Mapping[str, object]) -> None:
    """Settings of the session."""
    for name, value in settings.items():
        await connection.execute("SELECT set_config($1, $2, false)", name, str(value))


@asynccontextmanager
async def under(connection: Connection, settings: Mapping[str, object]) -> AsyncIterator[None]:
    """Settings for a block, and the session's defaults after it."""
    await configure(connection, settings)
    try:
        yield
    finally:
        for name in settings:
            await connection.execute(f"RESET {name}")


def search_text(where: str = "", table: str = TABLE) -> str:
    """The search for the ids of the K nearest to ``$1``."""
    return f"SELECT id FROM {table} {where} ORDER BY embedding <=> $1 LIMIT {K}"


async def search_all(
    connection: Connection, text: str, queries: Vectors, truth: Numbers, setting: int | None = None
) -> Found:
    """Search for each query by a prepared statement, and compare with ``truth``; a few go before, untimed."""
    statement = await connection.prepare(text)
    for query in queries[:10]:
        await statement.fetch(query)
    series = Series(truth)
    for query in queries:
        began = perf_counter()
        rows = await statement.fetch(query)
        series.note(began, [row[0].int for row in rows])
    return series.found(setting)


async def indexes_used(connection: Connection, text: str, query: Vectors) -> str:
    """The indexes in the search's plan, or ``none``."""
    plan = await connection.fetch("EXPLAIN " + text, query)
    names = [name for (line,) in plan for name in INDEX_NAMES.findall(line)]
    return ", ".join(dict.fromkeys(names)) or "none"
