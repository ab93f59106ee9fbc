"""Documents with their passages, stored by the thousand: one upsert and one COPY for a batch of many."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ARRAY, LargeBinary, Text, Uuid, bindparam, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.db import copy_rows
from course_lib.errors import CourseError
from course_lib.models import Document, DocumentChunk
from course_lib.models.documents import content_hash, passage_hash
from course_lib.repositories.rag.cache import Known, Passed, forget_vectors
from course_lib.repositories.rag.embedding import Embeddings
from course_lib.texts import check_list, check_storable

if TYPE_CHECKING:
    from course_lib.repositories.rag.cache import Vectors

BATCH_CHUNKS = 10_000
"""Passages held at once while a stream of documents is stored: about 20 MB."""

LOCK = 1_202_614
"""First key of the advisory locks of users whose documents are being stored; the second is the user's id, hashed."""

COLUMNS = ["document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model"]

# One at a time for each user, until the transaction ends: two who store the same documents would each hold what the
# other wants next, since a stream's later batches are not known when the first rows are locked. ORDER BY has the lock
# taken before the first row is. What stood in the row before is old's, and NULL for a row that is new (PostgreSQL 18).
_PUT = text(f"""
    INSERT INTO documents AS d (user_id, source, title, content_hash, status)
    SELECT :user_id, source, title, content_hash, 'ready'
    FROM pg_advisory_xact_lock({LOCK}, hashtext(CAST(:user_id AS text))),
        unnest(:sources, :titles, :hashes) AS given (source, title, content_hash)
    ORDER BY source
    ON CONFLICT (user_id, source) DO UPDATE SET
        title = excluded.title, content_hash = excluded.content_hash, status = 'ready', error = NULL,
        updated_at = CASE WHEN d.content_hash = excluded.content_hash THEN d.updated_at ELSE now() END
    RETURNING d.source, d.id, old.id IS NULL AS is_new,
        old.content_hash = new.content_hash AND old.status = 'ready' AS is_same
""").bindparams(
    bindparam("user_id", type_=Uuid()),
    bindparam("sources", type_=ARRAY(Text())),
    bindparam("titles", type_=ARRAY(Text())),
    bindparam("hashes", type_=ARRAY(LargeBinary())),
)


_LOCK = text(f"SELECT pg_advisory_xact_lock({LOCK}, hashtext(CAST(:user_id AS text)))").bindparams(
    bindparam("user_id", type_=Uuid())
)


@dataclass(frozen=True, eq=False)
class NewDocument:
    """A document to be stored: where it comes from, its title, its passages in order, and their vectors.

    Raises:
        CourseError: it has no passages, or not one vector and one token count for each, or a text that PostgreSQL
            cannot store.
    """

    source: str
    title: str
    chunks: Sequence[str]
    embeddings: Embeddings

    def __post_init__(self) -> None:
        check_document(self.source, self.title, self.chunks)
        token_counts = self.embeddings.token_counts
        for count, what in ((len(self.embeddings), "vectors"), (len(token_counts), "token counts")):
            if count != len(self.chunks):
                raise CourseError(
                    f"{self.source} has {len(self.chunks)} passages and {count} {what}.",
                    "Embed what is stored: NewDocument(source, title, chunks, await embed(chunks))",
                )

    @cached_property
    def content_hash(self) -> bytes:
        return content_hash(self.chunks)

    def rows(self, document_id: UUID) -> Iterator[tuple[Any, ...]]:
        """Its passages as values for ``COLUMNS``."""
        model = self.embeddings.model
        passages = zip(self.chunks, self.embeddings.token_counts, self.embeddings.vectors, strict=True)
        for index, (content, tokens, vector) in enumerate(passages):
            yield document_id, index, content, tokens, vector, model


@dataclass(frozen=True)
class Stored:
    """What became of a document. ``changed`` is False for one that was there already, word for word.

    From ``ingest`` also how many of its passages a model was asked for, and how many had their vectors already.
    """

    id: UUID
    source: str
    changed: bool
    embedded: int = 0
    reused: int = 0


def check_document(source: str, title: str, chunks: Sequence[str]) -> None:
    """Refuse what cannot be stored as a document, before a model or the server is asked.

    Raises:
        CourseError: there are no passages, or one text in their place, or a text that PostgreSQL cannot store.
    """
    check_list(chunks, "chunks")
    check_storable(source, f"The source {source!r}")
    check_storable(title, f"The title of {source!r}")
    if not chunks:
        raise CourseError(f"{source} has no passages, so nothing of it could be found.", "Leave it out.")
    for index, chunk in enumerate(chunks):
        check_storable(chunk, f"chunks[{index}] of {source!r}")


async def replace_documents(
    session: AsyncSession,
    user_id: UUID,
    documents: Iterable[NewDocument] | AsyncIterable[NewDocument],
    keeping: Collection[Known] = (),
) -> list[Stored]:
    """``RagRepository.replace``.

    What a batch replaces is forgotten after the last one: rows that two users share are locked once, in one order,
    and not batch by batch, where each of two streams would come to hold what the other wants next.

    Args:
        keeping: what the caller will ``keep`` in the cache, in this transaction.
    """
    stored: list[Stored] = []
    gone: set[Passed] = set()
    async for batch in _batches(documents):
        stored += await _replace_batch(session, user_id, batch, gone)
    await forget_vectors(session, gone, keeping)
    return stored


async def holds_same(session: AsyncSession, documents: dict[UUID, int], model: str) -> set[UUID]:
    """Those of ``documents`` that have so many passages, all with vectors of ``model``."""
    counts = (
        select(DocumentChunk.document_id, func.count())
        .where(DocumentChunk.document_id.in_(documents))
        .group_by(DocumentChunk.document_id)
        .having(func.bool_and(DocumentChunk.embedding_model == model))
    )
    return {key for key, count in await session.execute(counts) if documents[key] == count}


async def vectors_of(session: AsyncSession, user_id: UUID, source: str, model: str) -> Vectors:
    """The vectors that passages of the user's document from ``source`` have, by the hashes of their texts."""
    import numpy as np

    chunks = (
        select(DocumentChunk.content, DocumentChunk.embedding)
        .join(Document, Document.id == DocumentChunk.document_id)
        .where(Document.user_id == user_id, Document.source == source, DocumentChunk.embedding_model == model)
    )
    found = await session.execute(chunks)
    return {passage_hash(content): np.asarray(vector, dtype=np.float32) for content, vector in found}


async def lock_documents(session: AsyncSession, user_id: UUID) -> None:
    """Wait for whoever stores or deletes documents of the user, and let nobody else until the transaction ends."""
    await session.execute(_LOCK, {"user_id": user_id})


async def _batches(documents: Iterable[NewDocument] | AsyncIterable[NewDocument]) -> AsyncIterator[list[NewDocument]]:
    """As many as fit; a source that comes twice begins a new batch, because an upsert touches a row only once."""
    batch: dict[str, NewDocument] = {}
    size = 0
    async for document in _streamed(documents):
        if document.source in batch or size >= BATCH_CHUNKS:
            yield list(batch.values())
            batch, size = {}, 0
        batch[document.source] = document
        size += len(document.chunks)
    if batch:
        yield list(batch.values())


async def _streamed(documents: Iterable[NewDocument] | AsyncIterable[NewDocument]) -> AsyncIterator[NewDocument]:
    if isinstance(documents, AsyncIterable):
        async for document in documents:
            yield document
    else:
        for document in documents:
            yield document


async def _replace_batch(
    session: AsyncSession, user_id: UUID, batch: Sequence[NewDocument], gone: set[Passed]
) -> list[Stored]:
    """``gone`` gets the texts that its documents do not have any more."""
    put = await session.execute(
        _PUT,
        {
            "user_id": user_id,
            "sources": [document.source for document in batch],
            "titles": [document.title for document in batch],
            "hashes": [document.content_hash for document in batch],
        },
    )
    found = {row.source: row for row in put}
    same = await _unchanged(session, batch, {source: row.id for source, row in found.items() if row.is_same})
    changed = [document for document in batch if found[document.source].id not in same]
    outdated = [found[document.source].id for document in changed if not found[document.source].is_new]
    if outdated:
        old = delete(DocumentChunk).where(DocumentChunk.document_id.in_(outdated))
        deleted = await session.execute(old.returning(DocumentChunk.content, DocumentChunk.embedding_model))
        staying = {(chunk, one.embeddings.model) for one in changed for chunk in one.chunks}
        gone.update({(content, model) for content, model in deleted} - staying)
    rows = (row for document in changed for row in document.rows(found[document.source].id))
    if changed:
        await copy_rows(session, DocumentChunk, COLUMNS, rows)
    return [Stored(found[d.source].id, d.source, found[d.source].id not in same) for d in batch]


async def _unchanged(session: AsyncSession, batch: Sequence[NewDocument], same_text: dict[str, UUID]) -> set[UUID]:
    """Of documents whose text is the same, those whose passages and vectors can stay."""
    sizes: dict[str, dict[UUID, int]] = {}
    for document in batch:
        if document.source in same_text:
            sizes.setdefault(document.embeddings.model, {})[same_text[document.source]] = len(document.chunks)
    kept: set[UUID] = set()
    for model, documents in sizes.items():
        kept |= await holds_same(session, documents, model)
    return kept
