"""An HTTP transport that answers in this process; no socket is opened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2

from course_lib.llm.names import OFFLINE_CHAT_MODEL, OFFLINE_EMBEDDING_MODEL

from .api_error import ApiError, bad_request
from .chat_completions import create_completion
from .embedding_model import load_model, model_is_loaded
from .embeddings import create_embeddings
from .responses import create_response
from .wire import CREATED, fingerprint

LONG_REQUEST_BYTES = 32_768
"""Longer requests are answered in a thread, so that the event loop stays free, as with a real server."""

Endpoint = Callable[[dict[str, Any]], dict[str, Any] | list[bytes]]


class EventStream(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """Server-sent events, one at a time."""

    def __init__(self, events: list[bytes]) -> None:
        self.events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self.events:
            await asyncio.sleep(0)  # a network would let other tasks run here
            yield event

    def __iter__(self) -> Iterator[bytes]:
        yield from self.events


class OfflineTransport(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """Embeddings, chat completions, responses and the list of models, for either kind of client."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        if model_is_loaded() and len(request.content) <= LONG_REQUEST_BYTES:
            await asyncio.sleep(0)
            return reply(request)
        return await asyncio.to_thread(reply, request)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        return reply(request)


def reply(request: httpx2.Request) -> httpx2.Response:
    """The answer to a request whose body has been read; every failure is OpenAI's error object."""
    try:
        load_model()
        endpoint = endpoint_for(request)
        body = json_body(request)
        return answered(body, endpoint(body))
    except ApiError as error:
        return httpx2.Response(error.status, json=error.body())


def answered(body: dict[str, Any], answer: dict[str, Any] | list[bytes]) -> httpx2.Response:
    """``answer`` to the request with this body, as one JSON object or as events."""
    headers = {"x-request-id": "req_" + fingerprint(body), "openai-processing-ms": "0"}
    if isinstance(answer, list):
        headers["content-type"] = "text/event-stream; charset=utf-8"
        return httpx2.Response(200, headers=headers, stream=EventStream(answer))
    headers["content-type"] = "application/json"
    return httpx2.Response(200, headers=headers, content=json.dumps(answer))


def endpoint_for(request: httpx2.Request) -> Endpoint:
    path = request.url.path.removeprefix("/v1")
    endpoint = ENDPOINTS.get((request.method, path))
    if endpoint is None:
        raise ApiError(
            404,
            f"Invalid URL ({request.method} {request.url.path}): offline there are "
            + ", ".join(f"{method} {known}" for method, known in ENDPOINTS)
            + ".",
        )
    return endpoint


def json_body(request: httpx2.Request) -> dict[str, Any]:
    if request.method == "GET":
        return {}
    try:
        body = json.loads(request.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad_request("We could not parse the JSON body of your request.")
    return body


def list_models(_: dict[str, Any]) -> dict[str, Any]:
    names = (OFFLINE_EMBEDDING_MODEL, OFFLINE_CHAT_MODEL)
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "course"} for name in names]
    return {"object": "list", "data": data}


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/embeddings"): create_embeddings,
    ("POST", "/chat/completions"): create_completion,
    ("POST", "/responses"): create_response,
    ("GET", "/models"): list_models,
}
