"""What the model of 7.2 does before it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

import httpx2

from course_lib.exercises.lesson_07.scenes.model import Request, refusal

PATIENCE = 0.8  # seconds for requests that are sent together to come; only a wrong answer makes us wait for so long
LONG = 2.0  # seconds that the slow request takes, where the others do not come
LONG_ENOUGH, DUE, EARLY = 0.1, 0.7, 0.01  # seconds; share of a wait; seconds that a timer may be early by
AT_WORK = 0.05  # seconds that requests go on for after another one was refused for good
STEPS = 100  # and steps of the loop, since on a slow machine seconds may pass in one


class Together:
    """Answers when so many requests have come; after that, at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._enough = asyncio.Event()

    async def __call__(self, request: Request) -> None:
        if request.at_work >= self.count:
            await asyncio.sleep(0.01)  # for one too many to come
            self._enough.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._enough.wait()
        self._enough.set()


class Busy:
    """Refuses some texts some times, and asks for some silence each time.

    The first requests are answered when as many have come as there are texts to refuse, and then one after the
    other, as ``waits`` has them.

    Attributes:
        began: when requests came, and the first text of each.
        refusals: when each refusal was sent, the seconds that it asked for, and the first text of what was refused.
        stood_still: the seconds of a refusal after which the event loop got to nothing else until the next request.
    """

    def __init__(self, waits: Mapping[str, list[float]]) -> None:
        self._waits = {text: list(seconds) for text, seconds in waits.items()}
        self._order = list(waits)
        self._came: dict[str, int] = {}
        self._together = Together(len(waits))
        self.began: list[tuple[float, str]] = []
        self.refusals: list[tuple[float, float, str]] = []
        self.stood_still: float | None = None
        self._timers: list[tuple[float, float, list[bool]]] = []

    def count(self, text: str) -> int:
        """How many requests for it came."""
        return self._came.get(text, 0)

    async def __call__(self, request: Request) -> httpx2.Response | None:
        first = request.inputs[0] if request.inputs else ""
        self.began.append((request.began, first))
        self._look_at_timers(request.began)
        self._came[first] = self.count(first) + 1
        if first not in self._waits:
            return None
        if self.count(first) == 1:
            await self._together(request)
            await asyncio.sleep(0.02 * self._order.index(first))
        if not self._waits[first]:
            return None
        wait = self._waits[first].pop(0)
        self.refusals.append((time.monotonic(), wait, first))
        if wait >= LONG_ENOUGH:
            self._set_timer(wait)
        return refusal(429, "Rate limit reached.", wait)

    def _set_timer(self, wait: float) -> None:
        """Who waits by the loop's clock, however busy the machine is, lets a timer that is due earlier come first."""
        fired: list[bool] = []
        asyncio.get_running_loop().call_later(DUE * wait, fired.append, True)
        self._timers.append((time.monotonic() + wait, wait, fired))

    def _look_at_timers(self, began: float) -> None:
        for end, wait, fired in self._timers:
            if began >= end - EARLY and not fired:
                self.stood_still = wait


class Slow:
    """Answers the first request when all the others have come, and these at once.

    Attributes:
        others: how many had come when the first one was answered.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._came = 0
        self._all = asyncio.Event()
        self.others = 0

    async def __call__(self, request: Request) -> None:
        self._came += 1
        if self._came == self._count:
            self._all.set()
        if self._came == 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONG):
                    await self._all.wait()
            self.others = self._came - 1


class Refusing:
    """Refuses one text for good, while other requests are under way: they go on until the caller can know of it.

    Attributes:
        refused: when first, of ``time.monotonic``.
    """

    def __init__(self, text: str, status: int) -> None:
        self._text = text
        self._status = status
        self._over = asyncio.Event()
        self.refused = float("inf")

    async def __call__(self, request: Request) -> httpx2.Response | None:
        if self._text in request.inputs:
            await asyncio.sleep(AT_WORK)
            self.refused = min(self.refused, time.monotonic())
            self._over.set()
            return refusal(self._status, "This text is refused.")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._over.wait()
            for _ in range(STEPS):
                await asyncio.sleep(0)
            await asyncio.sleep(AT_WORK)
        except asyncio.CancelledError:  # to close a connection takes time
            await asyncio.sleep(AT_WORK)
            raise
        return None
