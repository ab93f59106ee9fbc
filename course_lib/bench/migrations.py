"""How long somebody else waits while a migration runs: the longest wait of a reader, a writer and an inserter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from course_lib.bench.report import Measurement, write_report
from course_lib.bench.traffic import FILL
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine
from course_lib.instruments import Traffic

ROWS, BATCH = 100_000, 500
OPEN_SECONDS = 1.0  # for which somebody's reading transaction stays open
RETRY = 0.1  # seconds between two tries

Migration = Callable[[AsyncEngine], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A migration, what puts the table back as it was, and whether somebody else is reading meanwhile."""

    migrate: Migration
    undo: str = ""
    behind_a_reader: bool = False


def measure(quick: bool) -> None:
    """Print and write ``bench-results/migrations``."""
    asyncio.run(_measure(2 if quick else 5))


async def _measure(runs: int) -> None:
    async with fresh_database("98") as database:
        engine = make_engine(database.url)
        try:
            async with engine.begin() as connection:
                await connection.execute(text(FILL), {"rows": ROWS})
                await connection.execute(text(NULLABLE))
            found = [one for what, case in CASES.items() for one in await _waits(engine, what, case, runs)]
        finally:
            await engine.dispose()
    write_report("migrations", f"Longest wait of others while {ROWS:,} rows are migrated", found)


async def _waits(engine: AsyncEngine, what: str, case: Case, runs: int) -> list[Measurement]:
    waits: dict[str, list[float]] = {"reader": [], "writer": [], "inserter": []}
    errors = 0
    for _ in range(runs):
        async with Traffic(engine, "messages") as traffic:
            if case.behind_a_reader:
                await _behind_a_reader(engine, case.migrate)
            else:
                await case.migrate(engine)
        errors += sum(one.total() for one in traffic.errors.values())
        for name, seconds in waits.items():
            seconds.append(traffic.longest_wait[name])
        if case.undo:
            async with engine.begin() as connection:
                await connection.execute(text(case.undo))
    note = f"{errors} errors of others" if errors else ""
    return [Measurement.of(f"{what}: {name}", seconds, note=note) for name, seconds in waits.items()]


async def _behind_a_reader(engine: AsyncEngine, migrate: Migration) -> None:
    async with engine.connect() as reader:
        await reader.execute(text("SELECT 1 FROM messages LIMIT 1"))
        migration = asyncio.ensure_future(migrate(engine))
        await asyncio.sleep(OPEN_SECONDS)
        await reader.rollback()
        await migration


def _statements(*statements: str, concurrently: bool = False) -> Migration:
    """One transaction, or none where CONCURRENTLY is wanted."""

    async def migrate(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            if concurrently:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in statements:
                await connection.execute(text(statement))
            await connection.commit()

    return migrate


def _one_after_the_other(*statements: str) -> Migration:
    return _statements(*statements, concurrently=True)


async def _retrying(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        while not await _added(connection):  # noqa: ASYNC110 - nobody tells when a lock is free
            await asyncio.sleep(RETRY)


async def _added(connection: AsyncConnection) -> bool:
    try:
        await connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        await connection.execute(text(ADD))
        await connection.commit()
    except DBAPIError:
        await connection.rollback()
        return False
    return True


async def _in_batches(engine: AsyncEngine) -> None:
    last: UUID | None = UUID(int=0)
    while last is not None:
        async with engine.begin() as connection:
            last = await connection.scalar(text(NEXT), {"last": last, "batch": BATCH})
        await asyncio.sleep(0.002)


ADD, DROP = "ALTER TABLE messages ADD COLUMN of_bench text", "ALTER TABLE messages DROP COLUMN of_bench"
NEXT = """
WITH batch AS (SELECT id FROM messages WHERE id > :last ORDER BY id LIMIT :batch),
     done AS (UPDATE messages SET token_count = token_count WHERE id IN (TABLE batch))
SELECT id FROM batch ORDER BY id DESC LIMIT 1
"""
NULLABLE = "ALTER TABLE messages ALTER created_at DROP NOT NULL"
INDEX = "CREATE INDEX {} of_bench ON messages (md5(content))"

CASES: dict[str, Case] = {
    "nothing": Case(_statements("SELECT pg_sleep(0.3)")),
    "ADD COLUMN": Case(_statements(ADD), DROP),
    f"ADD COLUMN behind a reader of {OPEN_SECONDS:.0f} s": Case(_statements(ADD), DROP, True),
    "the same, lock_timeout 50 ms and tried again": Case(_retrying, DROP, True),
    "ADD COLUMN DEFAULT uuidv7()": Case(
        _statements("ALTER TABLE messages ADD COLUMN of_bench uuid DEFAULT uuidv7()"), DROP
    ),
    "UPDATE of all rows": Case(_statements("UPDATE messages SET token_count = token_count")),
    f"UPDATE in batches of {BATCH}": Case(_in_batches),
    "CREATE INDEX": Case(_statements(INDEX.format("")), "DROP INDEX of_bench"),
    "CREATE INDEX CONCURRENTLY": Case(_one_after_the_other(INDEX.format("CONCURRENTLY")), "DROP INDEX of_bench"),
    "SET NOT NULL": Case(
        _statements("ALTER TABLE messages ALTER created_at SET NOT NULL"),
        NULLABLE,
    ),
    "NOT NULL … NOT VALID, then VALIDATE": Case(
        _one_after_the_other(
            "ALTER TABLE messages ADD CONSTRAINT of_bench NOT NULL created_at NOT VALID",
            "ALTER TABLE messages VALIDATE CONSTRAINT of_bench",
        ),
        "ALTER TABLE messages DROP CONSTRAINT of_bench",
    ),
    "integer to bigint": Case(
        _statements("ALTER TABLE messages ALTER seq TYPE bigint"), "ALTER TABLE messages ALTER seq TYPE integer"
    ),
}  # fmt: skip
