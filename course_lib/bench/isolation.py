"""What it costs that each test finds the same rows: five ways, one test at a time and four side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import perf_counter

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.bench.report import Measurement, write_report
from course_lib.data.fresh import FreshDatabase, fresh_database, make_database
from course_lib.db import make_engine
from course_lib.models import Base, User

SIDE_BY_SIDE = 4  # each on a database of its own, as the workers of pytest-xdist are
TABLES = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)

Way = Callable[[AsyncEngine], Awaitable[None]]
"""One test and what leaves the database as the next one wants it."""


def measure(quick: bool) -> None:
    """Print and write ``bench-results/isolation``."""
    asyncio.run(_measure(10 if quick else 60))


async def _measure(runs: int) -> None:
    found = []
    for what, (recipe, way) in WAYS.items():
        for crowd in (1, SIDE_BY_SIDE):
            seconds = await _side_by_side(recipe, way, crowd, runs)
            beside = f", {crowd} side by side" if crowd > 1 else ""
            found.append(Measurement.of(f"{what}{beside}", seconds))
    write_report("isolation", "A test with two rows, and the way back", found)


async def _side_by_side(recipe: str, way: Way, crowd: int, runs: int) -> list[float]:
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(fresh_database("98", recipe)) for _ in range(crowd)]
        each = await asyncio.gather(*(_repeat(database, way, runs) for database in databases))
    return [one for seconds in each for one in seconds]


async def _repeat(database: FreshDatabase, way: Way, runs: int) -> list[float]:
    engine = make_engine(database.url)
    try:
        await way(engine)  # opens connections and fills caches
        seconds = []
        for _ in range(runs):
            start = perf_counter()
            await way(engine)
            seconds.append(perf_counter() - start)
        return seconds
    finally:
        await engine.dispose()


async def _test(session: AsyncSession) -> None:
    """Writes, commits and reads."""
    session.add_all([User(email=f"{name}@of.bench", name=name) for name in ("one", "two")])
    await session.commit()
    assert await session.scalar(text("SELECT count(*) FROM users WHERE email LIKE '%@of.bench'")) == 2


async def _rolled_back(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.begin()
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            await _test(session)
        await connection.rollback()


async def _after(engine: AsyncEngine, *statements: str) -> None:
    async with AsyncSession(engine) as session:
        await _test(session)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def _deleted(engine: AsyncEngine) -> None:
    await _after(engine, *(f'DELETE FROM "{table.name}"' for table in reversed(Base.metadata.sorted_tables)))


async def _truncated(engine: AsyncEngine) -> None:
    await _after(engine, f"TRUNCATE {TABLES} CASCADE")


async def _made_anew(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await _test(session)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)


async def _cloned(_: AsyncEngine) -> None:
    database = await make_database("98")
    engine = make_engine(database.url)
    try:
        async with AsyncSession(engine) as session:
            await _test(session)
    finally:
        await engine.dispose()
        await database.drop()


WAYS: dict[str, tuple[str, Way]] = {
    "a transaction that is rolled back, and savepoints": ("base", _rolled_back),
    "DELETE from each table": ("migrated", _deleted),
    "TRUNCATE … CASCADE": ("migrated", _truncated),
    "drop_all and create_all": ("migrated", _made_anew),
    "a database cloned from a template, and dropped": ("base", _cloned),
}
"""What each database starts from, and the way."""
