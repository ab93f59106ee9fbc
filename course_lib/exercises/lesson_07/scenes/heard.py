"""A client of the model that notes what it was asked, and answers what a judge wants it to say."""

from __future__ import annotations

import json
from typing import Any, Unpack

import httpx2
import openai

from course_lib.llm.behaving import BehavingTransport
from course_lib.llm.behaviour import Behaviour, BehaviourOptions
from course_lib.llm.client import OFFLINE_URL, PLACEHOLDER_KEY
from course_lib.llm.offline.transport import OfflineTransport


class Heard(httpx2.AsyncBaseTransport):
    """What reaches the model through ``client``, which tries nothing twice.

    Attributes:
        asked: the body of each request, those that failed too.
    """

    def __init__(self, **behaviour: Unpack[BehaviourOptions]) -> None:
        self._inner = BehavingTransport(OfflineTransport(), Behaviour(**behaviour))
        self.asked: list[dict[str, Any]] = []
        http = openai.DefaultAsyncHttpx2Client(transport=self, trust_env=False)
        self.client = openai.AsyncOpenAI(api_key=PLACEHOLDER_KEY, base_url=OFFLINE_URL, http_client=http, max_retries=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(json.loads(await request.aread()))
        return await self._inner.handle_async_request(request)

    @property
    def prompt(self) -> str:
        """The text of all messages of the last request."""
        messages = self.asked[-1].get("messages", []) if self.asked else []
        return "\n\n".join(_text(message.get("content")) for message in messages)


def _text(content: Any) -> str:
    if isinstance(content, list):  # of parts
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
