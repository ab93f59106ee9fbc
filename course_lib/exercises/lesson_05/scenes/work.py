"""The slow part of an upload, as the learner's code sees it: a call that answers when the judge says so."""

from __future__ import annotations

import asyncio
import weakref
from secrets import randbelow, token_hex
from typing import Any

Result = dict[str, Any] | Exception


class Work:
    """One upload, what its ``process`` was given, and what it answers.

    What it waits for is referred to by nobody but its own task, as an answer from the network may be: so the garbage
    collector takes the task if the learner's code does not hold it.
    """

    def __init__(self, result: Result) -> None:
        self.source = f"upload/{token_hex(4)}"
        self.title = f"It's upload {token_hex(3)}"
        self.result = result
        self.request: asyncio.Task[Any] | None = None
        self.given: list[Any] = []
        self.called = asyncio.Event()
        self.by_the_request = False
        self._waits: list[weakref.ref[asyncio.Future[Any]]] = []

    async def process(self, document_id: Any) -> Any:
        self.given.append(document_id)
        self.by_the_request = self.by_the_request or asyncio.current_task() is self.request
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waits.append(weakref.ref(answer))
        self.called.set()
        return await answer

    @property
    def lost(self) -> bool:
        return any(wait() is None for wait in self._waits)

    @property
    def begun_by_now(self) -> bool:
        """Whether the request is over, or its work has begun."""
        return self.called.is_set() or (self.request is not None and self.request.done())

    def answer(self) -> None:
        for wait in self._waits:
            answer = wait()
            if answer is None or answer.done():
                continue
            if isinstance(self.result, Exception):
                answer.set_exception(self.result)
            else:
                answer.set_result(self.result)

    def is_right(self, status: str, meta: Any, error: Any) -> bool:
        if isinstance(self.result, Exception):
            return (status, error) == ("failed", str(self.result))
        return (status, meta) == ("ready", self.result)


def successes() -> list[Result]:
    return [{"pages": 1 + randbelow(90), "said": ['it\'s 100% \\ "done"', None, []]}, {}]


def failures() -> list[Result]:
    """One says a lot, one nothing; models and their clients raise whatever they like."""
    return [ConnectionError(f'it\'s {token_hex(3)} % \\ "away" {token_hex(150)}'), Exception()]


def many(count: int) -> list[Result]:
    """Every third one fails."""
    return [KeyError(f"no {token_hex(3)}") if place % 3 == 2 else {"page": place} for place in range(count)]
