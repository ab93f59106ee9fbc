"""A model that costs tokens, and that looks while it works at what is reserved and which connections are held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from course_lib.judging.attempt import Attempt
from course_lib.judging.held import held_now
from course_lib.judging.moments import first_of

PATIENCE = 3.0  # seconds for all requests to come to the model; only a wrong answer makes us wait for so long

Meanwhile = Callable[[], Awaitable[Any]]
Used = Callable[[], Awaitable[int]]
"""How many tokens are booked at this moment, as everybody sees it."""


class ModelDown(RuntimeError):
    """The provider did not answer."""


class ModelOverloaded(Exception):
    """The provider refused; of no kind that is more special."""


class MeteredModel:
    """Answers with the same text and the same cost; made for the calls of one user, of whom ``used`` tells.

    Attributes:
        asked: the questions it was given.
        held: connections that were held while it worked.
        seen: what was ``used`` then, before anything happened meanwhile.
        crowd: it answers nobody before each of so many calls has asked or is over.
        missing: how many of the crowd had done neither when patience was at its end.
        fails: the error that it raises instead of answering.
        silent: with ``hangs``, set when it works on an answer that never comes.
    """

    def __init__(self, attempt: Attempt, used: Used, reply: str = "", cost: int = 0, *, crowd: int = 1) -> None:
        self.attempt, self._used = attempt, used
        self.reply, self.cost, self.crowd = reply, cost, crowd
        self.asked: list[Any] = []
        self.held = self.missing = 0
        self.seen: int | None = None
        self.fails: Exception | None = None
        self.hangs = False
        self.silent = asyncio.Event()
        self.meanwhile: Meanwhile | None = None
        self._over = 0
        self._all_here = asyncio.Event()

    async def __call__(self, question: Any) -> tuple[str, int]:
        self.asked.append(question)
        if self.crowd == 1:
            self.held = max(self.held, await held_now(self.attempt))
            self.seen = await self._used()
        await self._wait_for_the_crowd()
        if self.meanwhile:
            await self.meanwhile()
        if self.hangs:
            self.silent.set()
            await asyncio.Event().wait()
        if self.fails:
            raise self.fails
        return self.reply, self.cost

    def one_is_over(self) -> None:
        """A call of the crowd has ended."""
        self._over += 1
        self._count()

    def _count(self) -> int:
        """How many of the crowd are still to come."""
        if (missing := self.crowd - len(self.asked) - self._over) <= 0:
            self._all_here.set()
        return missing

    async def _wait_for_the_crowd(self) -> None:
        self._count()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_here.wait()
        except TimeoutError:
            self.missing = max(self.missing, self._count())
            self._all_here.set()


class Once:
    """What happens once, however many ask for it at the same time; all of them wait until it has."""

    def __init__(self, action: Meanwhile) -> None:
        self._action = action
        self._lock = asyncio.Lock()
        self._done = asyncio.Event()

    async def __call__(self) -> None:
        async with self._lock:
            if not self._done.is_set():
                await self._action()
                self._done.set()

    async def done_or(self, running: asyncio.Future[Any]) -> None:
        """Wait until it has happened, or ``running`` is over."""
        await first_of(running, self._done)
