"""From a text to searchable passages, with no connection held while the model works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib import llm
from course_lib.models.documents import passage_hash
from course_lib.repositories.rag.buying import buy_once
from course_lib.repositories.rag.cache import EmbeddingCache, delete_lapsed
from course_lib.repositories.rag.embedding import Embeddings, token_counts
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.rag.store import NewDocument, Stored, check_document, replace_documents, vectors_of

if TYPE_CHECKING:
    import openai

    from course_lib.repositories.rag.cache import Vectors


async def ingest(
    sessions: async_sessionmaker[AsyncSession],
    user_id: UUID,
    source: str,
    title: str,
    chunks: Sequence[str],
    client: openai.AsyncOpenAI | None = None,
    also: Callable[[AsyncSession], Awaitable[None]] | None = None,
) -> Stored:
    """Embed ``chunks`` and make them the user's document from ``source``, in place of an earlier one.

    Only passages are bought whose text neither the earlier version has nor the cache. A short transaction looks
    what is there; the model is asked with no transaction and no connection; a short transaction replaces. It may be
    called again at any time, and by two at once. When it fails, whichever way, the earlier version stays and can be
    searched, and what was bought is there when it is tried again soon.

    Args:
        also: is called in the transaction that stores, before it does. What it raises keeps everything as it was.

    Raises:
        openai.OpenAIError: the model did not answer, not within minutes either, or refused a text.
        IntegrityError: there is no such user.
        CourseError: there are no passages, or a text that PostgreSQL cannot store.
    """
    check_document(source, title, chunks)
    async with sessions.begin() as session:
        known = await RagRepository(session).unchanged(user_id, source, chunks, llm.EMBEDDING_MODEL)
        if known is not None:
            if also is not None:
                await also(session)
            known.title = title
            return Stored(known.id, source, changed=False, reused=len(chunks))
        vectors = await vectors_of(session, user_id, source, llm.EMBEDDING_MODEL)
    texts = {passage_hash(chunk): chunk for chunk in chunks}
    bought, embedded = await buy_once(sessions, {key: texts[key] for key in texts if key not in vectors}, client)
    embeddings = _arranged(chunks, vectors | bought)
    async with sessions.begin() as session:
        if also is not None:
            await also(session)
        document = NewDocument(source, title, chunks, embeddings)
        keeping = [(key, embeddings.model) for key in bought]
        [stored] = await replace_documents(session, user_id, [document], keeping)
        await EmbeddingCache(session, embeddings.model).keep(bought)
        await delete_lapsed(session)
    return replace(stored, embedded=embedded, reused=len(chunks) - embedded)


def _arranged(chunks: Sequence[str], vectors: Vectors) -> Embeddings:
    import numpy as np

    rows = np.stack([vectors[passage_hash(chunk)] for chunk in chunks])
    return Embeddings(rows, llm.EMBEDDING_MODEL, token_counts(chunks))
