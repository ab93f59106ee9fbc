"""From a text to searchable passages, with no connection held while the model works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib import llm
from course_lib.repositories.rag.embedding import embed
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.rag.store import NewDocument, Stored, check_document

if TYPE_CHECKING:
    import openai


async def ingest(
    sessions: async_sessionmaker[AsyncSession],
    user_id: UUID,
    source: str,
    title: str,
    chunks: Sequence[str],
    client: openai.AsyncOpenAI | None = None,
) -> Stored:
    """Embed ``chunks`` and make them the user's document from ``source``, in place of an earlier one.

    Three steps: a short transaction that looks whether anything changed, and if not that is all; the model, with no
    transaction and no connection; a short transaction that replaces. It may be called again at any time, and by two
    at once. When it fails, whichever way, the earlier version stays and can be searched.

    Raises:
        openai.OpenAIError: the model did not answer, or refused a text.
        IntegrityError: there is no such user.
        CourseError: there are no passages, or a text that PostgreSQL cannot store.
    """
    check_document(source, title, chunks)
    async with sessions.begin() as session:
        known = await RagRepository(session).unchanged(user_id, source, chunks, llm.EMBEDDING_MODEL)
        if known is not None:
            known.title = title
            return Stored(known.id, source, changed=False)
    document = NewDocument(source, title, chunks, await embed(chunks, client))
    async with sessions.begin() as session:
        [stored] = await RagRepository(session).replace(user_id, [document])
    return stored
