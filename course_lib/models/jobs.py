"""Work to be done later, such as embedding a document."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from course_lib.models.base import Base, Identified, Timestamped


class Job(Identified, Timestamped, Base):
    """An entry of the queue. A worker holds it until ``leased_until``; then somebody else may take it."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'done', 'failed')", name="status"),
        CheckConstraint("attempts BETWEEN 0 AND max_attempts", name="attempts"),
        Index("ix_jobs_queued_run_after", "run_after", postgresql_where=text("status = 'queued'")),
    )

    kind: Mapped[str]
    document_id: Mapped[UUID | None] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int] = mapped_column(server_default=text("5"))
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    leased_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    error: Mapped[str | None]
