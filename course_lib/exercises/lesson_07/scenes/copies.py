"""A document whose text has left copies in other tables, and what of them there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text

MODEL, OTHER = "model-a-256", "model-b-256"
VECTOR = "CAST(array_fill(CAST(0.1 AS real), ARRAY[256]) AS vector)"
DOCUMENT = f"""
    WITH document AS (
        INSERT INTO documents (user_id, source, title, status) VALUES (:user, :source, 'Handbook', 'ready') RETURNING id
    ), passages AS (
        INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
        SELECT id, place - 1, content, 1, {VECTOR}, :model
        FROM document, jsonb_array_elements_text(CAST(:texts AS jsonb)) WITH ORDINALITY AS t (content, place)
    ) SELECT id FROM document
"""
CACHED = f"""
    INSERT INTO embedding_cache (content_hash, model, embedding, claimed_until)
    SELECT DISTINCT sha256(convert_to(content, 'UTF8')), CAST(:model AS text),
        CASE WHEN NOT :claimed THEN {VECTOR} END, CASE WHEN :claimed THEN now() + interval '1 hour' END
    FROM jsonb_array_elements_text(CAST(:texts AS jsonb)) AS t (content)
"""
ANSWERED = """
    WITH conversation AS (INSERT INTO conversations (user_id, title) VALUES (:user, 'Refunds') RETURNING id)
    INSERT INTO messages (conversation_id, seq, role, content, meta)
    SELECT id, place, 'assistant', 'See [1].', meta
    FROM conversation, jsonb_array_elements(CAST(:metas AS jsonb)) WITH ORDINALITY AS t (meta, place)
"""
STATE = {
    "documents": "SELECT id, status FROM documents",
    "document_chunks": "SELECT id, embedding_model FROM document_chunks",
    "messages": "SELECT id, CAST(meta AS text) FROM messages",
    "embedding_cache": "SELECT encode(content_hash, 'hex') || model, claimed_until FROM embedding_cache",
}


def new_texts(count: int) -> list[str]:
    """Passages that nobody has."""
    return [f"{awkward_text()} {token_hex(4)}" for _ in range(count)]


def cache_key(text: str, model: str = MODEL) -> str:
    """Of a row of the cache, as ``State`` has it."""
    return sha256(text.encode()).hexdigest() + model


async def add_document(attempt: Attempt, user_id: UUID, texts: Sequence[str], model: str = MODEL) -> UUID:
    source = f"{token_hex(4)}.md"
    values = {"user": user_id, "source": source, "texts": json.dumps(texts), "model": model}
    id: UUID = await attempt.value(DOCUMENT, **values)
    return id


async def add_vectors(attempt: Attempt, texts: Sequence[str], model: str = MODEL, claimed: bool = False) -> None:
    """Cached vectors of these texts; or claims of somebody who is buying them."""
    await attempt.sql(CACHED, texts=json.dumps(texts), model=model, claimed=claimed)


async def add_answers(attempt: Attempt, user_id: UUID, metas: Sequence[dict[str, Any]]) -> None:
    """A conversation of answers with these ``meta``."""
    await attempt.sql(ANSWERED, user=user_id, metas=json.dumps(metas))


def source(document_id: UUID, place: int = 0) -> dict[str, Any]:
    """As an answer's ``meta["sources"]`` holds one."""
    quotation = {"quotation": f"it's {token_hex(3)}"} if place % 2 else {}
    return {"document_id": str(document_id), "chunk_index": place, "title": "Handbook", **quotation}


@dataclass(frozen=True)
class State:
    """The rows of the tables that may hold copies, by table and key."""

    tables: dict[str, dict[Any, Any]] = field(default_factory=dict)

    @classmethod
    async def of(cls, attempt: Attempt) -> State:
        tables = {}
        for table, statement in STATE.items():
            rows = await attempt.sql(statement)
            tables[table] = {row[0]: json.loads(row[1]) if table == "messages" else row[1] for row in rows}
        return cls(tables)

    def gone(self, later: State, table: str) -> set[Any]:
        """Keys of the rows that are not there any more."""
        return self.tables[table].keys() - later.tables[table].keys()
