"""Timers that the learner's code sets, and a way to let them run out without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

_watched: ContextVar[Timers | None] = ContextVar("watched", default=None)
ROUNDS = 50  # turns of the event loop, for what a timer sets going


class Timers:
    """Those that were set by what runs within ``watching_timers``, tasks that it made included."""

    def __init__(self) -> None:
        self._set: list[tuple[asyncio.TimerHandle, Callable[..., object], tuple[Any, ...]]] = []

    def add(self, handle: asyncio.TimerHandle, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._set.append((handle, callback, arguments))

    def within(self, seconds: float) -> list[float]:
        """In how many seconds each runs out that does so in the next ``seconds``, soonest first."""
        now = asyncio.get_running_loop().time()
        left = [handle.when() - now for handle, *_ in self._set if not handle.cancelled()]
        return sorted(time for time in left if 0 < time <= seconds)

    async def run_out(self, seconds: float) -> None:
        """Do at once what would happen in so many seconds. What that sets anew is left alone."""
        loop = asyncio.get_running_loop()
        due = sorted((timer for timer in self._set if timer[0].when() > loop.time()), key=lambda timer: timer[0].when())
        last = loop.time() + seconds
        for handle, callback, arguments in due:
            if not handle.cancelled() and handle.when() <= last:
                handle.cancel()
                loop.call_soon(callback, *arguments)
        for _ in range(ROUNDS):
            await asyncio.sleep(0.004)


@contextmanager
def watching_timers() -> Iterator[Timers]:
    """Until the block ends, timers of the running event loop are written down: of ``asyncio.timeout``, ``sleep``, …

    To be opened in a task of the learner's code, so that none of the judge's own is among them. An event
    loop that lets nobody listen, as uvloop's, has none that are known.
    """
    loop, timers = asyncio.get_running_loop(), Timers()
    call_at = loop.call_at

    def noting(when: float, callback: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        handle = call_at(when, callback, *arguments, **more)
        if (mine := _watched.get()) is not None:
            mine.add(handle, callback, arguments)
        return handle

    token = _watched.set(timers)
    with suppress(AttributeError):
        loop.call_at = noting  # type: ignore[method-assign,assignment]
    try:
        yield timers
    finally:
        _watched.reset(token)
        with suppress(AttributeError):
            del loop.call_at
