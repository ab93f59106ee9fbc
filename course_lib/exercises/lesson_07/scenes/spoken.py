"""A model that says what a judge wants it to say, and the text of what it was sent."""

from __future__ import annotations

from typing import Any

import httpx2

from course_lib.exercises.lesson_07.scenes.model import Model, Request
from course_lib.judging.attempt import Attempt
from course_lib.llm.behaviour import Behaviour
from course_lib.llm.names import OFFLINE_URL
from course_lib.llm.saying import said


def saying(attempt: Attempt, text: str) -> Model:
    """A model whose every answer is ``text``."""

    async def answer(asked: Request) -> httpx2.Response | None:
        return said(Behaviour(say=text), httpx2.Request("POST", f"{OFFLINE_URL}{asked.path}", json=asked.body))

    return Model(attempt, answer, looks=False)


def prompt_of(model: Model) -> str:
    """The text of all messages of its last request; empty where there was none."""
    messages = model.requests[-1].body.get("messages", []) if model.requests else []
    return "\n\n".join(_text(message.get("content")) for message in messages)


def _text(content: Any) -> str:
    if isinstance(content, list):  # of parts
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
