"""The offline model behind a transport that remembers what reached it, and that can be told to do something first."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from secrets import choice, randbelow, token_hex
from typing import Any

import httpx2

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.held import held_now
from course_lib.llm.names import (
    OFFLINE_CHAT_MODEL,
    OFFLINE_EMBEDDING_MODEL,
    OFFLINE_URL,
    PLACEHOLDER_KEY,
    chat_model,
    embedding_model,
)
from course_lib.llm.offline.embeddings import create_embeddings
from course_lib.llm.offline.transport import reply

WORDS = ("index", "commit", "vector", "lease", "page", "lock", "row", "plan")


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
        reversed: the vectors of an answer come in reversed order, each with its right ``index``.
        before: awaited first for every request; a response that it returns is the answer.
        held: the greatest number of the learner's connections that were held while it was asked, if it ``looks``.
    """

    def __init__(self, attempt: Attempt, before: Before | None = None, *, looks: bool = True) -> None:
        import openai  # takes longer than a check, and who lists exercises asks no model

        self.client = openai.AsyncOpenAI(
            api_key=PLACEHOLDER_KEY, base_url=OFFLINE_URL, max_retries=0,
            http_client=openai.DefaultAsyncHttpx2Client(transport=self, trust_env=False),
        )  # fmt: skip
        self.before = before
        self.looks = looks
        self._attempt = attempt
        self.reversed = False
        self._at_work = 0
        self.forget()

    def forget(self) -> None:
        """What came so far."""
        self.requests: list[Request] = []
        self.held = 0

    @property
    def inputs(self) -> list[str]:
        """All texts that were sent to be embedded."""
        return [text for request in self.requests for text in request.inputs]

    @property
    def at_work(self) -> int:
        """How many requests are under way."""
        return self._at_work

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
                self.held = max(self.held, await held_now(self._attempt))
            response = await self.before(asked) if self.before else None
            return response or self._answered(asked)
        finally:
            self._at_work -= 1
            asked.ended = time.monotonic()

    def _answered(self, asked: Request) -> httpx2.Response:
        """By the offline model, also where the learner's settings name another one."""
        offline = {embedding_model(): OFFLINE_EMBEDDING_MODEL, chat_model(): OFFLINE_CHAT_MODEL}
        model = asked.body.get("model")
        body = asked.body | {"model": offline.get(str(model), model)}
        response = reply(httpx2.Request("POST", f"{OFFLINE_URL}{asked.path}", json=body))
        if self.reversed and response.status_code == 200:
            answer = json.loads(response.content)
            answer["data"] = answer["data"][::-1]
            response = httpx2.Response(200, json=answer)
        return response


def refusal(status: int, message: str, retry_after: float | None = None) -> httpx2.Response:
    """An error in OpenAI's shape; of a 429, with the seconds after which one may come again."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return httpx2.Response(status, headers=headers, json={"error": {"message": message, "type": "requests"}})


def some_texts(count: int) -> list[str]:
    """So many passages that nobody has written yet, awkward ones among them."""
    texts = [f"{token_hex(4)} {' '.join(choice(WORDS) for _ in range(1 + randbelow(9)))}" for _ in range(count)]
    texts[2::7] = [awkward_text() for _ in texts[2::7]]
    return texts


def vectors_of(texts: Sequence[str]) -> list[list[float]]:
    """What the model says of ``texts``, as numbers of 32 bits."""
    if not texts:
        return []
    answer = create_embeddings({"model": OFFLINE_EMBEDDING_MODEL, "input": list(texts)})
    return [item["embedding"] for item in answer["data"]]
