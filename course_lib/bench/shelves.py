"""Documents with clustered vectors for the benches of the tables the course has."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.clustered import Vectors, clustered_vectors
from course_lib.db import make_session_factory
from course_lib.models import User
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import Embeddings, NewDocument

MODEL = "clustered-256"
CHUNKS_PER_DOCUMENT = 50
COLUMNS = ["document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model"]
TENANTS = {"large": 0.6, "middle": 0.3, "tenth": 0.1}
"""Shares of all passages. Beside them ``small`` has 1,000, and ``tiny`` 50."""

_CONTENT = "Passage {} of a document that was made for measuring. It is as long as passages are, a few sentences. " * 3


def new_documents(chunks: int, vectors: Vectors | None = None, prefix: str = "") -> list[NewDocument]:
    """Documents of fifty passages each, ``chunks`` in all."""
    vectors = clustered_vectors(chunks) if vectors is None else vectors
    return [
        NewDocument(
            f"{prefix}{start}",
            f"Title {start}",
            [_CONTENT.format(start + n, "", "") for n in range(min(CHUNKS_PER_DOCUMENT, chunks - start))],
            Embeddings(part := vectors[start : start + CHUNKS_PER_DOCUMENT], MODEL, [60] * len(part)),
        )
        for start in range(0, chunks, CHUNKS_PER_DOCUMENT)
    ]


async def fill(engine: AsyncEngine, chunks: int) -> dict[str, UUID]:
    """Store ``chunks`` passages and a few more for tenants of several sizes; returns their users' ids."""
    vectors = clustered_vectors(chunks)
    ids: dict[str, UUID] = {}
    async with make_session_factory(engine).begin() as session:
        for name, part in _parts(vectors):
            user = User(email=f"{name}@example.org", name=name)
            session.add(user)
            await session.flush()
            ids[name] = user.id
            await RagRepository(session).replace(user.id, new_documents(len(part), part, name))
    return ids


def _parts(vectors: Vectors) -> Iterator[tuple[str, Vectors]]:
    """The vectors come in no order, so any run of them is a fair sample."""
    small, tiny = len(vectors) // 100, CHUNKS_PER_DOCUMENT
    yield "small", vectors[:small]
    yield "tiny", vectors[small : small + tiny]
    rest, start = len(vectors) - small - tiny, small + tiny
    for name, share in TENANTS.items():
        end = start + int(share * rest)
        yield name, vectors[start:end]
        start = end
