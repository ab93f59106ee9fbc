"""Transports that put a ``Behaviour`` between the SDK and whatever answers it.

They wrap any transport, ours or a real one, so a lesson that asks for 200 ms of latency or for two
failures runs the same with a real server behind it; delays then come on top of that server's own, and
a failed request never reaches it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import httpx2

from .behaviour import Behaviour
from .saying import said

FAILURES = {
    429: ("Rate limit reached, as this lesson asked.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error, as this lesson asked.", "server_error", None),
}


def read_timeout_s(request: httpx2.Request) -> float | None:
    """Seconds the client is willing to wait for the next bytes; None is for ever."""
    timeout: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeout.get("read")


def within(delay_ms: float, request: httpx2.Request) -> tuple[float, bool]:
    """Seconds to sleep, and whether the client's read timeout has run out by then."""
    delay_s, limit_s = delay_ms / 1000, read_timeout_s(request)
    return (limit_s, True) if limit_s is not None and delay_s > limit_s else (delay_s, False)


async def pause(delay_ms: float, request: httpx2.Request) -> None:
    """Sleep, or raise ReadTimeout at the moment the client's patience ends."""
    seconds, late = within(delay_ms, request)
    if seconds > 0:
        await asyncio.sleep(seconds)
    if late:
        raise httpx2.ReadTimeout("The read operation timed out", request=request)


def pause_sync(delay_ms: float, request: httpx2.Request) -> None:
    """``pause`` for the synchronous client."""
    seconds, late = within(delay_ms, request)
    if seconds > 0:
        time.sleep(seconds)
    if late:
        raise httpx2.ReadTimeout("The read operation timed out", request=request)


def failure(behaviour: Behaviour) -> httpx2.Response:
    """An error answer in OpenAI's JSON shape."""
    status = behaviour.failure_status
    message, kind, code = FAILURES.get(status, (f"Status {status}, as this lesson asked.", "api_error", None))
    error = {"message": message, "type": kind, "param": None, "code": code}
    return httpx2.Response(status, headers=behaviour.retry_headers, json={"error": error})


def altered_embeddings(response: httpx2.Response, behaviour: Behaviour) -> httpx2.Response:
    """The same answer, some vectors missing or all in reversed order; ``response`` has been read."""
    payload = response.json()
    data = payload["data"][: max(0, len(payload["data"]) - behaviour.drop_embeddings)]
    payload["data"] = data[::-1] if behaviour.reverse_embeddings else data
    return httpx2.Response(response.status_code, json=payload)


def is_token(event: bytes) -> bool:
    """Whether a server-sent event carries a piece of the answer's text, in either API."""
    data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")).strip()
    if not data.startswith(b"{"):
        return False
    message: dict[str, Any] = json.loads(data)
    if message.get("type") == "response.output_text.delta":
        return True
    choices = message.get("choices") or [{}]
    return bool((choices[0].get("delta") or {}).get("content"))


class EventSplitter:
    """Bytes in, whole server-sent events out, however the network cut them."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        *events, self.rest = (self.rest + block).replace(b"\r\n", b"\n").split(b"\n\n")
        return [event + b"\n\n" for event in events]


class PacedStream(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A streamed answer, one event at a time, with delays and a broken connection as asked."""

    def __init__(self, inner: Any, behaviour: Behaviour, request: httpx2.Request) -> None:
        self.inner, self.behaviour, self.request = inner, behaviour, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        splitter, tokens = EventSplitter(), itertools.count()
        blocks: AsyncIterable[bytes] = self.inner
        async for block in blocks:
            for event in splitter.feed(block):
                if is_token(event):
                    self.break_if_due(next(tokens))
                    await pause(self.behaviour.token_delay_ms, self.request)
                yield event
        if splitter.rest:
            yield splitter.rest

    def __iter__(self) -> Iterator[bytes]:
        splitter, tokens = EventSplitter(), itertools.count()
        blocks: Iterable[bytes] = self.inner
        for block in blocks:
            for event in splitter.feed(block):
                if is_token(event):
                    self.break_if_due(next(tokens))
                    pause_sync(self.behaviour.token_delay_ms, self.request)
                yield event
        if splitter.rest:
            yield splitter.rest

    def break_if_due(self, tokens_sent: int) -> None:
        if tokens_sent == self.behaviour.break_stream_after:
            # what httpx raises when a server goes away in the middle of a chunked answer
            raise httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body (incomplete chunked read)",
                request=self.request,
            )

    async def aclose(self) -> None:
        await self.inner.aclose()

    def close(self) -> None:
        self.inner.close()


def is_stream(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


def paced(response: httpx2.Response, behaviour: Behaviour, request: httpx2.Request) -> httpx2.Response:
    stream = PacedStream(response.stream, behaviour, request)
    return httpx2.Response(
        response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
    )


class _Counted:
    """What both transports share: the behaviour, and how many requests have been made."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.numbers = itertools.count()

    def alters(self, request: httpx2.Request, response: httpx2.Response) -> bool:
        embeddings = request.url.path.endswith("/embeddings") and response.is_success
        return embeddings and self.behaviour.alters_embeddings


class BehavingTransport(_Counted, httpx2.AsyncBaseTransport):
    """An asynchronous transport that behaves as asked, then lets ``inner`` answer."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, behaviour: Behaviour) -> None:
        super().__init__(behaviour)
        self.inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        number = next(self.numbers)
        await pause(self.behaviour.latency_ms, request)
        if self.behaviour.fails_on(number):
            return failure(self.behaviour)
        request.headers["accept-encoding"] = "identity"  # events cannot be told apart in gzip
        response = said(self.behaviour, request) or await self.inner.handle_async_request(request)
        if self.alters(request, response):
            await response.aread()
            return altered_embeddings(response, self.behaviour)
        return paced(response, self.behaviour, request) if is_stream(response) else response

    async def aclose(self) -> None:
        await self.inner.aclose()


class BehavingTransportSync(_Counted, httpx2.BaseTransport):
    """``BehavingTransport`` for the synchronous client."""

    def __init__(self, inner: httpx2.BaseTransport, behaviour: Behaviour) -> None:
        super().__init__(behaviour)
        self.inner = inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        number = next(self.numbers)
        pause_sync(self.behaviour.latency_ms, request)
        if self.behaviour.fails_on(number):
            return failure(self.behaviour)
        request.headers["accept-encoding"] = "identity"
        response = said(self.behaviour, request) or self.inner.handle_request(request)
        if self.alters(request, response):
            response.read()
            return altered_embeddings(response, self.behaviour)
        return paced(response, self.behaviour, request) if is_stream(response) else response

    def close(self) -> None:
        self.inner.close()
