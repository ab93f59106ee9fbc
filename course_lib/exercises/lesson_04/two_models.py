"""What exercise 4.9 gives its learners: a table of passages with room for the vectors of two models."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Column, Integer, MetaData, Table, Text

DIMENSIONS = 16

CREATE = (
    f"""
    CREATE TABLE passages (
        id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        content        text NOT NULL,
        embedding      vector({DIMENSIONS}) NOT NULL,
        embedding_next vector({DIMENSIONS})
    )
    """,
    "CREATE TABLE search_model (current text NOT NULL CHECK (current IN ('old', 'next')))",
    "INSERT INTO search_model VALUES ('old')",
)
"""The tables, as the statement of 4.9 shows them."""

_metadata = MetaData()

passages = Table(
    "passages",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("content", Text, nullable=False),
    Column("embedding", VECTOR(DIMENSIONS), nullable=False),
    Column("embedding_next", VECTOR(DIMENSIONS)),
)
"""The table that is searched, as SQLAlchemy's Core describes it."""

search_model = Table("search_model", _metadata, Column("current", Text, nullable=False))
"""One row that says by which vectors everybody searches: ``old`` or ``next``."""


class EmbeddingFailed(RuntimeError):
    """The service did not answer."""


class Model:
    """An embedding model: ``await model(texts)`` gives a vector for each. Two models have nothing in common.

    Attributes:
        embedded: every text that it gave a vector for, in order.
        before: awaited before each answer, with the texts; what it raises is the model's answer.
    """

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.embedded: list[str] = []
        self.before: Callable[[Sequence[str]], Awaitable[None]] | None = None

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        if isinstance(texts, str):
            raise TypeError("a model takes a list of texts")
        if self.before is not None:
            await self.before(texts)
        self.embedded += texts
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> list[float]:
        chance = random.Random(sha256(f"{self.seed} {text}".encode()).digest())
        return [round(chance.gauss(0, 1), 3) for _ in range(DIMENSIONS)]


def cosine_distance(a: Sequence[float], b: Sequence[float]) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
