"""What the product asks of its passages."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.errors import CourseError
from course_lib.models import Document
from course_lib.models.documents import content_hash
from course_lib.repositories.generic import NotFound
from course_lib.repositories.rag.cache import delete_lapsed, forget_vectors_of
from course_lib.repositories.rag.embedding import Embedding, embed_question
from course_lib.repositories.rag.hybrid import hybrid_statement, words_of
from course_lib.repositories.rag.search import EF_SEARCH, Passage, check_numbers, search_parameters, search_statement
from course_lib.repositories.rag.store import (
    NewDocument,
    Stored,
    check_document,
    holds_same,
    lock_documents,
    replace_documents,
)
from course_lib.texts import check_list, check_storable


class RagRepository:
    """Search and store the passages of users' documents, in the session it is given. It never commits."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def search(
        self,
        user_id: UUID,
        question: str | Embedding,
        k: int = 10,
        *,
        document_ids: Collection[UUID] | None = None,
        since: datetime | None = None,
        ef_search: int | None = None,
        exact: bool = False,
    ) -> list[Passage]:
        """The user's ``k`` passages nearest to ``question``, nearest first. One statement.

        Only passages of documents that are ready, with vectors of the question's own model, are looked at. Up to
        5,000 of them are compared one by one; where there are more, the HNSW index is used if there is one.

        Args:
            question: an Embedding, or a text, which is embedded first.
            document_ids: only these documents; an empty collection finds nothing.
            since: only documents that were stored, or replaced, then or later. With its time zone.
            ef_search: candidates the index keeps in hand, up to 1000: more of the true nearest, and slower. It stays
                so until the transaction ends.
            exact: compare with every passage, however many there are.

        Raises:
            CourseError: the question is a text and a transaction is open, which would wait for the model; its vector is
                all zeros; ``k`` or ``ef_search`` is out of range; ``document_ids`` is one text.
        """
        ef_search = EF_SEARCH if ef_search is None else ef_search
        check_numbers(k, ef_search)
        check_list(document_ids, "document_ids")
        asked = await self._embed(question) if isinstance(question, str) else question
        _check_direction(asked)
        statement = search_statement(k, document_ids is not None, since is not None, exact)
        ids = None if document_ids is None else list(document_ids)
        parameters = search_parameters(user_id, asked.vector, asked.model, ef_search, ids, since)
        return [Passage(*row) for row in await self.session.execute(statement, parameters)]

    async def search_both(
        self,
        user_id: UUID,
        text: str,
        question: Embedding,
        k: int = 10,
        *,
        document_ids: Collection[UUID] | None = None,
        since: datetime | None = None,
    ) -> list[Passage]:
        """The user's ``k`` passages that fit ``text`` best by meaning and by words, best first. One statement.

        Compared are the nearest 200 by their vectors, which for most users are all, and beyond them up to 200 that hold
        a code of the text, such as E-417. Where no word of the text is in a passage, the order is that of ``search``.

        Args:
            text: the question as it was asked, in any language. No sign in it is an operator.
            question: its embedding: ``await embed_question(text)``, before there is a transaction.
            document_ids, since: as for ``search``.

        Raises:
            CourseError: as from ``search``; ``text`` holds a character that PostgreSQL cannot read.
        """
        check_numbers(k, EF_SEARCH)
        check_list(document_ids, "document_ids")
        check_storable(text, "The question")
        _check_direction(question)
        statement = hybrid_statement(k, document_ids is not None, since is not None)
        ids = None if document_ids is None else list(document_ids)
        parameters = search_parameters(user_id, question.vector, question.model, EF_SEARCH, ids, since)
        return [Passage(*row) for row in await self.session.execute(statement, parameters | words_of(text))]

    async def _embed(self, question: str) -> Embedding:
        if self.session.in_transaction():
            raise CourseError(
                "This session is in a transaction, and would keep its connection while the model embeds the question.",
                "Embed it before: question = await embed_question(text)",
            )
        return await embed_question(question)

    async def replace(
        self, user_id: UUID, documents: Iterable[NewDocument] | AsyncIterable[NewDocument]
    ) -> list[Stored]:
        """Store the user's documents, each in place of the one from the same source.

        What is there already with the same text, cut alike, and vectors of the same model stays as it is, but for
        its title. Passages go by COPY, some 10,000 at a time; other sessions see the old ones until the commit, and
        wait for it before they store documents of the same user. Two users' streams with the same texts do not
        deadlock, whatever their order, as long as each calls it once in its transaction. Texts that were replaced are
        held until the end.

        Args:
            documents: may be a generator, async too, and is not held whole. Of a source that comes twice the later
                one stays.

        Raises:
            IntegrityError: there is no such user.
            DBAPIError: the server refuses a vector.
            CourseError: the engine was made without ``binary_vectors``.
        """
        return await replace_documents(self.session, user_id, documents)

    async def unchanged(self, user_id: UUID, source: str, chunks: Sequence[str], model: str) -> Document | None:
        """The user's document from ``source`` if ``replace`` would leave it as it is, else None.

        Raises:
            CourseError: as from ``NewDocument``.
        """
        check_document(source, "", chunks)
        document = await self.session.scalar(
            select(Document).where(
                Document.user_id == user_id,
                Document.source == source,
                Document.status == "ready",
                Document.content_hash == content_hash(chunks),
            )
        )
        if document is None or not await holds_same(self.session, {document.id: len(chunks)}, model):
            return None
        return document

    async def delete_document(self, user_id: UUID, document_id: UUID) -> None:
        """Delete the user's document with its passages, and the cached vectors that no other passage has.

        Answers that were given with it stay as they are, with what they quote; ``count_left`` finds them.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        await lock_documents(self.session, user_id)
        mine = (Document.id == document_id, Document.user_id == user_id)
        if await self.session.scalar(select(Document.id).where(*mine)) is None:
            raise NotFound(Document, document_id)
        await forget_vectors_of(self.session, [document_id])
        await self.session.execute(delete(Document).where(*mine))
        await delete_lapsed(self.session)


def _check_direction(question: Embedding) -> None:
    if not any(question.vector):
        raise CourseError(
            "The question's vector is all zeros: it points nowhere, and has no cosine distance from anything.",
            "Embed a text: question = await embed_question(text)",
        )
