"""Other people's rows, as awkward as real ones: a crowd that stands in every attempt's database, random each time.

An answer that is only right while nothing else is there meets it before its users do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from secrets import choice, randbelow, token_hex
from typing import Any
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.models.documents import DIMENSIONS

MOMENTS = (timedelta(), timedelta(), timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=1))
ROLES, STATUSES = ("system", "user", "assistant", "tool"), ("complete", "streaming", "aborted")
OTHER_MODEL = "another-model-256"

AWKWARD_TEXTS = (
    "It's the \"blue\" one", "100% of it_ 50%", "  leading blanks", "two\nlines", "a\ttab", "C:\\new\\table",
    "{braces} :name %s $1 ?",
    "naïve Ærøskøbing 東京 🛠", "; DROP TABLE users; --", "null", "0", "-- a comment", "é",
)  # fmt: skip
"""Texts that break whoever puts them into SQL, a pattern or a format by hand; any may be an argument."""

AWKWARD_META: tuple[dict[str, Any], ...] = (
    {}, {"a.b": 1, "a": {"b": 2}}, {'say "hi"': "it's"}, {"back\\slash": None},
    {"deep": {"er": {"est": [1, None, {}]}}},
    {"tags": []}, {"tags": ["x", "x"]}, {"": "empty key"}, {"0": "digit"}, {"ключ": "значение"},
)  # fmt: skip
"""Documents' and messages' ``meta``: keys with dots, quotes, backslashes, nested objects and nulls."""

_LOOKALIKES = (
    "{local}_{host}", "{local}x{host}", "{local}%{host}", "{local}+x{host}", "{local}'{host}",
    '"{local}"{host}', "{local}\\{host}", "x{local}{host}",
    "{local}{host}.example.net", "{local}é{host}", "%{host}", "_{local}{host}",
)  # fmt: skip


def awkward_text() -> str:
    """A text that nobody has written yet, with everything in it that breaks SQL made by hand."""
    texts = sorted(AWKWARD_TEXTS, key=lambda _: randbelow(1 << 30))
    return f"  {' '.join(texts)} {token_hex(3)}"


def lookalikes(email: str) -> list[str]:
    """Addresses that a pattern, a cut or a careless comparison takes for ``email``; ``_`` stands for each sign once."""
    local, _, host = email.partition("@")
    near = {shape.format(local=local, host=f"@{host}") for shape in _LOOKALIKES}
    near |= {email.replace("_", other) for other in "x-" if "_" in email} | {email.replace(".", "x", 1)}
    return sorted(near - {email})


async def add_lookalikes(attempt: Attempt, email: str) -> None:
    """Users whose addresses are those of ``lookalikes``, and who own nothing."""
    await attempt.sql(
        "INSERT INTO users (email, name) SELECT unnest(CAST(:emails AS text[])), 'Somebody Else' "
        "ON CONFLICT DO NOTHING",  # some are in the crowd
        emails=[near for near in lookalikes(email) if near == near.lower()],
    )


async def crowd(attempt: Attempt) -> None:
    """People of every kind with rows of every kind, none of them the learner's business."""
    people = list(_people())
    owners = [person["id"] for person in people[:3]]
    conversations = list(_conversations(owners))
    documents = list(_documents(owners))
    tables = {
        "users": people, "api_keys": list(_keys(owners)), "conversations": conversations,
        "messages": list(_messages(conversations)), "documents": documents, "document_chunks": list(_chunks(documents)),
    }  # fmt: skip
    await attempt.sql(_INSERT, **{table: json.dumps(rows, default=str) for table, rows in tables.items()})


async def add_double(attempt: Attempt, user_id: UUID) -> UUID:
    """A stranger with a copy of all that ``user_id`` owns: same titles, moments, contents, numbers, other ids."""
    stranger = uuid4()
    await attempt.sql(_DOUBLE, mine=user_id, stranger=stranger, email=f"double.{token_hex(4)}@example.org")
    return stranger


def _people() -> Iterator[dict[str, Any]]:
    mark, now = token_hex(3), datetime.now(UTC)
    for place, shape in enumerate(_LOOKALIKES):
        limit = (0, 1, 10**9)[place % 3]
        yield {
            "id": uuid4(), "email": shape.format(local=f"mara.{mark}", host="@example.org"),
            "name": AWKWARD_TEXTS[place], "tier": ("free", "pro", "team")[place % 3], "token_limit": limit,
            "tokens_used": limit if place % 2 else 0, "created_at": now - MOMENTS[place % 5], "updated_at": now,
        }  # fmt: skip


def _keys(owners: list[UUID]) -> Iterator[dict[str, Any]]:
    now, prefix = datetime.now(UTC), f"sk-{token_hex(2)}"
    for place, revoked in enumerate((None, now, now - timedelta(days=1), now + timedelta(days=1))):
        yield {
            "id": uuid4(), "user_id": owners[place % 2], "label": "laptop", "prefix": prefix,
            "key_hash": f"\\x{token_hex(32)}", "created_at": now - timedelta(days=place), "last_used_at": None,
            "revoked_at": revoked,
        }  # fmt: skip


def _conversations(owners: list[UUID]) -> Iterator[dict[str, Any]]:
    moment = datetime.now(UTC) - timedelta(days=randbelow(9), microseconds=randbelow(10**6))
    for place, ago in enumerate(MOMENTS * 2):
        title = "Refunds" if place % 3 else choice(AWKWARD_TEXTS)
        times = {"created_at": moment - ago, "updated_at": moment - ago}
        yield {"id": uuid4(), "user_id": owners[place % 2], "title": title, **times}


def _messages(conversations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of all but the first two conversations; numbers with gaps, some equal contents, every role and status."""
    for conversation in conversations[2:]:
        seq = 0
        for place in range(1 + randbelow(4)):
            seq += 1 + 4 * randbelow(2)
            yield {
                "id": uuid4(), "conversation_id": conversation["id"], "seq": seq, "role": choice(ROLES),
                "content": choice(AWKWARD_TEXTS), "status": choice(STATUSES), "token_count": 7 * place,
                "meta": choice(AWKWARD_META), "created_at": conversation["created_at"],
            }  # fmt: skip


def _documents(owners: list[UUID]) -> Iterator[dict[str, Any]]:
    now, source = datetime.now(UTC), f"notes/{token_hex(3)}.md"
    for place, meta in enumerate(AWKWARD_META):
        status = ("uploaded", "processing", "ready", "failed")[place % 4]
        yield {
            "id": uuid4(), "user_id": owners[place % 3], "source": source if place < 3 else f"{place}/{source}'_%",
            "title": "Handbook" if place % 2 else choice(AWKWARD_TEXTS), "status": status,
            "content_hash": f"\\x{token_hex(32)}" if place % 3 else None, "meta": meta,
            "error": "it's broken" if status == "failed" else None, "created_at": now - MOMENTS[place % 5],
            "updated_at": now,
        }  # fmt: skip


def _chunks(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Passages of three documents: equal texts, lengths other than 1, single zeros, and those of another model."""
    random = Random(randbelow(1 << 62))
    for place in range(6):
        vector = [random.gauss(0, 1 + place) for _ in range(DIMENSIONS)]
        vector[place] = 0.0
        yield {
            "id": uuid4(), "document_id": documents[place % 3]["id"], "chunk_index": 5 * (place // 3),
            "content": AWKWARD_TEXTS[place // 2], "token_count": place, "embedding": str(vector),
            "embedding_model": OTHER_MODEL,
        }  # fmt: skip


_COLUMNS = {
    "users": "id, email, name, tier, token_limit, tokens_used, created_at, updated_at",
    "api_keys": "id, user_id, label, prefix, key_hash, created_at, last_used_at, revoked_at",
    "conversations": "id, user_id, title, created_at, updated_at",
    "messages": "id, conversation_id, seq, role, content, status, token_count, meta, created_at",
    "documents": "id, user_id, source, title, status, content_hash, error, meta, created_at, updated_at",
    "document_chunks": "id, document_id, chunk_index, content, token_count, embedding, embedding_model",
}
_INSERT = "WITH " + ", ".join(
    f"in_{table} AS (INSERT INTO {table} ({columns}) SELECT {columns} "
    f"FROM jsonb_populate_recordset(NULL::{table}, CAST(:{table} AS jsonb)))"
    for table, columns in _COLUMNS.items()
) + " SELECT"  # keys are looked at when the whole statement is done  # fmt: skip

_DOUBLE = """
    WITH of_conversations AS MATERIALIZED (
        SELECT id, gen_random_uuid() AS twin FROM conversations WHERE user_id = :mine
    ), of_documents AS MATERIALIZED (
        SELECT id, gen_random_uuid() AS twin FROM documents WHERE user_id = :mine
    ), in_users AS (
        INSERT INTO users (id, email, name, tier, token_limit, tokens_used, created_at, updated_at)
        SELECT CAST(:stranger AS uuid), :email, name, tier, token_limit, tokens_used, created_at, updated_at
        FROM users WHERE id = :mine
    ), in_keys AS (
        INSERT INTO api_keys (user_id, label, prefix, key_hash, created_at, last_used_at, revoked_at)
        SELECT CAST(:stranger AS uuid), label, prefix, sha256(key_hash), created_at, last_used_at, revoked_at
        FROM api_keys WHERE user_id = :mine
    ), in_conversations AS (
        INSERT INTO conversations (id, user_id, title, created_at, updated_at)
        SELECT twin, CAST(:stranger AS uuid), title, created_at, updated_at
        FROM conversations JOIN of_conversations USING (id)
    ), in_messages AS (
        INSERT INTO messages (conversation_id, seq, role, content, status, token_count, meta, created_at)
        SELECT twin, seq, role, content, status, token_count, meta, created_at
        FROM messages AS m JOIN of_conversations AS c ON c.id = m.conversation_id
    ), in_documents AS (
        INSERT INTO documents (
            id, user_id, source, title, status, content_hash, error, meta, created_at, updated_at
        )
        SELECT twin, CAST(:stranger AS uuid), source, title, status, content_hash, error, meta, created_at, updated_at
        FROM documents JOIN of_documents USING (id)
    ), in_chunks AS (
        INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
        SELECT twin, chunk_index, content, token_count, embedding, embedding_model
        FROM document_chunks AS p JOIN of_documents AS d ON d.id = p.document_id
    )
    SELECT
"""
