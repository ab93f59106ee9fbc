"""The recipe "vectors": the seeded database, and beside it a library of 12,000 chunks that four more users share.

The library's vectors are clustered and have nothing to do with the texts or the owners, so that each owner's are
spread over all clusters. Their HNSW index has few links, ``m = 10``: recall@10 is about .80 at the default
``ef_search`` of 40, .94 at 100 and .985 at 200. Built again, each of these moves by .01, since a parallel build adds
the vectors in another order each time. Single queries differ much more: of a hundred, one to three lie where a graph
of few links is hard to get into, in other clusters in every build, and find nothing of their ten even at 200.

What the planner makes of ``… JOIN documents … WHERE user_id = … ORDER BY embedding <=> … LIMIT 10`` at this size, with
the owner's id in the plan: the HNSW index for big, middle and small (4% of the rows; with ``iterative_scan = off`` one
or two rows come back instead of ten), and for tiny the B-trees and a sort, which is exact. A user of 1% would get the
B-trees too. A generic plan, which a prepared statement may get after five executions, does not know the owner and
takes the HNSW index even for tiny.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import URL, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.data import corpus
from course_lib.data.seed import OPENING_DAY, build_base, count_tokens, stable_id
from course_lib.data.seed import fingerprint as base_fingerprint
from course_lib.db import copy_rows, make_engine, make_session_factory
from course_lib.models import Document, DocumentChunk, User

CHUNKS = 12_000
SHARES = {"big": 0.559, "middle": 0.4, "small": 0.04, "tiny": 0.001}
"""Of the library's chunks, by the user's name; the e-mail is ``big@example.org`` and so on."""

MODEL = "clustered-256"
"""In ``embedding_model`` of the library's chunks: their vectors are no texts', and no text is searched for in them."""

INDEX = "document_chunks_embedding_hnsw"
LINKS, EFFORT = 10, 64  # few, and enough that every build comes out with about the same recall
PER_DOCUMENT = 30
COLUMNS = ("id", "document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model")

# Two workers and the leader build the index in less than half the time; memory for the whole graph, about 20 MB.
INDEXING = (
    "SET LOCAL max_parallel_maintenance_workers = 2",
    "SET LOCAL min_parallel_table_scan_size = '1MB'",
    "SET LOCAL maintenance_work_mem = '128MB'",
    f"CREATE INDEX {INDEX} ON document_chunks USING hnsw (embedding vector_cosine_ops) "
    f"WITH (m = {LINKS}, ef_construction = {EFFORT})",
)

Row = dict[str, Any]


def fingerprint() -> str:
    """A hash of all that this database depends on: what the seeded one does, this file, and the vectors."""
    digest = sha256(base_fingerprint().encode())
    for file in (Path(__file__), Path(__file__).with_name("clustered.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


async def build_library(url: URL) -> None:
    """Migrate and seed the database at ``url``, and add the library with its index."""
    await build_base(url)
    engine = make_engine(url, binary_vectors=True)
    async with make_session_factory(engine).begin() as session:
        await _add_library(session)
        for statement in INDEXING:
            await session.execute(text(statement))
    await engine.dispose()


async def _add_library(session: AsyncSession) -> None:
    users = [_user(name, number) for number, name in enumerate(SHARES)]
    ids = {user["name"]: user["id"] for user in users}
    documents = [_document(ids[owner], owner, number) for number, (owner, _) in enumerate(_documents())]
    await session.execute(insert(User), users)
    await session.execute(insert(Document), documents)
    await copy_rows(session, DocumentChunk, COLUMNS, _chunks([document["id"] for document in documents]))


def _documents() -> list[tuple[str, int]]:
    """The owner of each document and how many chunks it has, in the order in which they were uploaded."""
    made: list[tuple[str, int]] = []
    for owner, share in SHARES.items():
        count = round(CHUNKS * share)
        made += [(owner, min(PER_DOCUMENT, count - start)) for start in range(0, count, PER_DOCUMENT)]
    random.Random(2026).shuffle(made)
    return made


def _user(name: str, number: int) -> Row:
    at = OPENING_DAY - timedelta(days=9, hours=number)
    return {
        "id": stable_id(name, at), "email": f"{name}@example.org", "name": name, "tier": "team",
        "token_limit": 1_000_000, "created_at": at, "updated_at": at,
    }  # fmt: skip


def _document(owner_id: UUID, owner: str, number: int) -> Row:
    at = OPENING_DAY - timedelta(days=8) + timedelta(minutes=number)
    source = f"library/{number:03}"
    return {
        "id": stable_id(source, at), "user_id": owner_id, "source": source, "title": f"Volume {number} of {owner}",
        "status": "ready", "created_at": at, "updated_at": at,
    }  # fmt: skip


def _chunks(document_ids: list[UUID]) -> Iterator[tuple[Any, ...]]:
    """Rows for COPY, in the order of ``COLUMNS``. The texts are first sentences from the corpus, in turn."""
    sentences = [chunk.partition(". ")[0] for document in corpus.documents() for chunk in document.chunks]
    counted = [(sentence, count_tokens(sentence)) for sentence in sentences]
    from course_lib.data.clustered import clustered_vectors  # brings numpy, which opening a lesson need not wait for

    vectors = iter(clustered_vectors(CHUNKS))
    number = 0
    for document_id, (_, size) in zip(document_ids, _documents(), strict=True):
        for index in range(size):
            content, tokens = counted[number % len(counted)]
            id = stable_id(f"{document_id} {index}", OPENING_DAY - timedelta(days=7) + timedelta(milliseconds=number))
            yield id, document_id, index, content, tokens, next(vectors), MODEL
            number += 1
