"""Documents, as their owners see them. Their chunks are searched elsewhere."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Boolean, case, func, literal_column, select
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
        """Insert the document, or bring the one from the same source up to date. One statement.

        Returns:
            the document, and whether its content is new. If it is, the status is ``uploaded``: it waits to be cut
            and embedded. Otherwise the status stays.

        Raises:
            IntegrityError: there is no such user, or ``content_hash`` is not 32 bytes.
        """
        statement = insert(Document).values(user_id=user_id, source=source, title=title, content_hash=content_hash)
        given = statement.excluded
        changed = Document.content_hash.is_distinct_from(given.content_hash)
        statement = statement.on_conflict_do_update(
            index_elements=["user_id", "source"],
            set_={
                "title": given.title,
                "content_hash": given.content_hash,
                "status": case((changed, given.status), else_=Document.status),
                "updated_at": func.now(),  # onupdate does not apply to an upsert
            },
        )
        # old is all NULL for a row that was inserted (PostgreSQL 18)
        is_new = literal_column("old.content_hash IS DISTINCT FROM new.content_hash", Boolean)
        result = await self.session.execute(
            statement.returning(Document, is_new), execution_options={"populate_existing": True}
        )
        document, new = result.one()
        return document, new
