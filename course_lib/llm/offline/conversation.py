"""Messages as plain texts, from either of OpenAI's two APIs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .api_error import bad_request

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
TEXT_PARTS = {"text", "input_text", "output_text"}


@dataclass(frozen=True)
class Message:
    """One turn: who said it, and its text."""

    role: str
    text: str


def text_of(content: object, param: str) -> str:
    """The text of a message's content: a string, or a list of text parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad_request(f"Invalid type for '{param}': expected a text or a list of parts.", param=param)
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise bad_request(f"The offline answerer reads text only, and '{param}' holds {kind!r}.", param)
        texts.append(str(part.get("text", "")))
    return "\n".join(texts)


def chat_messages(body: dict[str, Any]) -> list[Message]:
    """``messages`` of a chat completion."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise bad_request("'messages' is needed: a list of one or more messages.", param="messages")
    return [message(item, f"messages[{position}]") for position, item in enumerate(given)]


def response_messages(body: dict[str, Any]) -> list[Message]:
    """``instructions`` and ``input`` of a response."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise bad_request("'input' is needed: a text, or a list of one or more messages.", param="input")
    # a reasoning item is what a model thought to itself; a client sends it back and nobody reads it
    spoken = [item for item in given if not (isinstance(item, dict) and item.get("type") == "reasoning")]
    messages = [message(item, f"input[{position}]") for position, item in enumerate(spoken)]
    instructions = body.get("instructions")
    return [Message("system", str(instructions)), *messages] if instructions else messages


def message(item: object, param: str) -> Message:
    if not isinstance(item, dict) or item.get("type", "message") != "message":
        raise bad_request(f"The offline answerer reads messages only; '{param}' is something else.", param)
    role = item.get("role")
    if role not in ROLES:
        raise bad_request(f"Invalid value: {role!r}. Supported roles: {', '.join(sorted(ROLES))}.", param)
    return Message(str(role), text_of(item.get("content"), f"{param}.content"))
