"""The offline answerer: it quotes the passages it is given, and says that this is what it does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .conversation import Message
from .embedding_model import load_model
from .passages import Prompt, read_prompt
from .sentences import rank

NOTICE = "(Quoted by the course's offline stand-in, which is not a language model.)"
NOTHING = (
    "I have nothing to quote: this request holds no passages such as '[1] ...', and I am the course's offline "
    "stand-in, which quotes passages and is not a language model."
)
SECOND = 0.75
"""A second sentence is quoted when it scores at least this share of the best one."""
UNRELATED = 0.2
"""Below this nearness (cosine plus word overlap) even the best sentence is about something else."""
TITLE_WORDS = 6
TITLE_REQUEST = re.compile(
    r"\b(?:write|give|suggest|propose|make|generate|create|find|return|reply|answer|summari[sz]e)\b[^.\n]*\btitle\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """What is sent back: the text in streamable pieces, and the tokens on both sides."""

    pieces: list[str]
    prompt_tokens: int
    completion_tokens: int
    cut_short: bool

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def answer(messages: Sequence[Message], max_tokens: int | None = None) -> Answer:
    """Quote, and count. ``max_tokens`` cuts the answer short, as it does with a language model."""
    model = load_model()
    whole = model.pieces(answer_text(messages))
    pieces = whole if max_tokens is None else whole[:max_tokens]
    return Answer(
        pieces=pieces,
        prompt_tokens=sum(model.count_tokens(message.text) for message in messages),
        completion_tokens=len(pieces),
        cut_short=len(pieces) < len(whole),
    )


def answer_text(messages: Sequence[Message]) -> str:
    """One or two quoted sentences, each followed by its passage's number; or why there are none."""
    prompt = read_prompt(messages)
    if prompt.passages:
        return quotation(prompt)
    return title(messages) or NOTHING


def quotation(prompt: Prompt) -> str:
    passages = [passage for passage in prompt.passages if passage.text]
    ranked = rank(prompt.question, passages) if passages and prompt.question else []
    if not ranked or ranked[0].nearness < UNRELATED:
        count = len(prompt.passages)
        given = "The one passage given does" if count == 1 else f"The {count} passages given do"
        return f"{given} not seem to speak of this. {NOTICE}"
    best = ranked[0].score
    chosen = [item.sentence for item in ranked[:2] if item.score >= SECOND * best]
    quotes = [f'"{item.text}" [{item.passage}]' for item in sorted(chosen, key=lambda item: item.place)]
    return " ".join(quotes) + "\n\n" + NOTICE


def title(messages: Sequence[Message]) -> str | None:
    """Asked to write a title, the first six words of the first thing the user said; else None."""
    said = [message.text for message in messages if message.role == "user"]
    orders = [message.text for message in messages if message.role in ("system", "developer")]
    if not said:
        return None
    topic = said[0]
    if not any(TITLE_REQUEST.search(order) for order in orders):
        if not TITLE_REQUEST.search(said[-1]):
            return None
        # the request and the conversation may share one message: "Write a title for: ..."
        topic = re.split(r":\s*|\n", said[-1], maxsplit=1)[-1] if len(said) == 1 else said[0]
    first = topic.split()[:TITLE_WORDS]
    return " ".join(first).rstrip("?.!,;:") or None
