"""``POST /responses``, whole or streamed: the interface the SDK's README puts first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from course_lib.llm.names import OFFLINE_CHAT_MODEL

from .answerer import Answer, answer
from .api_error import check_model
from .conversation import response_messages
from .wire import CREATED, event, fingerprint, refuse_unsupported, token_limit

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "previous_response_id": (None,),
    "conversation": (None,),
    "background": (None, False),
    "prompt": (None,),
    "text": (None, {}, {"format": {"type": "text"}}),
}
"""Parameters the answerer cannot honour: nothing is stored here, and no tool is called."""

ECHOED = ("instructions", "metadata", "max_output_tokens", "temperature", "top_p", "reasoning", "user")


def create_response(body: dict[str, Any]) -> dict[str, Any] | list[bytes]:
    """The answer: one JSON object, or the server-sent events when ``stream`` is true."""
    check_model(body.get("model"), OFFLINE_CHAT_MODEL, "CHAT_MODEL")
    refuse_unsupported(body, UNSUPPORTED)
    found = answer(response_messages(body), token_limit(body, "max_output_tokens"))
    begun, ended = response(body, None), response(body, found)
    return list(stream(begun, ended, found)) if body.get("stream") else ended


def response(body: dict[str, Any], found: Answer | None) -> dict[str, Any]:
    """A response object: in progress without an answer, completed or incomplete with one."""
    status = "in_progress" if found is None else "incomplete" if found.cut_short else "completed"
    mark = fingerprint(body)
    return {
        "id": "resp_" + mark,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": OFFLINE_CHAT_MODEL,
        "output": [] if found is None else [item("msg_" + mark, status, [text_part(found.text)])],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "text": {"format": {"type": "text"}},
        "usage": None if found is None else usage(found),
        **{name: body.get(name) for name in ECHOED},
    }


def stream(begun: dict[str, Any], ended: dict[str, Any], found: Answer) -> Iterator[bytes]:
    """Created, in progress, the message opened, a delta a token, everything closed in turn, completed."""
    message_id = ended["output"][0]["id"]
    where = {"item_id": message_id, "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": item(message_id, "in_progress", [])}),
        ("response.content_part.added", where | {"part": text_part("")}),
        *(("response.output_text.delta", where | {"delta": piece, "logprobs": []}) for piece in found.pieces),
        ("response.output_text.done", where | {"text": found.text, "logprobs": []}),
        ("response.content_part.done", where | {"part": text_part(found.text)}),
        ("response.output_item.done", {"output_index": 0, "item": ended["output"][0]}),
        (f"response.{ended['status']}", {"response": ended}),
    ]
    for number, (kind, fields) in zip(itertools.count(), events, strict=False):
        yield event({"type": kind, "sequence_number": number} | fields, name=kind)


def item(message_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": message_id, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage(found: Answer) -> dict[str, Any]:
    """Tokens by the offline tokenizer; a message's role costs nothing here."""
    return {
        "input_tokens": found.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": found.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": found.prompt_tokens + found.completion_tokens,
    }
