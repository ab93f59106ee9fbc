"""Many texts in, their vectors out: what seeding uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import openai
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.texts import check_all_sendable

from . import DIMENSIONS
from .client import openai_client
from .compatible import elsewhere, is_elsewhere, refuses_count, refuses_length, wrong_length
from .names import embedding_model

BATCH_TEXTS = 512
BATCH_BYTES = 250_000
"""OpenAI takes 300,000 tokens a request, and a token of its models covers at least one byte."""

Vectors = NDArray[np.float32]


async def embed_texts(texts: Sequence[str], *, client: openai.AsyncOpenAI | None = None) -> Vectors:
    """Vectors of ``texts`` in their order, shape (len(texts), 256), float32, through the SDK in batches.

    A server that takes fewer texts at once gets fewer; one that refuses ``dimensions`` is asked without, and its
    vectors are taken if they have the right length.

    Raises CourseError when the server returns another number of vectors than asked for or vectors of
    another length, or is no such server; and the SDK's own errors, such as ``openai.BadRequestError`` for an empty
    text.
    """
    check_all_sendable(texts, "texts")
    asking = _Asking(client or openai_client())
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    for start, batch in batches(texts):
        position = 0
        while position < len(batch):
            part = batch[position : position + asking.most]
            rows = await asking.ask(part)
            if rows is not None:
                vectors[start + position : start + position + len(part)] = rows
                position += len(part)
    return vectors


class _Asking:
    """What has been learned about a server: how many texts it takes at once, and whether it takes ``dimensions``."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client
        self.most = BATCH_TEXTS
        self._length: int | openai.Omit = DIMENSIONS

    async def ask(self, texts: list[str]) -> Vectors | None:
        """Their vectors; None where the same is to be asked again, since something was learned from a refusal."""
        model = embedding_model()
        try:
            response = await self.client.embeddings.create(model=model, input=texts, dimensions=self._length)
        except (openai.APIStatusError, ValueError, AttributeError) as error:
            self._learn(error, len(texts))
            return None
        data = sorted(response.data, key=lambda item: item.index)
        if [item.index for item in data] != list(range(len(texts))):
            raise CourseError(
                f"{model} returned {len(data)} vectors for {len(texts)} texts, so none of them was used.",
                "Run it again; if it stays so, the server does not follow OpenAI's embeddings API.",
            )
        rows = np.asarray([item.embedding for item in data], dtype=np.float32)
        if rows.shape[1:] != (DIMENSIONS,):
            raise wrong_length(self.client, rows.shape[-1])
        return rows

    def _learn(self, error: Exception, count: int) -> None:
        """Raise what nothing can be learned from."""
        if is_elsewhere(error):
            raise elsewhere(self.client) from error
        if not isinstance(error, openai.APIStatusError):
            raise error
        if refuses_count(error) and count > 1:
            self.most = count // 2
        elif refuses_length(error) and self._length is not openai.omit:
            self._length, self.most = openai.omit, BATCH_TEXTS
        else:
            raise error


def batches(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of consecutive texts that fit one request, each with the position of its first text."""
    start, size = 0, 0
    for position, text in enumerate(texts):
        length = len(text.encode()) + 1  # a tokenizer may put one token before the text
        if position > start and (position - start == BATCH_TEXTS or size + length > BATCH_BYTES):
            yield start, list(texts[start:position])
            start, size = position, 0
        size += length
    if start < len(texts):
        yield start, list(texts[start:])
