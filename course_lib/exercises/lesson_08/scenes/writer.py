"""A model that writes token by token, and that sees what becomes of its tokens: whether the client has them yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from course_lib.judging.attempt import Attempt
from course_lib.judging.held import held_now

LOOKS, PAUSE = 100, 0.005  # for a client to have what was said; only a wrong answer makes us wait for so long


class ModelDown(RuntimeError):
    """The provider broke off."""


class Writer:
    """Made for one answer.

    Attributes:
        tokens: what it says.
        made: how many it was asked for so far.
        got: how many the client has, see ``received``.
        held: the greatest number of the learner's connections that were held while it was at work.
        too_soon: the first token that it was asked for before the client had the one before, counted from 1.
        fails_after: so many tokens, then it raises; None for an answer that comes to its end.
        leaves_after: so many tokens, then the client leaves, and the next one takes long.
        at_first: awaited when it is asked; at_last: when it has nothing more to say.
    """

    def __init__(self, attempt: Attempt, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self.questions: list[Any] = []
        self.made = self.got = self.held = 0
        self.too_soon: int | None = None
        self.fails_after: int | None = None
        self.leaves_after: int | None = None
        self.at_first: Callable[[], Awaitable[Any]] | None = None
        self.at_last: Callable[[], Awaitable[Any]] | None = None
        self._attempt = attempt

    async def __call__(self, question: Any) -> AsyncIterator[str]:
        self.questions.append(question)
        if self.at_first:
            await self.at_first()
        for place, token in enumerate(self.tokens):
            await self._works(place)
            self.made += 1
            yield token
        await self._works(len(self.tokens))
        if self.at_last:
            await self.at_last()

    async def _works(self, place: int) -> None:
        self.held = max(self.held, await held_now(self._attempt))
        if place == self.leaves_after:
            for _ in range(LOOKS):  # who notices that the client has left is cancelled here
                await asyncio.sleep(PAUSE)
        else:
            await self._until_the_client_has(place)
        if place == self.fails_after:
            raise ModelDown("the provider broke off")

    async def _until_the_client_has(self, count: int) -> None:
        looks = 0
        while self.got < count and self.too_soon is None and self.leaves_after is None:
            await asyncio.sleep(PAUSE if looks > LOOKS // 4 else 0)
            looks += 1
            if looks > LOOKS:
                self.too_soon = count + 1

    def received(self, said: bytes) -> None:
        """The client has so much of the response."""
        whole = b""
        for count, token in enumerate(self.tokens, 1):
            whole += token.encode()
            if said.startswith(whole):
                self.got = max(self.got, count)
