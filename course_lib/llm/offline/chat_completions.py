"""``POST /chat/completions``, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from course_lib.llm.names import OFFLINE_CHAT_MODEL

from .answerer import Answer, answer
from .api_error import bad_request, check_model
from .conversation import chat_messages
from .wire import CREATED, event, fingerprint, refuse_unsupported, token_limit

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "n": (None, 1),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
}
"""Parameters the answerer cannot honour, each with the values that ask nothing of it."""


def create_completion(body: dict[str, Any]) -> dict[str, Any] | list[bytes]:
    """The answer: one JSON object, or the server-sent events when ``stream`` is true."""
    check_model(body.get("model"), OFFLINE_CHAT_MODEL, "CHAT_MODEL")
    refuse_unsupported(body, UNSUPPORTED)
    limit = token_limit(body, "max_completion_tokens", "max_tokens")
    options = body.get("stream_options") or {}
    if options and not body.get("stream"):
        raise bad_request("'stream_options' needs stream=True.", param="stream_options")
    found = answer(chat_messages(body), limit)
    return completion(body, found, finish_reason(found))


def completion(body: dict[str, Any], found: Answer, reason: str | None) -> dict[str, Any] | list[bytes]:
    """``found`` as the request wants it, with the reason why it ended."""
    completion_id = "chatcmpl-" + fingerprint(body)
    if body.get("stream"):
        options = body.get("stream_options") or {}
        return list(chunks(completion_id, found, reason, with_usage=bool(options.get("include_usage"))))
    message: dict[str, Any] = {"role": "assistant", "content": found.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return envelope(completion_id, "chat.completion", [choice]) | {"usage": usage(found)}


def chunks(completion_id: str, found: Answer, ended: str | None, *, with_usage: bool) -> Iterator[bytes]:
    """Role, one event a token, the reason it ended, the usage if asked for, and [DONE]."""
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        *(({"content": piece}, None) for piece in found.pieces),
        ({}, ended),
    ]
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        yield event(envelope(completion_id, "chat.completion.chunk", [choice]) | extra)
    if with_usage:
        yield event(envelope(completion_id, "chat.completion.chunk", []) | {"usage": usage(found)})
    yield b"data: [DONE]\n\n"


def envelope(completion_id: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": completion_id,
        "object": kind,
        "created": CREATED,
        "model": OFFLINE_CHAT_MODEL,
        "choices": choices,
    }


def finish_reason(found: Answer) -> str:
    return "length" if found.cut_short else "stop"


def usage(found: Answer) -> dict[str, Any]:
    """Tokens by the offline tokenizer; a message's role costs nothing here."""
    return {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "total_tokens": found.prompt_tokens + found.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
