"""What it costs to be watched: statements with and without the instruments around them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.bench.report import Measurement, write_report
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine
from course_lib.instruments import PoolGauge, QueryLog, Stage, network_delay

STATEMENTS = 200
ONE = text("SELECT name FROM users LIMIT 1")
TEXT = "SELECT name FROM users LIMIT 1"


def measure(quick: bool) -> None:
    """Print and write ``bench-results/instruments``."""
    asyncio.run(_measure(5 if quick else 20))


async def _measure(runs: int) -> None:
    async with fresh_database("98") as database:
        engine = make_engine(database.url)
        try:
            found = [
                await _of("200 statements, bare", runs, lambda: _send(engine)),
                await _of("200 statements in a QueryLog", runs, lambda: _logged(engine), "each with its line of code"),
                await _of("200 sessions of one statement, bare", runs, lambda: _check_out(engine)),
                await _of("200 sessions of one statement in a PoolGauge", runs, lambda: _gauged(engine)),
                await _of("200 statements through network_delay(0)", runs, lambda: _proxied(engine), "starts a proxy"),
                await _of("peer: 200 statements of two sessions by hand", runs, lambda: _by_hand(engine)),
                await _of("200 steps of two actors on a Stage", runs, lambda: _staged(engine), "settles after each"),
            ]
        finally:
            await engine.dispose()
    write_report("instruments", "What it costs to be watched", found)


async def _of(what: str, runs: int, action: Callable[[], Awaitable[None]], note: str = "") -> Measurement:
    await action()  # opens connections and fills caches
    seconds = []
    for _ in range(runs):
        start = perf_counter()
        await action()
        seconds.append(perf_counter() - start)
    return Measurement.of(what, seconds, note=note)


async def _send(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        for _ in range(STATEMENTS):
            await session.execute(ONE)


async def _logged(engine: AsyncEngine) -> None:
    with QueryLog(engine):
        await _send(engine)


async def _check_out(engine: AsyncEngine) -> None:
    for _ in range(STATEMENTS):
        async with AsyncSession(engine) as session:
            await session.execute(ONE)


async def _gauged(engine: AsyncEngine) -> None:
    with PoolGauge(engine):
        await _check_out(engine)


async def _proxied(engine: AsyncEngine) -> None:
    async with network_delay(engine, round_trip_ms=0) as network:
        await _send(network.engine)


async def _by_hand(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as one, AsyncSession(engine) as other:
        for _ in range(STATEMENTS // 2):
            await one.execute(ONE)
            await other.execute(ONE)


async def _staged(engine: AsyncEngine) -> None:
    async with Stage(engine) as stage:
        one, other = stage.actors("one", "other")
        for _ in range(STATEMENTS // 2):
            await one(TEXT)
            await other(TEXT)
