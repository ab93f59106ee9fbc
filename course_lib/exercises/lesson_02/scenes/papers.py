"""Documents with chunks that the judges of this lesson put on stage."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from secrets import randbelow, token_hex
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.staging import add_rows
from course_lib.judging.threads import shuffled, text_of
from course_lib.models import DIMENSIONS

STATUSES = ("ready", "failed", "processing", "uploaded")
ENDINGS = ("", "\n\nIt's a second paragraph.", "\n", "\t100%")
LONG = 70  # times as many words in the seventh chunk: whoever cuts texts cuts this one


@dataclass
class Paper:
    """A document as it stands in the table; ``chunks`` are pairs of index and content, by index."""

    id: UUID
    title: str
    chunks: list[tuple[int, str]]


async def add_papers(attempt: Attempt, user_id: UUID, sizes: Sequence[int], *, words: int = 30) -> list[Paper]:
    """One document for each of ``sizes``, that many chunks in it, of every status; by title, which two may share.

    Numbers of chunks have gaps and need not begin at 0; some texts stand in a document twice, some hold blank lines,
    and one is very long.
    """
    papers = [Paper(uuid4(), _title(), list(_chunks(size, words))) for size in sizes]
    for paper, other in zip(papers[1::3], papers[2::3], strict=False):
        other.title = paper.title
    rows = [
        {"id": paper.id, "user_id": user_id, "source": f"{place} {paper.title}.md", "title": paper.title, "meta": {}}
        | {"status": STATUSES[(place + len(paper.chunks)) % len(STATUSES)], "created_at": "now", "updated_at": "now"}
        for place, paper in enumerate(papers)
    ]
    await add_rows(attempt, "documents", shuffled(rows))
    chunks = [
        {"document_id": paper.id, "chunk_index": index, "content": content}
        for paper in papers
        for index, content in paper.chunks
    ]
    await attempt.sql(
        """
        INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding_model, embedding)
        SELECT document_id, chunk_index, content, length(content) / 4, 'staged',
            CAST(CAST(:embedding AS text) AS vector) -- or asyncpg asks the server what a vector is
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t (document_id uuid, chunk_index int, content text)
        """,
        rows=json.dumps(shuffled(chunks), default=str),
        embedding=str([round(random.uniform(-1, 1), 8) for _ in range(DIMENSIONS)]),
    )
    return sorted(papers, key=lambda paper: paper.title)


def _title() -> str:
    """In small letters and digits, which every collation sorts alike."""
    return f"{token_hex(4)} manual"


def _chunks(size: int, words: int) -> Iterator[tuple[int, str]]:
    index, content = randbelow(2) * 3, ""
    for place in range(size):
        if place % 4 < 3:
            length = (words + randbelow(9)) * (LONG if place == 6 else 1)
            content = f"{awkward_text() if place % 4 == 1 else ''}{text_of(length)}{ENDINGS[(size + place) % 4]}"
        yield index, content
        index += 1 + 2 * randbelow(2)
