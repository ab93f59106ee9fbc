"""Documents that judges stage for this lesson, and what others see of their passages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from secrets import randbelow, token_hex
from typing import Any
from uuid import UUID

import numpy as np

from course_lib.exercises.lesson_07.scenes.model import vectors_of
from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_user
from course_lib.llm.names import embedding_model
from course_lib.models import DIMENSIONS

DOCUMENT = "SELECT id, title, status, error FROM documents WHERE user_id = :user AND source = :source"
CHUNKS = """
    SELECT c.chunk_index, c.content, c.embedding::text AS embedding, c.embedding_model, c.token_count
    FROM document_chunks AS c JOIN documents AS d ON d.id = c.document_id
    WHERE d.user_id = :user AND d.source = :source ORDER BY c.chunk_index
"""
NEW = "INSERT INTO documents (user_id, source, title, status) VALUES (:user, :source, 'Handbook', 'ready')"
REPLACE = """
    WITH mine AS (SELECT id FROM documents WHERE user_id = :user AND source = :source),
         gone AS (DELETE FROM document_chunks WHERE document_id IN (SELECT id FROM mine)
                  AND chunk_index >= 0 RETURNING 1)
    SELECT count(*) FROM gone
"""
INSERT = """
    INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
    SELECT d.id, r.chunk_index, r.content, 1, CAST(r.embedding AS vector), r.embedding_model FROM documents AS d,
        jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (chunk_index int, content text, embedding text,
                                                       embedding_model text)
    WHERE d.user_id = :user AND d.source = :source
"""

Vectors = Mapping[str, Sequence[float]]


class Shelf:
    """One document of one user, which is there or not."""

    def __init__(self, attempt: Attempt, user: UUID, source: str) -> None:
        self._attempt = attempt
        self.where: dict[str, Any] = {"user": user, "source": source}

    @classmethod
    async def empty(cls, attempt: Attempt) -> Shelf:
        """A new user's place for a document that is not there yet."""
        return cls(attempt, await add_user(attempt), f"it's/{token_hex(3)}_%.md")

    @classmethod
    async def beside(cls, attempt: Attempt, shelf: Shelf, texts: Sequence[str], source: str = "") -> Shelf:
        """Another document of the same user, with these passages and vectors that no model would give them."""
        other = cls(attempt, shelf.where["user"], source or f"it's/{token_hex(3)}_%.md")
        await attempt.sql(NEW, **other.where)
        await other.replace(texts)
        return other

    async def document(self) -> dict[str, Any] | None:
        rows = await self._attempt.sql(DOCUMENT, **self.where)
        return dict(zip(rows.columns, rows[0], strict=True)) if rows else None

    async def chunks(self) -> list[dict[str, Any]]:
        """What others see, by position; an embedding as a list of numbers."""
        rows = await self._attempt.sql(CHUNKS, **self.where)
        found = [dict(zip(rows.columns, row, strict=True)) for row in rows]
        return [row | {"embedding": _as_sent(json.loads(row["embedding"]))} for row in found]

    async def revalue(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """Give the passages with these texts vectors that no model would give them."""
        vectors = {text: a_vector() for text in texts}
        for text, vector in vectors.items():
            await self._attempt.sql(
                "UPDATE document_chunks AS c SET embedding = CAST(:vector AS vector) FROM documents AS d "
                "WHERE d.id = c.document_id AND d.user_id = :user AND d.source = :source AND c.content = :text",
                vector=str(vector), text=text, **self.where,
            )  # fmt: skip
        return vectors

    async def replace(self, texts: Sequence[str], model: str | None = None) -> dict[str, list[float]]:
        """Put other passages in, as another process would; their vectors."""
        vectors = {text: a_vector() for text in texts}
        rows = [
            {"chunk_index": index, "content": text, "embedding": str(vectors[text])}
            | {"embedding_model": model or embedding_model()}
            for index, text in enumerate(texts)
        ]
        await self._attempt.sql(REPLACE, **self.where)
        await self._attempt.sql(INSERT, rows=json.dumps(rows), **self.where)
        return vectors


def _as_sent(vector: list[float]) -> list[float]:
    """The server writes the shortest number that is the same one in 32 bits."""
    return [float(number) for number in np.asarray(vector, dtype=np.float32)]


def a_vector() -> list[float]:
    """Whole numbers, so that what is stored can be compared exactly."""
    return [float(randbelow(200) - 100) for _ in range(8)] + [1.0] * (DIMENSIONS - 8)


def rows_for(texts: Sequence[str], known: Vectors) -> list[dict[str, Any]]:
    """The passages that these texts are to become; vectors that are not ``known`` are the model's."""
    unknown = [text for text in dict.fromkeys(texts) if text not in known]
    vectors = {**known, **dict(zip(unknown, vectors_of(unknown), strict=True))}
    return [
        {"chunk_index": index, "content": text, "embedding": list(vectors[text])}
        | {"embedding_model": embedding_model(), "token_count": len(text.split())}
        for index, text in enumerate(texts)
    ]
