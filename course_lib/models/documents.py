"""What users upload: documents, cut into chunks that carry their embedding."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from course_lib.models.base import Base, Identified, Timestamped
from course_lib.texts import check_list

if TYPE_CHECKING:
    from course_lib.models.accounts import User

DIMENSIONS = 256


def passage_hash(content: str) -> bytes:
    """What the embedding cache knows a text by: 32 bytes.

    Raises:
        UnicodeEncodeError: the text has half a surrogate pair.
    """
    return sha256(content.encode()).digest()


def content_hash(chunks: Sequence[str]) -> bytes:
    """For a document's ``content_hash``: 32 bytes, other ones for another text and for the same text cut elsewhere.

    Raises:
        CourseError: ``chunks`` is one text.
        UnicodeEncodeError: a chunk has half a surrogate pair.
    """
    check_list(chunks, "chunks")
    return sha256(b"".join(passage_hash(chunk) for chunk in chunks)).digest()


class Document(Identified, Timestamped, Base):
    """A text that a user uploaded. Searchable when its status is ``ready``."""

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("user_id", "source"),
        CheckConstraint("status IN ('uploaded', 'processing', 'ready', 'failed')", name="status"),
        CheckConstraint("octet_length(content_hash) = 32", name="content_hash"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    source: Mapped[str]
    title: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="uploaded")
    content_hash: Mapped[bytes | None]
    error: Mapped[str | None]
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))

    user: Mapped[User] = relationship(back_populates="documents")
    chunks: Mapped[list[DocumentChunk]] = relationship(
        back_populates="document", order_by="DocumentChunk.chunk_index", passive_deletes=True
    )


class DocumentChunk(Identified, Base):
    """A passage of a document, its embedding, and the model that made the embedding."""

    __tablename__ = "document_chunks"
    __table_args__ = (
        UniqueConstraint("document_id", "chunk_index"),
        CheckConstraint("chunk_index >= 0", name="chunk_index"),
        CheckConstraint("content <> ''", name="content"),
        Index(None, "content", postgresql_using="hash"),
    )

    document_id: Mapped[UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    chunk_index: Mapped[int]
    content: Mapped[str]
    token_count: Mapped[int]
    embedding: Mapped[list[float]] = mapped_column(VECTOR(DIMENSIONS))
    embedding_model: Mapped[str]

    document: Mapped[Document] = relationship(back_populates="chunks")


class CachedEmbedding(Base):
    """The vector of a text, known by its hash alone, so that nobody buys it again.

    Without a vector it is a claim: somebody is buying it. Until ``claimed_until`` nobody else does; then the claim, or
    a vector that no passage was stored with by then, counts for nothing. With ``claimed_until`` NULL the vector stays
    for as long as a passage needs it.
    """

    __tablename__ = "embedding_cache"
    __table_args__ = (
        CheckConstraint("octet_length(content_hash) = 32", name="content_hash"),
        CheckConstraint("embedding IS NOT NULL OR claimed_until IS NOT NULL", name="claim"),
        Index("ix_embedding_cache_claimed_until", "claimed_until", postgresql_where=text("claimed_until IS NOT NULL")),
    )

    content_hash: Mapped[bytes] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    embedding: Mapped[list[float] | None] = mapped_column(VECTOR(DIMENSIONS))
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
