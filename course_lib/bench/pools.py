"""How many requests a pool serves while a model thinks: the connection held meanwhile, or given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

from sqlalchemy import URL, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.bench.drawing import draw_pools
from course_lib.bench.report import seconds_text, write_picture, write_table
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine

THINKING = 0.2  # seconds
POOL_SIZE = 5
POOLS = ((POOL_SIZE, 0), (POOL_SIZE, 10))  # pool_size, max_overflow; the second is SQLAlchemy's default
REQUESTS = (20, 100)
PATIENCE = 0.5  # seconds a request waits for a connection where refusals are counted
ASK = text("SELECT id FROM users LIMIT 1")
HEAD = [
    "pool", "requests", "held", "requests/s", "released", "requests/s", "ratio", "refused, held", "refused, released",
]  # fmt: skip

Request = Callable[[AsyncEngine], Awaitable[None]]


@dataclass(frozen=True)
class Served:
    """Seconds until the last of ``requests`` is answered (medians), and how many were refused after PATIENCE."""

    pool_size: int
    max_overflow: int
    requests: int
    held: float
    released: float
    held_refused: int
    released_refused: int

    @property
    def pool(self) -> str:
        return f"{self.pool_size} + {self.max_overflow}"

    @property
    def row(self) -> list[str]:
        rates = [f"{self.requests / seconds:,.0f}" for seconds in (self.held, self.released)]
        times = [seconds_text(self.held), rates[0], seconds_text(self.released), rates[1]]
        refused = [f"{count} of {self.requests}" for count in (self.held_refused, self.released_refused)]
        return [self.pool, str(self.requests), *times, f"{self.held / self.released:.1f}", *refused]


def measure(quick: bool) -> None:
    """Print and write ``bench-results/pools``."""
    asyncio.run(_measure(3 if quick else 10))


async def _measure(runs: int) -> None:
    async with fresh_database("97") as database:
        served = [
            await _serve(database.url, pool_size, max_overflow, requests, runs)
            for pool_size, max_overflow in POOLS
            for requests in REQUESTS
        ]
    notes = [
        f"Each request reads, waits {THINKING * 1000:.0f} ms for a model, and reads again. Medians of {runs} runs.",
        f"Refused: with pool_timeout {PATIENCE} s, as SQLAlchemy raises TimeoutError; otherwise it is 30 s.",
    ]
    title = f"Requests served while a model thinks for {THINKING * 1000:.0f} ms"
    write_table("pools", title, HEAD, [one.row for one in served], {"pools": [asdict(one) for one in served]}, notes)
    names = [f"{one.requests} requests, pool {one.pool}" for one in served]
    held = dict(zip(names, (one.held for one in served), strict=True))
    write_picture("pools", draw_pools(title, held, dict(zip(names, (one.released for one in served), strict=True))))


async def _serve(url: URL, pool_size: int, max_overflow: int, requests: int, runs: int) -> Served:
    def make(pool_timeout: float) -> AsyncEngine:
        return make_engine(url, pool_size=pool_size, max_overflow=max_overflow, pool_timeout=pool_timeout)

    held, failed = await _all_of(make(30), _holding, requests, runs)
    released, more_failed = await _all_of(make(30), _releasing, requests, runs)
    assert failed == more_failed == 0, "30 seconds are enough for everybody"
    _, held_refused = await _all_of(make(PATIENCE), _holding, requests, 1)
    _, released_refused = await _all_of(make(PATIENCE), _releasing, requests, 1)
    return Served(pool_size, max_overflow, requests, held, released, held_refused, released_refused)


async def _all_of(engine: AsyncEngine, request: Request, requests: int, runs: int) -> tuple[float, int]:
    """The median of the seconds until the last is answered, and how many were refused in the last run."""
    seconds, failed = [], 0
    try:
        await asyncio.gather(*(_holding(engine) for _ in range(POOL_SIZE)))  # connects, which is not measured
        for _ in range(runs):
            began = perf_counter()
            answers = await asyncio.gather(*(request(engine) for _ in range(requests)), return_exceptions=True)
            seconds.append(perf_counter() - began)
            failed = sum(isinstance(answer, PoolTimeout) for answer in answers)
            unexpected = [one for one in answers if one is not None and not isinstance(one, PoolTimeout)]
            if unexpected:
                raise unexpected[0]
    finally:
        await engine.dispose()
    return median(seconds), failed


async def _holding(engine: AsyncEngine) -> None:
    """The transaction stays open, and with it the connection out, while the model thinks."""
    async with AsyncSession(engine) as session:
        await session.execute(ASK)
        await asyncio.sleep(THINKING)
        await session.execute(ASK)


async def _releasing(engine: AsyncEngine) -> None:
    """The first session ends before the model is asked."""
    async with AsyncSession(engine) as session:
        await session.execute(ASK)
    await asyncio.sleep(THINKING)
    async with AsyncSession(engine) as session:
        await session.execute(ASK)
