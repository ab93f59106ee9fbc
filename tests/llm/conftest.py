"""Every test starts without a key, and no test leaves one behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from course_lib.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of somebody without a key, whatever the developer's own says."""
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "COURSE_EMBEDDING_MODEL", "COURSE_CHAT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@dataclass(frozen=True)
class Answer:
    """What a server says in place of vectors: an object for JSON, or a text."""

    status: int
    said: Any


class CompatibleServer(ThreadingHTTPServer):
    """A little OpenAI-compatible server on 127.0.0.1 that remembers what it was asked.

    Its ways: ``home``, where its endpoints are, and what it answers ``elsewhere``; ``most`` texts at once, and what it
    says of ``too_many``; what it says of ``dimensions``, unless it obeys; the length of its vectors, and what their
    first number is for the first text; what it says to everybody; what its chat model ``says``.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.encodings: list[str | None] = []
        self.home, self.elsewhere = "/v1", Answer(404, "404 page not found")
        self.most, self.too_many = 2048, Answer(413, "")
        self.dimensions: Answer | None = None
        self.vector_length = 256
        self.first = 0.0
        self.always: Answer | None = None
        self.says = "an answer"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CompatibleServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers["authorization"])
        self.server.encodings.append(self.headers["accept-encoding"])
        path = self.path.partition("?")[0]
        if (refusal := self.refusal(path, body)) is not None:
            self.send(refusal.said, refusal.status)
        elif path.endswith("/embeddings"):
            self.send(embeddings(body, self.server.vector_length, self.server.first))
        elif body.get("stream"):
            self.send_events(["one ", "two ", "three"])
        else:
            self.send(completion(self.server.says))

    def refusal(self, path: str, body: dict[str, Any]) -> Answer | None:
        server = self.server
        if path.rpartition("/embeddings")[0] != server.home and path.endswith("/embeddings"):
            return server.elsewhere
        if server.dimensions is not None and "dimensions" in body:
            return server.dimensions
        return server.too_many if len(body.get("input", [])) > server.most else server.always

    def send(self, payload: Any, status: int = 200) -> None:
        content = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
        self.send_response(status)
        self.send_header("content-type", "text/html" if isinstance(payload, str) else "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_events(self, words: list[str]) -> None:
        events = [json.dumps(chunk(word)) for word in words] + ["[DONE]"]
        # all in one write, with the line ends some servers use: the client has to take it apart
        content = "".join(f"data: {event}\r\n\r\n" for event in events).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


def embeddings(body: dict[str, Any], length: int, first: float) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = [
        {"object": "embedding", "index": index, "embedding": [first + index] * length} for index, _ in enumerate(texts)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "served", "choices": [choice]}


def chunk(text: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [choice]}


@contextmanager
def running() -> Iterator[CompatibleServer]:
    with CompatibleServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[CompatibleServer]:
    with running() as server:
        yield server


@pytest.fixture
def another() -> Iterator[CompatibleServer]:
    with running() as server:
        yield server
