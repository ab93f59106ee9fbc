"""From an upload to a document that can be searched: first the row and its job, later, in a worker, the passages."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Document, Job, User
from course_lib.service import problems, queue
from course_lib.service.problems import Refused

KIND = "ingest_document"
MOST_DOCUMENTS = 10_000


@dataclass(frozen=True)
class Upload:
    """What a user sent: bytes with a name, by which their kind is known, and perhaps a title."""

    data: bytes
    name: str
    content_type: str | None
    source: str
    title: str | None

    def payload(self) -> dict[str, Any]:
        """As a job keeps it until it is done."""
        return {
            "data": b64encode(self.data).decode(), "name": self.name, "content_type": self.content_type,
            "source": self.source, "title": self.title,
        }  # fmt: skip

    @classmethod
    def of(cls, payload: dict[str, Any]) -> Upload:
        return cls(**payload | {"data": b64decode(payload["data"])})


async def accept(session: AsyncSession, user_id: UUID, upload: Upload) -> tuple[Document, Job]:
    """Store the document's row and its job, in the session's transaction: both or neither.

    A document that is there already from the same source stays as it is, and can be searched, until the worker has
    the next version whole.

    Raises:
        Refused: the user has as many as may be.
    """
    # one at a time for each user, or two at once would both be the last that may be
    await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    if await queue.waiting_of(session, user_id) >= queue.MOST_WAITING:
        detail = f"{queue.MOST_WAITING} documents are waiting to be read."
        raise Refused(problems.TOO_MUCH_WAITS, detail, retry_after=10)
    if (await session.scalar(select(func.count()).where(Document.user_id == user_id)) or 0) >= MOST_DOCUMENTS:
        raise Refused(problems.AS_MANY_AS_MAY_BE, f"An account has at most {MOST_DOCUMENTS} documents.")
    row = insert(Document).values(user_id=user_id, source=upload.source, title=upload.title or upload.source)
    status = case((Document.status == "ready", "ready"), else_="uploaded")
    again = row.on_conflict_do_update(index_elements=["user_id", "source"], set_={"error": None, "status": status})
    document = (await session.scalars(again.returning(Document))).one()
    job = queue.enqueue(session, KIND, document.id, upload.payload())
    await session.flush()
    return document, job


async def refuse(session: AsyncSession, document_id: UUID, sentence: str) -> None:
    """The document says why it cannot be read. One that has an earlier version keeps it."""
    row = Document
    await session.execute(
        update(row).where(row.id == document_id, row.status != "ready").values(status="failed", error=sentence)
    )
    await session.execute(update(row).where(row.id == document_id, row.status == "ready").values(error=sentence))
