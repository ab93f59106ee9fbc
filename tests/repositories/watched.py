"""The offline model behind a transport that looks around whenever the model is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2
import openai

from course_lib.llm import OfflineTransport


class Watched(httpx2.AsyncBaseTransport):
    """Counts requests, the most at once, events that were sent and streams that were closed; keeps what ``look`` sees.

    ``pause`` is in seconds, before the answer and before each event.
    """

    def __init__(self, pause: float = 0, look: Callable[[], Any] = lambda: None) -> None:
        self.pause, self.look = pause, look
        self.requests = self.sent = self.closed = self.at_work = self.most = 0
        self.seen: list[Any] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        await self.wait()
        self.at_work -= 1
        response = await OfflineTransport().handle_async_request(request)
        if not response.headers["content-type"].startswith("text/event-stream"):
            return response
        return httpx2.Response(response.status_code, headers=response.headers, stream=Events(response.stream, self))

    async def event(self) -> None:
        self.sent += 1
        await self.wait()

    async def wait(self) -> None:
        self.seen.append(self.look())
        await asyncio.sleep(self.pause)
        self.seen.append(self.look())


class Stalling(Watched):
    """Times out after so many words."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    async def event(self) -> None:
        await super().event()
        if self.sent > self.after + 1:  # the first event names the role
            raise httpx2.ReadTimeout("The read operation timed out")


class Mute(Watched):
    """Embeds, and does not answer: an HTTP status, or an error of the connection's."""

    def __init__(self, error: int | Exception) -> None:
        super().__init__()
        self.error = error

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/chat/completions"):
            return await super().handle_async_request(request)
        if isinstance(self.error, Exception):
            raise self.error
        return httpx2.Response(self.error, json={"error": {"message": "Not now.", "type": "server_error"}})


class Events(httpx2.AsyncByteStream):
    def __init__(self, inner: Any, watch: Watched) -> None:
        self.inner, self.watch = inner, watch

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for event in self.inner:
            await self.watch.event()
            yield event

    async def aclose(self) -> None:
        self.watch.closed += 1


def on(transport: httpx2.AsyncBaseTransport) -> openai.AsyncOpenAI:
    """The SDK's client on this transport, asking once."""
    client = openai.DefaultAsyncHttpx2Client(transport=transport)
    return openai.AsyncOpenAI(api_key="k", base_url="http://offline.invalid/v1", http_client=client, max_retries=0)
