"""The offline model behind a transport that remembers what reached it, and that can be told to do something first."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from course_lib.judging.attempt import Attempt
from course_lib.judging.held import held_now
from course_lib.llm.client import OFFLINE_URL, PLACEHOLDER_KEY
from course_lib.llm.offline.transport import OfflineTransport

IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


@dataclass
class Request:
    """One that came through the client's transport, whatever became of it. Times are ``time.monotonic``'s."""

    path: str
    body: dict[str, Any]
    at_work: int
    """How many were under way when it came, itself too."""
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def inputs(self) -> list[str]:
        """The texts of a request for embeddings."""
        given = self.body.get("input", [])
        return [given] if isinstance(given, str) else list(given)


Before = Callable[[Request], Awaitable[httpx2.Response | None]]


class Model(httpx2.AsyncBaseTransport):
    """What a learner's ``client`` asks.

    Attributes:
        client: the SDK's client; a request that fails is not sent again by itself.
        requests: all that came, in their order.
        before: awaited first for every request; a response that it returns is the answer.
        held: the greatest number of the learner's connections that were held while it was asked, if it ``looks``.
        transactions: the same for open transactions, of whatever engine.
    """

    def __init__(self, attempt: Attempt, before: Before | None = None, *, looks: bool = True) -> None:
        self.client = openai.AsyncOpenAI(
            api_key=PLACEHOLDER_KEY, base_url=OFFLINE_URL, max_retries=0,
            http_client=openai.DefaultAsyncHttpx2Client(transport=self, trust_env=False),
        )  # fmt: skip
        self.before = before
        self.looks = looks
        self._attempt = attempt
        self._offline = OfflineTransport()
        self._at_work = 0
        self.forget()

    def forget(self) -> None:
        """What came so far."""
        self.requests: list[Request] = []
        self.held = self.transactions = 0

    @property
    def inputs(self) -> list[str]:
        """All texts that were sent to be embedded."""
        return [text for request in self.requests for text in request.inputs]

    @property
    def most(self) -> int:
        """How many requests were under way at once."""
        return max((request.at_work for request in self.requests), default=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self._at_work += 1
        asked = Request(request.url.path.removeprefix("/v1"), json.loads(request.content or b"{}"), self._at_work)
        self.requests.append(asked)
        try:
            if self.looks:
                await self._look()
            response = await self.before(asked) if self.before else None
            return response or await self._offline.handle_async_request(request)
        finally:
            self._at_work -= 1
            asked.ended = time.monotonic()

    async def _look(self) -> None:
        self.held = max(self.held, await held_now(self._attempt))
        self.transactions = max(self.transactions, await self._attempt.value(IN_TRANSACTION))


def refusal(status: int, message: str, retry_after: float | None = None) -> httpx2.Response:
    """An error in OpenAI's shape; of a 429, with the seconds after which one may come again."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return httpx2.Response(status, headers=headers, json={"error": {"message": message, "type": "requests"}})
