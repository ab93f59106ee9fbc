"""What users upload: documents, cut into chunks that carry their embedding."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from course_lib.models.base import Base, Identified, Timestamped
from course_lib.texts import check_list

if TYPE_CHECKING:
    from course_lib.models.accounts import User

DIMENSIONS = 256


def content_hash(chunks: Sequence[str]) -> bytes:
    """For a document's ``content_hash``: 32 bytes, other ones for another text and for the same text cut elsewhere.

    Raises:
        CourseError: ``chunks`` is one text.
        UnicodeEncodeError: a chunk has half a surrogate pair.
    """
    check_list(chunks, "chunks")
    return sha256(b"".join(sha256(chunk.encode()).digest() for chunk in chunks)).digest()


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
    )

    document_id: Mapped[UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    chunk_index: Mapped[int]
    content: Mapped[str]
    token_count: Mapped[int]
    embedding: Mapped[list[float]] = mapped_column(VECTOR(DIMENSIONS))
    embedding_model: Mapped[str]

    document: Mapped[Document] = relationship(back_populates="chunks")
