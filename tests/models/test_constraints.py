"""What the tables refuse, and the constraint that says so."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.models import ApiKey, CachedEmbedding, Conversation, Document, Job, Message, User


async def refusal(engine: AsyncEngine, statement: Any) -> str:
    """The name of the constraint that refuses ``statement``."""
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError) as caught:
            await connection.execute(statement)
    name: str = caught.value.driver_exception.constraint_name
    return name


ADA = select(User.id).where(User.email == "ada@example.org").scalar_subquery()
FIRST = select(Conversation.id).order_by(Conversation.id).limit(1).scalar_subquery()
OVENS = select(Document.id).where(Document.source == "bruno/oven-faults").scalar_subquery()


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (insert(User).values(email="ada@example.org", name="Another"), "uq_users_email"),
        (insert(User).values(email="Ada@Example.org", name="Another"), "ck_users_email"),
        (insert(User).values(email="nobody", name="Another"), "ck_users_email"),
        (insert(User).values(email="new@example.org", name="New", tier="gold"), "ck_users_tier"),
        (update(User).values(tokens_used=User.token_limit + 1), "ck_users_tokens"),
        (insert(ApiKey).values(user_id=ADA, label="x", prefix="x", key_hash=b"short"), "ck_api_keys_key_hash"),
        (
            insert(Message).values(conversation_id=FIRST, seq=1, role="user", content="?"),
            "uq_messages_conversation_id_seq",
        ),
        (insert(Message).values(conversation_id=FIRST, seq=0, role="user", content="?"), "ck_messages_seq"),
        (insert(Message).values(conversation_id=FIRST, seq=99, role="robot", content="?"), "ck_messages_role"),
        (insert(Document).values(user_id=ADA, source="ada/storm-report", title="?"), "uq_documents_user_id_source"),
        (update(Document).values(status="lost"), "ck_documents_status"),
        (update(Job).values(attempts=6), "ck_jobs_attempts"),
        (insert(Job).values(kind="embed", document_id=ADA), "fk_jobs_document_id"),
        (
            insert(CachedEmbedding).values(content_hash=b"short", model="m", embedding=[0] * 256),
            "ck_embedding_cache_content_hash",
        ),
        (insert(CachedEmbedding).values(content_hash=bytes(32), model="m"), "ck_embedding_cache_claim"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_wrong_row_is_refused_by_name(engine: AsyncEngine, statement: Any, constraint: str) -> None:
    assert await refusal(engine, statement) == constraint
