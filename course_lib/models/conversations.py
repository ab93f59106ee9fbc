"""What users and the assistant say: conversations and their numbered messages."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from course_lib.models.base import Base, Identified, Timestamped

if TYPE_CHECKING:
    from course_lib.models.accounts import User


class Conversation(Identified, Timestamped, Base):
    """A thread of messages of one user."""

    __tablename__ = "conversations"
    __table_args__ = (Index(None, "user_id", "updated_at"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str]

    user: Mapped[User] = relationship(back_populates="conversations")
    messages: Mapped[list[Message]] = relationship(
        back_populates="conversation", order_by="Message.seq", passive_deletes=True
    )


class Message(Identified, Base):
    """One turn. ``seq`` counts 1, 2, 3 … within its conversation; timestamps can tie, numbers cannot."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("conversation_id", "seq"),
        CheckConstraint("seq > 0", name="seq"),
        CheckConstraint("role IN ('system', 'user', 'assistant', 'tool')", name="role"),
        CheckConstraint("status IN ('complete', 'streaming', 'aborted')", name="status"),
    )

    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    seq: Mapped[int]
    role: Mapped[str]
    content: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="complete")
    token_count: Mapped[int] = mapped_column(server_default=text("0"))
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    conversation: Mapped[Conversation] = relationship(back_populates="messages")
