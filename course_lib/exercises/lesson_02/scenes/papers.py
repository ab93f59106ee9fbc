"""Documents with chunks that the judges of this lesson put on stage."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import randbelow, token_hex
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_rows
from course_lib.judging.threads import shuffled, text_of
from course_lib.models import DIMENSIONS


@dataclass
class Paper:
    """A document as it stands in the table; ``chunks`` are pairs of index and content, by index."""

    id: UUID
    title: str
    chunks: list[tuple[int, str]]


async def add_papers(attempt: Attempt, user_id: UUID, sizes: Sequence[int], *, words: int = 30) -> list[Paper]:
    """One document for each of ``sizes``, that many chunks in it; by title, which is another one each time."""
    papers = [
        Paper(uuid4(), f"{token_hex(4)} manual", [(index, text_of(words + randbelow(9))) for index in range(size)])
        for size in sizes
    ]
    rows = [
        {"id": paper.id, "user_id": user_id, "source": f"{paper.title}.md", "title": paper.title, "meta": {}}
        | {"status": "ready" if paper.chunks else "uploaded"}
        for paper in papers
    ]
    await add_rows(attempt, "documents", [row | {"created_at": "now", "updated_at": "now"} for row in rows])
    chunks = [
        {"document_id": paper.id, "chunk_index": index, "content": content}
        for paper in papers
        for index, content in paper.chunks
    ]
    await attempt.sql(
        """
        INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding_model, embedding)
        SELECT document_id, chunk_index, content, length(content) / 4, 'staged', CAST(:embedding AS vector)
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t (document_id uuid, chunk_index int, content text)
        """,
        rows=json.dumps(shuffled(chunks), default=str),
        embedding=str([round(random.uniform(-1, 1), 8) for _ in range(DIMENSIONS)]),
    )
    return sorted(papers, key=lambda paper: paper.title)
