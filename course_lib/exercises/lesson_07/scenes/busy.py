"""What the model of 7.2 does before it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

import httpx2

from course_lib.exercises.lesson_07.scenes.model import Request, refusal

PATIENCE = 0.8  # seconds for requests that are sent together to come; only a wrong answer makes us wait for so long
AT_WORK = 0.05  # seconds that requests go on for after another one was refused for good


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
        began: when requests came.
        refusals: when each refusal was sent, and the seconds that it asked for.
    """

    def __init__(self, waits: Mapping[str, list[float]]) -> None:
        self._waits = {text: list(seconds) for text, seconds in waits.items()}
        self._order = list(waits)
        self._came: dict[str, int] = {}
        self._together = Together(len(waits))
        self.began: list[float] = []
        self.refusals: list[tuple[float, float]] = []

    def count(self, text: str) -> int:
        """How many requests for it came."""
        return self._came.get(text, 0)

    async def __call__(self, request: Request) -> httpx2.Response | None:
        self.began.append(request.began)
        first = request.inputs[0] if request.inputs else ""
        self._came[first] = self.count(first) + 1
        if first not in self._waits:
            return None
        if self.count(first) == 1:
            await self._together(request)
            await asyncio.sleep(0.02 * self._order.index(first))
        if not self._waits[first]:
            return None
        wait = self._waits[first].pop(0)
        self.refusals.append((time.monotonic(), wait))
        return refusal(429, "Rate limit reached.", wait)


class Refusing:
    """Refuses one text for good, while other requests are under way.

    Attributes:
        refused: when, of ``time.monotonic``.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.refused = float("inf")

    async def __call__(self, request: Request) -> httpx2.Response | None:
        if self._text in request.inputs:
            await asyncio.sleep(AT_WORK)
            self.refused = time.monotonic()
            return refusal(400, "This text is refused.")
        await asyncio.sleep(2 * AT_WORK)
        return None
