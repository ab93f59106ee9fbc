"""People at work on a table while a migration runs: how long they stand at locks, and behind what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from course_lib.db import make_engine
from course_lib.instruments.traffic import Traffic
from course_lib.judging.attempt import Attempt

EDGE = 0.01  # seconds between two phases, so that nobody's request is of both
LOOK_SECONDS = 0.01
WAITING = """
    SELECT pid || ' ' || waitstart AS wait, extract(epoch FROM clock_timestamp() - waitstart)::float AS seconds
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND relation = CAST(:table AS regclass) AND NOT granted
        AND mode = 'AccessExclusiveLock' AND waitstart IS NOT NULL
"""


class Bystanders:
    """A reader and a writer at work on a table, in a process of their own. For ``async with``, and then to be asked."""

    def __init__(self, attempt: Attempt, table: str) -> None:
        self._engine = make_engine(attempt.database.url)
        self._traffic = Traffic(self._engine, table, readers=1, writers=1, inserters=0)
        self._phases: dict[str, tuple[float, float]] = {}
        self._start = 0.0

    async def __aenter__(self) -> Bystanders:
        await self._traffic.__aenter__()
        self._start = time.perf_counter()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._traffic.__aexit__(*error)
        await self._engine.dispose()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens in this block can be asked for by its name."""
        began = time.perf_counter() - self._start
        try:
            yield
        finally:
            self._phases[name] = (began, time.perf_counter() - self._start)
            time.sleep(EDGE)

    def longest(self, phase: str) -> tuple[str, float]:
        """Who stood at a lock for longest in it, and for how many seconds; 0 where nobody did."""
        began, ended = self._phases[phase]
        waits = [
            (request.seconds, lane.name)
            for lane in self._traffic.record.lanes
            for request in lane.during
            if request.at_lock and request.began < ended and request.ended > began
        ]
        seconds, who = max(waits, default=(0.0, "reader"))
        return who, seconds


@dataclass
class Queue:
    """How long a migration stood in a table's queue: seconds of each wait, in their order, as far as they were seen."""

    waits: dict[str, float] = field(default_factory=dict)

    @property
    def longest(self) -> float:
        return max(self.waits.values(), default=0.0)

    @property
    def first(self) -> float:
        return next(iter(self.waits.values()), 0.0)

    async def look(self, attempt: Attempt, table: str) -> None:
        for wait, seconds in await attempt.sql(WAITING, table=table):
            self.waits[wait] = seconds


@asynccontextmanager
async def a_report(attempt: Attempt, table: str) -> AsyncIterator[Callable[[], Coroutine[Any, Any, bool]]]:
    """A transaction that reads the table and stays open; what it yields ends it, and says whether it still could."""
    async with attempt.judge_session() as session:
        await session.execute(text(f"SELECT count(*) FROM {table}"))

        async def end() -> bool:
            try:
                await session.execute(text(f"SELECT count(*) FROM {table}"))
                await session.commit()
            except DBAPIError:
                return False
            return True

        yield end


async def while_it_reads(
    attempt: Attempt, table: str, run: Callable[[], Coroutine[Any, Any, None]], seconds: float, longest: float
) -> tuple[Queue, bool]:
    """``run()`` while a report reads the table for so many seconds; less where it stands in the queue for too long.

    Returns how it queued, and whether the report came to its end.

    Raises:
        Wrong: what ``run`` raises, once the report is over.
    """
    queue, clock = Queue(), time.monotonic
    async with a_report(attempt, table) as end:
        running = asyncio.ensure_future(run())
        start = clock()
        while not running.done() and clock() - start < seconds and queue.longest < longest:
            await queue.look(attempt, table)
            await asyncio.wait({running}, timeout=LOOK_SECONDS)
        ended = await end()
        await running
    return queue, ended


async def one_try(attempt: Attempt, table: str, milliseconds: int) -> float:
    """What a migration that keeps to its limit does to a table that is being read: once, and it gives up.

    Returns for how many seconds it stood in the queue.
    """
    async with attempt.judge_session() as session:
        await session.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
        start = time.monotonic()
        try:
            await session.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        except DBAPIError:
            await session.rollback()
        return time.monotonic() - start
