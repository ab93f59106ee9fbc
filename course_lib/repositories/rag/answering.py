"""From a prompt to an answer with sources. The model is asked here, and no session is in sight."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from course_lib import llm
from course_lib.repositories.rag.citing import Source, check_citations
from course_lib.repositories.rag.prompt import Budget, Prompt, Said, build_prompt, count_tokens
from course_lib.repositories.rag.search import Passage

if TYPE_CHECKING:
    import openai
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionChunk

NEAR = {"wordllama-l2-256": 0.9}
"""Cosine distance up to which a passage may answer, by the model that was measured.

Of the offline model's: the passage nearest to a golden question is at .7 in the middle and at .86 at the farthest, the
one nearest to a question about other things at .88 in the middle. They overlap, and to say "nothing" where there is
something costs more than to ask the model in vain: so it is a little farther than all golden questions, and saves one
call in four or five of those in vain. For a model that was not measured there is no such distance.
"""

NOTHING = "There is nothing about this in your documents."


@dataclass(frozen=True)
class Usage:
    """Tokens as the model reports them; where it does not, as the offline tokenizer counts them."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Answer:
    """What the model said, and what of it stands on a passage.

    ended: ``stop``, or why the answer is not whole: ``length``, ``content_filter``, ``empty``, ``cut`` by a broken
        connection, ``left`` by who asked; ``nothing`` when no passage was near and no model was asked.
    unknown, invented: numbers it cites and was not given, quotations that are in no passage; left_out: how many
        passages did not fit the prompt.
    """

    text: str
    sources: list[Source]
    usage: Usage
    ended: str = "stop"
    unknown: list[int] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def status(self) -> str:
        """As ``messages.status`` has it."""
        return "complete" if self.ended in ("stop", "nothing") else "aborted"


async def answer(
    question: str,
    passages: Sequence[Passage],
    history: Sequence[Said] = (),
    client: openai.AsyncOpenAI | None = None,
    budget: Budget | None = None,
) -> Answer:
    """Answer from ``passages``, nearest first. Where none is near, the model is not asked.

    Raises:
        openai.OpenAIError: the model did not answer.
    """
    if nothing_near(passages):
        return nothing()
    return await ask_model(build_prompt(question, passages, history, budget), client)


async def stream_answer(
    question: str,
    passages: Sequence[Passage],
    history: Sequence[Said] = (),
    client: openai.AsyncOpenAI | None = None,
    budget: Budget | None = None,
) -> AsyncGenerator[str | Answer, None]:
    """``answer`` in pieces as they come, and the Answer last. See ``stream_model``."""
    if nothing_near(passages):
        yield NOTHING
        yield nothing()
        return
    async with aclosing(stream_model(build_prompt(question, passages, history, budget), client)) as pieces:
        async for piece in pieces:
            yield piece


def nothing_near(passages: Sequence[Passage]) -> bool:
    """Whether none of the passages is near enough to answer, by the distances of the embedding model in force."""
    near = NEAR.get(llm.EMBEDDING_MODEL)
    return not passages or (near is not None and min(passage.distance for passage in passages) > near)


def nothing() -> Answer:
    """The answer where no passage is near. It cost nothing."""
    return Answer(NOTHING, [], Usage(0, 0), ended="nothing")


async def ask_model(prompt: Prompt, client: openai.AsyncOpenAI | None = None) -> Answer:
    """The model's whole answer.

    Raises:
        openai.OpenAIError: there is none: the model is overloaded or too slow, or refuses the request.
    """
    response = await (client or llm.openai_client()).chat.completions.create(
        model=llm.CHAT_MODEL, messages=prompt.messages, max_completion_tokens=prompt.answer_tokens
    )
    if not response.choices:
        return make_answer(prompt, "", "empty", response.usage)
    choice = response.choices[0]
    text = choice.message.content or choice.message.refusal or ""
    return make_answer(prompt, text, choice.finish_reason or "stop", response.usage)


async def stream_model(prompt: Prompt, client: openai.AsyncOpenAI | None = None) -> AsyncGenerator[str | Answer, None]:
    """The model's answer in pieces as they come, and the Answer last. Joined, the pieces are its text.

    A stream that breaks off after the first piece ends with an Answer, too, of what was said. Closing the generator
    closes the connection to the model, which stops it: use ``contextlib.aclosing``, for ``break`` alone does not.

    Raises:
        openai.OpenAIError: the model did not begin to answer.
    """
    import openai

    stream = await (client or llm.openai_client()).chat.completions.create(
        model=llm.CHAT_MODEL,
        messages=prompt.messages,
        max_completion_tokens=prompt.answer_tokens,
        stream=True,
        stream_options={"include_usage": True},
    )
    heard = Heard()
    async with stream:
        try:
            async for chunk in stream:
                if piece := heard.take(chunk):
                    yield piece
        except (openai.OpenAIError, ValueError):  # ValueError: half of a chunk, which is no JSON
            if not heard.text:
                raise
    if piece := heard.rest():
        yield piece
    if not heard.text and heard.ended is None:
        raise openai.APIConnectionError(message="The stream ended before a word.", request=stream.response.request)
    yield heard.answer(prompt)


class Heard:
    """What a stream has said so far."""

    def __init__(self) -> None:
        self.text = ""
        self.ended: str | None = None
        self.usage: CompletionUsage | None = None
        self._half = ""

    def take(self, chunk: ChatCompletionChunk) -> str:
        """The text that ``chunk`` adds, as it can be stored. Half a character waits for its other half."""
        self.usage = chunk.usage or self.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.ended = choice.finish_reason or self.ended
        said = self._half + (choice.delta.content or choice.delta.refusal or "")
        self._half = said[-1:] if "\ud800" <= said[-1:] <= "\udbff" else ""
        return self._add(said.removesuffix(self._half))

    def rest(self) -> str:
        """What still waits when nothing more comes."""
        said, self._half = self._half, ""
        return self._add(said)

    def answer(self, prompt: Prompt) -> Answer:
        """All of it; without a reason why it ended it was cut."""
        return make_answer(prompt, self.text, self.ended or "cut", self.usage)

    def _add(self, said: str) -> str:
        piece = storable(said)
        self.text += piece
        return piece


def make_answer(prompt: Prompt, text: str, ended: str, usage: CompletionUsage | None = None) -> Answer:
    """An Answer whose citations were held against the prompt's passages."""
    text = storable(text)
    if not text.strip() and ended == "stop":
        ended = "empty"
    cited = check_citations(text, prompt.given)
    counted = Usage(usage.prompt_tokens, usage.completion_tokens) if usage else Usage(prompt.tokens, count_tokens(text))
    return Answer(text, cited.sources, counted, ended, cited.unknown, cited.invented, len(prompt.left_out))


def storable(text: str) -> str:
    """The text as PostgreSQL can hold it: without NUL, and with a sign in place of half a surrogate pair."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
