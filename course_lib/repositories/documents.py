"""Documents, as their owners see them. Their chunks are searched elsewhere."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from course_lib.models import Document
from course_lib.repositories.generic import Repository


class DocumentRepository(Repository[Document]):
    model = Document

    async def by_source(self, user_id: UUID, source: str) -> Document | None:
        """The user's document that came from ``source``."""
        return await self.session.scalar(select(Document).where(Document.user_id == user_id, Document.source == source))

    async def page_of(self, user_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[Document]:
        """A page of the user's documents in the order they were uploaded; ``after`` as in ``page``."""
        return await self.page(Document.user_id == user_id, after=after, limit=limit)

    async def put(self, user_id: UUID, source: str, title: str, content_hash: bytes) -> tuple[Document, bool]:
        """Insert the document, or replace the title and hash of the one from the same source.

        Returns:
            the document, and whether its content is new: then it waits with status ``uploaded`` to be cut and
            embedded again. Uploading the same bytes twice changes nothing but the title.

        Raises:
            IntegrityError: there is no such user, or ``content_hash`` is not 32 bytes.
        """
        await self.session.flush()  # what is pending must not be overwritten by what is read below
        before = await self.session.scalar(
            select(Document.content_hash)
            .where(Document.user_id == user_id, Document.source == source)
            .with_for_update()
        )
        statement = insert(Document).values(user_id=user_id, source=source, title=title, content_hash=content_hash)
        changed = Document.content_hash.is_distinct_from(statement.excluded.content_hash)
        statement = statement.on_conflict_do_update(
            index_elements=[Document.user_id, Document.source],
            set_={
                "title": statement.excluded.title,
                "content_hash": statement.excluded.content_hash,
                "updated_at": func.now(),  # onupdate is not applied to an upsert
            },
        )
        raise NotImplementedError
