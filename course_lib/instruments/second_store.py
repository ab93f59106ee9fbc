"""A second store for passages: a file of its own, which no transaction of PostgreSQL spans, and whose calls can fail.

It stands for a vector database or a search engine behind a client: calls go out one by one, an answer can be lost, and
nothing but the caller knows what the other side should hold. Storage is SQLite, the search is exact.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
Trouble: TypeAlias = Callable[[str, UUID, bool], Awaitable[None]]
"""Awaited with the call's name, its document, and whether the call has been applied: before it, and then after it."""

TABLE = """
    CREATE TABLE IF NOT EXISTS passages (
        document_id TEXT, chunk_index INTEGER, embedding BLOB, PRIMARY KEY (document_id, chunk_index)
    ) WITHOUT ROWID
"""
ADD = "INSERT OR REPLACE INTO passages VALUES (?, ?, ?)"


class StoreFailed(RuntimeError):
    """The store did not answer. Whether it did what it was asked for, nobody knows."""


class SecondStore:
    """Passages by document and number, each with a vector.

    Args:
        path: of its file, which is made where it is missing.
        trouble: what happens before and after each change; it may raise StoreFailed, or take its time.
    """

    def __init__(self, path: Path, trouble: Trouble | None = None) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute(TABLE)
        self.trouble = trouble

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    async def upsert(self, document_id: UUID, passages: Iterable[tuple[int, Sequence[float]]]) -> None:
        """Add passages of a document, ``(chunk_index, embedding)`` each, or put them in place of those of that number.

        Its other passages stay as they are.

        Raises:
            StoreFailed: before anything was done, or after all of it was.
        """
        rows = [(str(UUID(str(document_id))), int(index), _bytes_of(vector)) for index, vector in passages]
        await self._change("upsert", document_id, ADD, rows)

    async def delete(self, document_id: UUID) -> None:
        """Remove all passages of a document, if there are any.

        Raises:
            StoreFailed: before anything was done, or after all of it was.
        """
        gone = [(str(UUID(str(document_id))),)]
        await self._change("delete", document_id, "DELETE FROM passages WHERE document_id = ?", gone)

    async def _change(self, what: str, document_id: UUID, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if self.trouble:
            await self.trouble(what, document_id, False)
        self._file.execute("BEGIN IMMEDIATE")
        self._file.executemany(statement, rows)
        self._file.execute("COMMIT")
        if self.trouble:
            await self.trouble(what, document_id, True)

    async def search(self, query: Sequence[float], k: int = 10) -> list[tuple[UUID, int]]:
        """The ``k`` passages with the largest inner product with ``query``, best first: document and number."""
        rows = self._file.execute("SELECT * FROM passages ORDER BY document_id, chunk_index").fetchall()
        if not rows:
            return []
        near = np.stack([np.frombuffer(row[2], np.float32) for row in rows]) @ np.asarray(query, np.float32)
        return [(UUID(rows[place][0]), rows[place][1]) for place in np.argsort(-near, kind="stable")[:k]]

    async def documents(self) -> set[UUID]:
        """The ids of all documents it has passages of."""
        return {UUID(row[0]) for row in self._file.execute("SELECT DISTINCT document_id FROM passages")}

    async def passages(self) -> dict[UUID, dict[int, bytes]]:
        """All it holds: for each document its passages by number, each as the bytes of its float32 numbers."""
        held: dict[UUID, dict[int, bytes]] = {}
        for document, index, vector in self._file.execute("SELECT * FROM passages"):
            held.setdefault(UUID(document), {})[index] = vector
        return held


def _bytes_of(vector: Sequence[float]) -> bytes:
    numbers: Vector = np.asarray(vector, dtype=np.float32)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"An embedding is a row of numbers, and this has the shape {numbers.shape}.")
    return numbers.tobytes()
