"""Getting many passages in: every usual way, against COPY by the driver alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
from pgvector.asyncpg import register_vector
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.bench.report import Measurement, write_report
from course_lib.bench.shelves import CHUNKS_PER_DOCUMENT, COLUMNS, new_documents
from course_lib.data.fresh import FreshDatabase, fresh_database
from course_lib.db import copy_rows, make_engine, make_session_factory
from course_lib.models import Document, DocumentChunk, User
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import NewDocument

ROWS = 50_000
SLOW_ROWS, SLOWEST_ROWS = 5_000, 500  # the rate is the same with fewer, and nobody wants to wait
LEAST = 0.9  # of the driver's rate, for the repository
INSERT = "INSERT INTO document_chunks ({}) VALUES ({})"

Row = tuple[Any, ...]
Load = Callable[[Sequence[NewDocument], list[Row]], Awaitable[object]]


@dataclass(frozen=True)
class Way:
    """One way to load. ``makes_documents``: it stores the documents too, so they must not be there."""

    what: str
    load: Load
    rows: int = ROWS
    note: str = ""
    makes_documents: bool = False


def measure(quick: bool) -> None:
    """Print and write ``bench-results/loading``."""
    asyncio.run(_measure(10_000 if quick else ROWS, 3 if quick else 9))


async def _measure(rows: int, runs: int) -> None:
    async with fresh_database("98", "migrated") as database:
        binary, stock = make_engine(database.url, binary_vectors=True), make_engine(database.url)
        driver = await _driver(database)
        try:
            found = await Loading(binary, driver, rows, runs).measure(_ways(binary, stock, driver))
        finally:
            await driver.close()
            await binary.dispose()
            await stock.dispose()
    write_report("loading", f"{rows:,} passages with vectors of 256 dimensions", found)


async def _driver(database: FreshDatabase) -> asyncpg.Connection[Any]:
    from course_lib.postgres.address import libpq_uri

    driver = await asyncpg.connect(libpq_uri(database.url))
    await register_vector(driver)
    return driver


class Loading:
    """Loads again and again into the same tables, emptied before each time. No index on the vectors."""

    def __init__(self, engine: AsyncEngine, driver: asyncpg.Connection[Any], rows: int, runs: int) -> None:
        self.engine, self.driver, self.rows, self.runs = engine, driver, rows, runs
        self.documents = new_documents(rows)

    async def measure(self, ways: list[Way]) -> list[Measurement]:
        """The first three take turns, each first as often, so what else the machine does falls on all alike."""
        fast, rest = ways[:3], ways[3:]
        rates: dict[str, list[float]] = {way.what: [] for way in ways}
        for turn in range(self.runs):
            for place in range(len(fast)):
                way = fast[(turn + place) % len(fast)]
                rates[way.what].append(await self._rate(way))
        for way in rest:
            rates[way.what] = [await self._rate(way) for _ in range(max(2, self.runs // 3))]
        copy = rates[ways[0].what]
        found = [
            Measurement.of(way.what, rates[way.what], None, _note(way, copy, rates[way.what]), "rows/s", True)
            for way in ways
        ]
        return [*found, *(_share(way, copy, rates[way.what]) for way in fast[1:])]

    async def _rate(self, way: Way) -> float:
        """Passages per second, committed."""
        count = min(way.rows, self.rows)
        documents = self.documents[: count // CHUNKS_PER_DOCUMENT]
        ids = await self._prepare(documents, keep=not way.makes_documents)
        rows = [row for document in documents for row in document.rows(ids.get(document.source, UUID(int=0)))]
        start = perf_counter()
        await way.load(documents, rows)
        seconds = perf_counter() - start
        stored = await self.driver.fetchval("SELECT count(*) FROM document_chunks")
        assert stored == len(rows), f"{way.what} stored {stored} of {len(rows)} passages"
        return len(rows) / seconds

    async def _prepare(self, documents: Sequence[NewDocument], keep: bool) -> dict[str, UUID]:
        """Empty tables, and the documents if ``keep``; returns their ids."""
        await self.driver.execute("TRUNCATE documents CASCADE")
        async with self.engine.begin() as connection:
            await connection.execute(delete(User))
            user_id = await connection.scalar(insert(User).values(email="a@example.org", name="A").returning(User.id))
            if not keep:
                return {}
            rows = [{"user_id": user_id, "source": document.source, "title": document.title} for document in documents]
            made = await connection.execute(insert(Document).returning(Document.source, Document.id), rows)
            return {source: key for source, key in made}


def _note(way: Way, copy: list[float], rates: list[float]) -> str:
    slower = median(copy) / median(rates)
    times = "" if rates is copy else f"takes {slower:.2f} times as long" if slower < 10 else f"{slower:.0f} times"
    return ", ".join(part for part in (times, way.note) if part)


def _share(way: Way, copy: list[float], rates: list[float]) -> Measurement:
    share = median(rates) / median(copy)
    rounds = [mine / theirs for mine, theirs in zip(rates, copy, strict=True)]
    note = f"of the medians; in single rounds {min(rounds):.2f} to {max(rounds):.2f}"
    limit = LEAST if way.makes_documents else None
    return Measurement(
        f"{way.what}: of the driver's rate", share, share, share, len(rounds), limit, note, "times", True
    )


def _ways(binary: AsyncEngine, stock: AsyncEngine, driver: asyncpg.Connection[Any]) -> list[Way]:
    async def by_driver_copy(_: Sequence[NewDocument], rows: list[Row]) -> None:
        async with driver.transaction():
            await driver.copy_records_to_table("document_chunks", columns=COLUMNS, records=rows)

    async def by_copy_rows(_: Sequence[NewDocument], rows: list[Row]) -> None:
        async with make_session_factory(binary).begin() as session:
            await copy_rows(session, DocumentChunk, COLUMNS, rows)

    async def by_repository(documents: Sequence[NewDocument], _: list[Row]) -> None:
        async with make_session_factory(binary).begin() as session:
            user_id = await session.scalar(select(User.id))
            assert user_id is not None
            await RagRepository(session).replace(user_id, documents)

    async def by_driver_executemany(_: Sequence[NewDocument], rows: list[Row]) -> None:
        sql = INSERT.format(", ".join(COLUMNS), ", ".join(f"${n + 1}" for n in range(len(COLUMNS))))
        async with driver.transaction():
            await driver.executemany(sql, rows)

    return [
        Way("asyncpg: COPY", by_driver_copy),
        Way("copy_rows", by_copy_rows),
        Way("RagRepository.replace", by_repository, note="stores the documents as well", makes_documents=True),
        Way("asyncpg: executemany", by_driver_executemany),
        Way("Core: executemany, binary", _by_core(binary)),
        Way("ORM: add_all, binary", _by_orm(binary), SLOW_ROWS),
        Way("Core: executemany, vectors as text", _by_core(stock), SLOW_ROWS),
        Way("ORM: add_all, vectors as text", _by_orm(stock), SLOW_ROWS),
        Way("ORM: a commit for each, vectors as text", _by_commits(stock), SLOWEST_ROWS),
    ]


def _by_core(engine: AsyncEngine) -> Load:
    async def load(_: Sequence[NewDocument], rows: list[Row]) -> None:
        async with engine.begin() as connection:
            await connection.execute(insert(DocumentChunk), [dict(zip(COLUMNS, row, strict=True)) for row in rows])

    return load


def _by_orm(engine: AsyncEngine) -> Load:
    async def load(_: Sequence[NewDocument], rows: list[Row]) -> None:
        async with make_session_factory(engine).begin() as session:
            session.add_all([DocumentChunk(**dict(zip(COLUMNS, row, strict=True))) for row in rows])

    return load


def _by_commits(engine: AsyncEngine) -> Load:
    async def load(_: Sequence[NewDocument], rows: list[Row]) -> None:
        sessions = make_session_factory(engine)
        for row in rows:
            async with sessions.begin() as session:
                session.add(DocumentChunk(**dict(zip(COLUMNS, row, strict=True))))

    return load
