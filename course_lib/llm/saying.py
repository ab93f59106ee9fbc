"""What a lesson puts into the model's mouth: answers that a well-behaved model does not give."""

from __future__ import annotations

import json
import re

import httpx2

from .behaviour import Behaviour
from .offline.answerer import Answer
from .offline.api_error import ApiError
from .offline.chat_completions import completion
from .offline.conversation import chat_messages
from .offline.transport import answered

WORD = re.compile(r"\s*\S+|\s+")
"""With the space before it: what counts as a token here, since a tokenizer refuses half a surrogate pair."""


def said(behaviour: Behaviour, request: httpx2.Request) -> httpx2.Response | None:
    """The answer to a chat completion that ``behaviour`` wants said; None where the model is to be asked.

    Messages that the offline model would refuse are refused here too.
    """
    if behaviour.say is None or not request.url.path.endswith("/chat/completions"):
        return None
    body = json.loads(request.read())
    try:
        asked = WORD.findall(" ".join(message.text for message in chat_messages(body)))
    except ApiError as error:
        return httpx2.Response(error.status, json=error.body())
    spoken = Answer(WORD.findall(behaviour.say), len(asked), len(WORD.findall(behaviour.say)), cut_short=False)
    reason = "stop" if behaviour.finish is None else behaviour.finish or None
    return answered(body, completion(body, spoken, reason))
