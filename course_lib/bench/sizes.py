"""Bytes by page: the size calculator held against tables and indexes that were built, by dimensions, type and index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.bench.chunk_table import Connection
from course_lib.bench.report import write_picture, write_table
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments import Sizes, index_size, size_steps, sizes_on_disk, table_size
from course_lib.instruments.sizes.calculated import INDEXED, Kind, Method
from course_lib.postgres.address import libpq_uri

DIMENSIONS = (256, 384, 768, 1024, 1536, 2000, 3072)
ROWS, QUICK_ROWS = (500, 2_000, 5_000), (500, 2_000)
MS, QUICK_MS = (8, 16, 32), (16,)
LIMIT = 0.05  # of the measured size
ROWS_A_LIST = 1_000  # as pgvector's README has it
BLOCK = 1_000  # rows, drawn at once
SEED = 10
MEMORY = "256MB"  # maintenance_work_mem; less makes a build slower, and its index no other size
TYPES: Mapping[Kind, tuple[str, str]] = {
    "vector": ("embedding", "vector_cosine_ops"),
    "halfvec": ("embedding", "halfvec_cosine_ops"),
    "bit": ("binary_quantize(embedding)", "bit_hamming_ops"),
}
"""What a column of each type is made of, and the operators of its indexes."""
HEAD = ["dimensions", "type", "part", "calculated", "measured", "bytes a row", "difference"]


@dataclass(frozen=True)
class Compared:
    """A part of a table, or an index on it: bytes calculated and measured."""

    rows: int
    dimensions: int
    kind: str
    part: str
    calculated: int
    measured: int

    @property
    def difference(self) -> float:
        """As a share of the measured size; above zero where too much was calculated."""
        return self.calculated / self.measured - 1

    @property
    def row(self) -> list[str]:
        sizes = f"{self.calculated:,}", f"{self.measured:,}", f"{self.measured / self.rows:,.0f}"
        broken = " BROKEN" if abs(self.difference) > LIMIT else ""
        return [str(self.dimensions), self.kind, self.part, *sizes, f"{self.difference:+.1%}{broken}"]


def measure(quick: bool) -> None:
    """Build, compare, print and write ``bench-results/sizes``."""
    rows = QUICK_ROWS if quick else ROWS
    found, refused = asyncio.run(_measure(rows, QUICK_MS if quick else MS))
    largest = [one for one in found if one.rows == rows[-1]]
    title = f"Bytes calculated from the layout, and measured, of {rows[-1]:,} rows"
    notes = [_worst(found, count) for count in rows] + [f"Refused by both: {', '.join(refused)}."]
    notes.append("HNSW built with the least ef_construction for its m; random vectors, all of them different.")
    content = {"compared": [asdict(one) for one in found], "limit": LIMIT, "refused": refused}
    write_table("sizes", title, HEAD, [one.row for one in largest], content, notes)
    write_picture("sizes", size_steps(_dots(largest)))


def _worst(found: Sequence[Compared], rows: int) -> str:
    these = [one for one in found if one.rows == rows]
    worst = max(these, key=lambda one: abs(one.difference))
    within = sum(abs(one.difference) <= LIMIT for one in these)
    where = f"{worst.dimensions} dimensions, {worst.kind}, {worst.part}"
    return f"{rows:,} rows: {within} of {len(these)} within {LIMIT:.0%}; the worst {worst.difference:+.1%}, {where}."


def _dots(found: Sequence[Compared]) -> dict[str, dict[int, float]]:
    dots: dict[str, dict[int, float]] = {}
    for one in found:
        if one.part == "hnsw, m 16":
            dots.setdefault(one.kind, {})[one.dimensions] = one.measured / one.rows
    return dots


async def _measure(rows: Sequence[int], ms: Sequence[int]) -> tuple[list[Compared], list[str]]:
    found: list[Compared] = []
    refused: list[str] = []
    for count in rows:
        for each in DIMENSIONS:
            async with tables(count, each) as (engine, connection):
                for kind in TYPES:
                    found += await compare_table(engine, connection, count, each, kind)
                    found += await compare_indexes(connection, count, each, kind, ms, refused)
    return found, list(dict.fromkeys(refused))


@asynccontextmanager
async def tables(rows: int, dimensions: int) -> AsyncIterator[tuple[AsyncEngine, Connection]]:
    """A database whose table ``source`` holds that many random vectors; dropped at the end."""
    async with fresh_database("98", "empty") as database:
        engine = make_engine(database.url)
        connection = await asyncpg.connect(libpq_uri(database.url))
        try:
            await register_vector(connection)
            await connection.execute(f"SET maintenance_work_mem = '{MEMORY}'")
            await connection.execute(f"CREATE TABLE source (id bigint, embedding vector({dimensions}))")
            draw = np.random.Generator(np.random.PCG64(SEED))
            for start in range(0, rows, BLOCK):
                block = draw.standard_normal((min(BLOCK, rows - start), dimensions), dtype=np.float32)
                records = list(enumerate(block, start))
                await connection.copy_records_to_table("source", records=records, columns=["id", "embedding"])
            yield engine, connection
        finally:
            await connection.close()
            await engine.dispose()


async def compare_table(
    engine: AsyncEngine, connection: Connection, rows: int, dimensions: int, kind: Kind
) -> list[Compared]:
    """The table ``of_…`` with the source's vectors as ``kind``, filled by INSERT: a COPY leaves empty pages behind."""
    name, made = f"of_{kind}", TYPES[kind][0]
    await connection.execute(f"CREATE TABLE {name} (id bigint, embedding {kind}({dimensions}))")
    await connection.execute(f"INSERT INTO {name} SELECT id, ({made})::{kind}({dimensions}) FROM source")
    measured = await sizes_on_disk(engine, name)
    calculated = table_size(rows, dimensions, kind)
    return [
        Compared(rows, dimensions, kind, part, calculated.parts[part], size)
        for part, size in measured.parts.items()
        if size
    ]


async def compare_indexes(
    connection: Connection, rows: int, dimensions: int, kind: Kind, ms: Sequence[int], refused: list[str]
) -> list[Compared]:
    """HNSW with each of ``ms``, and IVFFlat, on that table. What is too long goes to ``refused``, if both refuse it.

    Raises:
        AssertionError: one of the two takes what the other refuses.
    """
    lists = max(1, rows // ROWS_A_LIST)
    cases: list[tuple[Method, str, Mapping[str, int]]] = [
        *(("hnsw", f"m {m}", {"m": m, "ef_construction": max(4, 2 * m)}) for m in ms),
        ("ivfflat", f"{lists} lists", {"lists": lists}),
    ]
    found = []
    for method, words, options in cases:
        size = await _built(connection, kind, method, options)
        calculated = _calculated(rows, dimensions, kind, method, options)
        assert (size is None) == (calculated is None), f"{method} on {kind}({dimensions}): one takes it"
        if size is None or calculated is None:
            refused.append(f"{method} of {kind} with {dimensions:,} dimensions (at most {INDEXED[kind]:,})")
        else:
            found.append(Compared(rows, dimensions, kind, f"{method}, {words}", calculated.total, size))
    return found


async def _built(connection: Connection, kind: Kind, method: Method, options: Mapping[str, int]) -> int | None:
    """Bytes of an index that is built and dropped; None where pgvector refuses it."""
    settings = ", ".join(f"{name} = {value}" for name, value in options.items())
    try:
        await connection.execute(
            f"CREATE INDEX subject ON of_{kind} USING {method} (embedding {TYPES[kind][1]}) WITH ({settings})"
        )
    except asyncpg.PostgresError:
        return None
    size = await connection.fetchval("SELECT pg_relation_size('subject')")
    await connection.execute("DROP INDEX subject")
    return int(size)


def _calculated(rows: int, dimensions: int, kind: Kind, method: Method, options: Mapping[str, int]) -> Sizes | None:
    chosen = {name: value for name, value in options.items() if name in ("m", "lists")}
    try:
        return index_size(rows, dimensions, kind, method, **chosen)
    except CourseError:
        return None
