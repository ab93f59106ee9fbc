"""Vectors with the name of the model that made them: those of two models must never be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib import llm

if TYPE_CHECKING:
    import numpy as np
    import openai
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Embedding:
    """One vector, shape (256,), float32."""

    vector: NDArray[np.float32]
    model: str


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of texts in the texts' order, shape (n, 256), float32, and the length of each text in tokens."""

    vectors: NDArray[np.float32]
    model: str
    token_counts: Sequence[int]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, position: int) -> Embedding:
        return Embedding(self.vectors[position], self.model)


async def embed(texts: Sequence[str], client: openai.AsyncOpenAI | None = None) -> Embeddings:
    """Ask the embedding model in force for the vectors of ``texts``, in as many requests as it takes.

    Tokens are the offline model's, whichever model embeds: lengths of texts stay comparable.

    Raises:
        openai.OpenAIError: the model did not answer, or refused a text, such as an empty one.
        CourseError: it returned something else than one vector of 256 numbers for each; ``texts`` is one text, or
            holds half a surrogate pair.
    """
    model = llm.EMBEDDING_MODEL
    vectors = await llm.embed_texts(texts, client=client)
    return Embeddings(vectors, model, count_tokens(texts))


def count_tokens(texts: Sequence[str]) -> list[int]:
    """The length of each text in tokens of the offline model."""
    from course_lib.llm.offline.embedding_model import load_model

    return [len(tokens) for tokens in load_model().token_ids(texts)]


async def embed_question(text: str, client: openai.AsyncOpenAI | None = None) -> Embedding:
    """The vector of one text. Raises what ``embed`` raises."""
    return Embedding((await llm.embed_texts([text], client=client))[0], llm.EMBEDDING_MODEL)
