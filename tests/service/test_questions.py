"""Questions: whole or token by token, and what is stored of them however they end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

QUESTION = "What was the last light of the old lens?"


async def events(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream as they come: name and data."""
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def test_a_question_is_answered_with_sources_and_is_in_its_conversation(ada: httpx2.AsyncClient) -> None:
    response = await ada.post("/questions", json={"question": QUESTION})
    assert response.status_code == 201, response.text
    answered = response.json()
    assert answered["text"] and answered["sources"]
    conversation = (await ada.get(f"/conversations/{answered['conversation_id']}")).json()
    assert [message["role"] for message in conversation["messages"]] == ["user", "assistant"]
    assert conversation["messages"][1]["content"] == answered["text"]
    assert conversation["messages"][1]["sources"]


async def test_a_stream_is_tokens_and_then_what_was_stored(ada: httpx2.AsyncClient) -> None:
    async with ada.stream("POST", "/questions/stream", json={"question": QUESTION}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        got = [event async for event in events(response)]
    assert [name for name, _ in got] == ["token"] * (len(got) - 1) + ["done"]
    assert "".join(data["text"] for _, data in got[:-1]) == got[-1][1]["text"]
