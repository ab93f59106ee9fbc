"""Who uses the product: users and their API keys."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from course_lib.models.base import Base, Identified, Timestamped

if TYPE_CHECKING:
    from course_lib.models.conversations import Conversation
    from course_lib.models.documents import Document


class User(Identified, Timestamped, Base):
    """A customer, with a budget of tokens."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("email = lower(email) AND email LIKE '%_@_%'", name="email"),
        CheckConstraint("tier IN ('free', 'pro', 'team')", name="tier"),
        CheckConstraint("tokens_used BETWEEN 0 AND token_limit", name="tokens"),
    )

    email: Mapped[str]
    name: Mapped[str]
    tier: Mapped[str] = mapped_column(server_default="free")
    token_limit: Mapped[int] = mapped_column(server_default=text("100000"))
    tokens_used: Mapped[int] = mapped_column(server_default=text("0"))

    api_keys: Mapped[list[ApiKey]] = relationship(back_populates="user", passive_deletes=True)
    documents: Mapped[list[Document]] = relationship(back_populates="user", passive_deletes=True)
    conversations: Mapped[list[Conversation]] = relationship(back_populates="user", passive_deletes=True)


class ApiKey(Identified, Base):
    """A key, of which only a prefix to recognise and a SHA-256 hash to compare are kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("key_hash"),
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    label: Mapped[str]
    prefix: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(back_populates="api_keys")
