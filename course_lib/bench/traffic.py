"""What traffic costs the block that it surrounds, and how near to the truth its longest wait is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.bench.report import Measurement, write_report
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine
from course_lib.instruments import Traffic

ROWS = 50_000
STATEMENTS = 300
HELD = 0.3  # seconds
FILL = """
INSERT INTO messages (conversation_id, seq, role, content)
SELECT id, 10000 + number, 'user', repeat(md5(number::text), 8)
FROM (SELECT id FROM conversations LIMIT 1) AS one, generate_series(1, :rows) AS number
"""
CROWDS = {"one of each": 1, "three of each": 3}

Block = Callable[[AsyncEngine], Awaitable[None]]


def measure(quick: bool) -> None:
    """Print and write ``bench-results/traffic``."""
    asyncio.run(_measure(3 if quick else 9))


async def _measure(runs: int) -> None:
    async with fresh_database("98") as database:
        engine = make_engine(database.url)
        try:
            async with engine.begin() as connection:
                await connection.execute(text(FILL), {"rows": ROWS})
            found = []
            for what, block in BLOCKS.items():
                found += await _costs(what, engine, block, runs)
            found += await _around(engine, runs)
            found.append(await _truth(engine, runs))
        finally:
            await engine.dispose()
    write_report("traffic", "What traffic costs its block", found)


async def _costs(what: str, engine: AsyncEngine, block: Block, runs: int) -> list[Measurement]:
    """The block alone, and beside workers as a multiple of that."""
    await block(engine)  # opens connections and fills caches
    seconds: dict[str, list[float]] = {"alone": [], **{crowd: [] for crowd in CROWDS}}
    for _ in range(runs):  # by turns, so that what else the machine does meets all alike
        for crowd, many in seconds.items():
            async with AsyncExitStack() as stack:
                if count := CROWDS.get(crowd, 0):
                    traffic = Traffic(engine, "messages", readers=count, writers=count, inserters=count)
                    await stack.enter_async_context(traffic)
                start = perf_counter()
                await block(engine)
                many.append(perf_counter() - start)
    alone = seconds.pop("alone")
    ratios = [
        Measurement.of(f"{what}, beside {crowd}", [one / median(alone) for one in many], unit="times")
        for crowd, many in seconds.items()
    ]
    return [Measurement.of(f"{what}, alone", alone), *ratios]


async def _around(engine: AsyncEngine, runs: int) -> list[Measurement]:
    """How long it takes to begin and to end."""
    beginnings, ends = [], []
    for _ in range(runs):
        start = perf_counter()
        async with Traffic(engine, "messages"):
            inside = perf_counter()
        beginnings.append(inside - start)
        ends.append(perf_counter() - inside)
    note = "of it 0.4 s of work without the block"
    return [Measurement.of("begin", beginnings, note=note), Measurement.of("end", ends)]


async def _truth(engine: AsyncEngine, runs: int) -> Measurement:
    found = []
    for _ in range(runs):
        async with Traffic(engine, "messages") as traffic:
            held = await _lock(engine)
        found.append(traffic.longest_wait["reader"] / held)
    return Measurement.of("a reader's longest wait, of the time the table was locked", found, unit="times")


async def _lock(engine: AsyncEngine) -> float:
    """Seconds from having the lock to having let go of it."""
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
        start = perf_counter()
        await asyncio.sleep(HELD)
        await connection.rollback()
        return perf_counter() - start


async def _small(engine: AsyncEngine) -> None:
    for _ in range(STATEMENTS):
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE users SET tokens_used = tokens_used WHERE email = 'ada@example.org'"))


async def _all(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("UPDATE messages SET token_count = token_count"))
        await connection.rollback()


async def _index(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("CREATE INDEX of_bench ON messages (md5(content))"))
        await connection.rollback()


BLOCKS: dict[str, Block] = {
    f"{STATEMENTS} small transactions": _small,
    f"UPDATE of {ROWS:,} rows": _all,
    f"CREATE INDEX on {ROWS:,} rows": _index,
}
