"""Documents that somebody has uploaded twice, and what is left of them by the rule of the task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import randbelow, token_hex
from typing import Any
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_rows, add_user

DOCUMENTS = """
    SELECT id, user_id, content_hash, status, created_at, md5(CAST(d AS text)) AS rest FROM documents AS d
"""
JOBS = "SELECT id, document_id, md5(CAST(to_jsonb(j) - 'document_id' AS text)) FROM jobs AS j"
CHUNKS = "SELECT id, document_id FROM document_chunks"
ADD_CHUNKS = """
    INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
    SELECT id, part, source, 2, CAST(array_fill(0.5, ARRAY[256]) AS vector), 'a-model'
    FROM documents, generate_series(0, 1) AS part WHERE id = ANY(CAST(:ids AS uuid[]))
"""
COPIES = (  # of each text: status, and how many days ago
    (("failed", 9), ("ready", 5), ("ready", 2)), (("ready", 1), ("uploaded", 8)), (("failed", 4), ("failed", 4)),
    (("processing", 1), ("failed", 7), ("processing", 3)), (("ready", 3), ("ready", 3), ("ready", 3)),
    (("ready", 1), ("ready", 2)), (("ready", 2),), (("uploaded", 3),),
)  # fmt: skip
JOB_STATUSES = ("done", "queued", "failed", "running")
SNEAK = """
    INSERT INTO documents (user_id, source, title, content_hash)
    SELECT user_id, gen_random_uuid()::text, 'Once more', content_hash FROM documents WHERE id = :id RETURNING id
"""


@dataclass(frozen=True)
class Document:
    user_id: UUID
    content_hash: bytes | None
    status: str
    created_at: datetime
    rest: str


@dataclass(frozen=True)
class Library:
    """Documents, jobs (which document, and the rest of the row) and chunks (of which document), by their ids."""

    documents: dict[UUID, Document]
    jobs: dict[UUID, tuple[UUID | None, str]]
    chunks: dict[UUID, UUID]

    @classmethod
    async def of(cls, attempt: Attempt) -> Library:
        documents = {id: Document(*row) for id, *row in await attempt.sql(DOCUMENTS)}
        jobs = {id: (document, rest) for id, document, rest in await attempt.sql(JOBS)}
        return cls(documents, jobs, dict(tuple(row) for row in await attempt.sql(CHUNKS)))

    def stays(self) -> dict[UUID, UUID]:
        """For each document the one that stays of its equals, which may be itself."""
        equals: dict[tuple[Any, ...], list[UUID]] = defaultdict(list)
        for id, document in self.documents.items():
            alone = () if document.content_hash is not None else (id,)
            equals[document.user_id, document.content_hash, *alone].append(id)
        first = {key: min(ids, key=self._rank) for key, ids in equals.items()}
        return {id: first[key] for key, ids in equals.items() for id in ids}

    def _rank(self, id: UUID) -> tuple[bool, datetime, UUID]:
        document = self.documents[id]
        return document.status != "ready", document.created_at, id


async def add_duplicates(attempt: Attempt) -> None:
    """Two people with equal documents in every combination of status and age, with chunks and with jobs."""
    now = datetime.now(UTC)
    for user in (await add_user(attempt), await add_user(attempt)):
        rows: list[dict[str, Any]] = []
        for text, copies in enumerate(COPIES):
            of_both = f"\\x{text:064x}"  # of both people, and so no duplicates of each other
            rows += [_row(user, of_both, status, now - timedelta(days=days)) for status, days in copies]
        rows += [_row(user, None, "uploaded", now) for _ in range(3)]
        rows.sort(key=lambda _: randbelow(1 << 30))
        await add_rows(attempt, "documents", rows)
        ids = [row["id"] for row in rows]
        await attempt.sql(ADD_CHUNKS, ids=ids)
        await add_rows(attempt, "jobs", _jobs(ids))


def _row(user: UUID, content_hash: str | None, status: str, created_at: datetime) -> dict[str, Any]:
    return {
        "id": uuid4(), "user_id": user, "source": f"{token_hex(4)}.md", "title": token_hex(3), "status": status,
        "content_hash": content_hash, "meta": {}, "created_at": created_at, "updated_at": created_at,
    }  # fmt: skip


def _jobs(documents: Sequence[UUID]) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        {"id": uuid4(), "kind": "embed", "document_id": document, "payload": {"n": place},
         "status": JOB_STATUSES[place % 4],
         "attempts": 0, "max_attempts": 5, "run_after": now, "created_at": now, "updated_at": now}
        for place, document in enumerate([*documents, *documents[::3], None])
    ]  # fmt: skip


async def upload_again(attempt: Attempt, library: Library) -> UUID:
    """A copy of a document that is ready and stays of its equals, by the person who has it; returns its id."""
    kept = {of for id, of in library.stays().items() if id != of and library.documents[of].status == "ready"}
    added: UUID = await attempt.value(SNEAK, id=min(kept))
    return added
