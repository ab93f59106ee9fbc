"""Waits for locks: the server is asked which of the statements that take long stands at one.

A wait shorter than some 50 ms is mostly not seen. To see each, every statement would have to be asked about while it
runs, on a connection beside it: more than the rest of the X-ray costs, for waits that nobody feels.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from course_lib.instruments.stage.observer import Observer
from course_lib.service.xray.record import Lock, Record

LOOK_EVERY = 0.05  # seconds
LONG = 0.03  # seconds: no shorter wait is looked for, and a quick request costs no look


@asynccontextmanager
async def watch_locks(engine: AsyncEngine, under_way: Callable[[], Iterable[Record]]) -> AsyncIterator[None]:
    """For the length of a block, note in each record when one of its statements waits for another session."""
    watching = asyncio.create_task(_watch(engine, under_way))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(engine: AsyncEngine, under_way: Callable[[], Iterable[Record]]) -> None:
    """On a connection of its own, which is opened when there is first something to ask."""
    observer: Observer | None = None
    waits: dict[int, tuple[float, Lock]] = {}  # by process: since when its statement has run, and its wait
    try:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            long = list(_long(under_way()))
            try:
                observer = observer or (await _opened(engine) if long else None)
                blocked = await observer.blockers([pid for _, pid, _ in long]) if observer and long else {}
            except Exception:  # the server is away; whatever is under way will tell its client
                observer, blocked = None, {}
            _note(long, blocked, waits)
    finally:
        if observer is not None:
            with suppress(Exception):
                await observer.close()


async def _opened(engine: AsyncEngine) -> Observer:
    observer = Observer(engine.sync_engine, greenlet_spawn)
    await observer.open()
    return observer


def _long(records: Iterable[Record]) -> Iterable[tuple[Record, int, float]]:
    for record in records:
        for running in list(record.running.values()):
            if record.now() - running.since >= LONG:
                yield record, running.pid, running.since


def _note(long: list[tuple[Record, int, float]], blocked: Iterable[int], waits: dict[int, tuple[float, Lock]]) -> None:
    still = {}
    for record, pid, since in long:
        if pid not in blocked:
            continue
        known = waits.get(pid)
        if known is None or known[0] != since:
            known = (since, Lock(record.now()))
            record.locks.append(known[1])
        known[1].seen = record.now()
        still[pid] = known
    waits.clear()
    waits.update(still)
