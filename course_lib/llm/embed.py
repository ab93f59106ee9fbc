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
from .names import embedding_model

BATCH_TEXTS = 512
BATCH_BYTES = 250_000
"""OpenAI takes 300,000 tokens a request, and a token of its models covers at least one byte."""


async def embed_texts(texts: Sequence[str], *, client: openai.AsyncOpenAI | None = None) -> NDArray[np.float32]:
    """Vectors of ``texts`` in their order, shape (len(texts), 256), float32, through the SDK in batches.

    Raises CourseError when the server returns another number of vectors than asked for or vectors of
    another length, and the SDK's own errors, such as ``openai.BadRequestError`` for an empty text.
    """
    check_all_sendable(texts, "texts")
    client = client or openai_client()
    model = embedding_model()
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    for start, batch in batches(texts):
        response = await client.embeddings.create(model=model, input=batch, dimensions=DIMENSIONS)
        data = sorted(response.data, key=lambda item: item.index)
        if [item.index for item in data] != list(range(len(batch))):
            raise CourseError(
                f"{model} returned {len(data)} vectors for {len(batch)} texts, so none of them was used.",
                "Run it again; if it stays so, the server does not follow OpenAI's embeddings API.",
            )
        rows = np.asarray([item.embedding for item in data], dtype=np.float32)
        if rows.shape[1:] != (DIMENSIONS,):
            raise CourseError(
                f"{model} returned vectors that are not {DIMENSIONS} long, and the tables hold {DIMENSIONS}.",
                "Set COURSE_EMBEDDING_MODEL to a model that obeys dimensions=256.",
            )
        vectors[start : start + len(batch)] = rows
    return vectors


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
