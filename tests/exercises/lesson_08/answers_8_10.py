"""8.10: nobody else's document."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, HTTPException, Response
from pydantic import BaseModel
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Document, DocumentChunk, Job
from tests.exercises.written import Answers

ANSWERS = Answers("8.10")
NOT_FOUND = {"status_code": 404, "detail": "not found"}


class DocumentOut(BaseModel):
    id: UUID
    title: str
    status: str


class Asked:
    """Who asks, and the session of the request."""

    def __init__(self, user_id, session):
        self.user_id, self.session = user_id, session


class Routes:
    """The routes by objects; the wrong answers change a part of it."""

    scope = "function"

    async def load(self, asked, document_id):
        one = select(Document).where(Document.id == document_id, Document.user_id == asked.user_id)
        return self.there(await asked.session.scalar(one))

    def there(self, row):
        if row is None:
            raise HTTPException(**NOT_FOUND)
        return row

    async def passage(self, asked, document, passage_id):
        chunk = await asked.session.get(DocumentChunk, passage_id)
        if chunk is None or chunk.document_id != document.id:
            raise HTTPException(**NOT_FOUND)
        return chunk

    async def remove(self, asked, document_id):
        await asked.session.delete(await self.load(asked, document_id))

    async def job(self, asked, document_id):
        await self.load(asked, document_id)
        return Job(kind="ingest", document_id=document_id)

    def router(self, sessions, caller):
        async def session():
            async with sessions.begin() as session:
                yield session

        async def asked(
            user_id: Annotated[UUID, Depends(caller)],
            session: Annotated[AsyncSession, Depends(session, scope=self.scope)],
        ):
            return Asked(user_id, session)

        Who = Annotated[Asked, Depends(asked)]  # noqa: N806
        router = APIRouter(prefix="/documents")

        @router.patch("/{document_id}", response_model=DocumentOut)
        async def rename(document_id: UUID, asked: Who, title: Annotated[str, Body(embed=True)]):
            document = await self.load(asked, document_id)
            document.title = title
            return DocumentOut.model_validate(document, from_attributes=True)

        @router.delete("/{document_id}")
        async def remove(document_id: UUID, asked: Who):
            await self.remove(asked, document_id)
            return Response(status_code=204)

        @router.get("/{document_id}/passages/{passage_id}")
        async def passage(document_id: UUID, passage_id: UUID, asked: Who):
            chunk = await self.passage(asked, await self.load(asked, document_id), passage_id)
            return {"id": chunk.id, "content": chunk.content}

        @router.post("/{document_id}/jobs", status_code=202)
        async def enqueue(document_id: UUID, asked: Who):
            job = await self.job(asked, document_id)
            asked.session.add(job)
            await asked.session.flush()
            return {"id": job.id}

        return router


@ANSWERS.right
def by_objects(sessions, caller):
    return Routes().router(sessions, caller)


@ANSWERS.right
def asks_whether_it_is_there(sessions, caller):
    """Whose it is, by EXISTS: one row in either case; then by its id, and only where it is the caller's."""

    class Asking(Routes):
        async def load(self, asked, document_id):
            mine = exists().where(Document.id == document_id, Document.user_id == asked.user_id)
            if not await asked.session.scalar(select(mine)):
                raise HTTPException(404)
            return await asked.session.get_one(Document, document_id)

    return Asking().router(sessions, caller)


def of(kind):
    """The answer with these routes."""

    def document_routes(sessions, caller):
        return kind().router(sessions, caller)

    document_routes.__name__ = kind.__name__
    return document_routes


@ANSWERS.wrong("own")
@of
class DocumentInPlaceOfPassage(Routes):
    async def passage(self, asked, document, passage_id):
        chunk = await super().passage(asked, document, passage_id)
        return DocumentChunk(id=document.id, content=chunk.content)


@ANSWERS.wrong("not stored")
def never_committed(sessions, caller):
    class Forgetful(Routes):
        async def load(self, asked, document_id):
            document = await super().load(asked, document_id)
            asked.session.expunge(document)
            return document

    return Forgetful().router(sessions, caller)


@ANSWERS.wrong("told too early")
@of
class CommitsWhenTheResponseIsSent(Routes):
    scope = "request"


@ANSWERS.wrong("missing")
@of
class NobodyThere(Routes):
    def there(self, row):
        if row is None:
            raise HTTPException(400, "no such document")
        return row


@ANSWERS.wrong("let in")
@of
class ForgottenInOne(Routes):
    async def remove(self, asked, document_id):
        await asked.session.delete(self.there(await asked.session.get(Document, document_id)))


@ANSWERS.wrong("let in")
@of
class JobsOfAnybody(Routes):
    async def job(self, asked, document_id):
        self.there(await asked.session.get(Document, document_id))
        return Job(kind="ingest", document_id=document_id)


@ANSWERS.wrong("told apart")
@of
class Forbidden(Routes):
    async def load(self, asked, document_id):
        document = self.there(await asked.session.get(Document, document_id))
        if document.user_id != asked.user_id:
            raise HTTPException(403, "this is not yours")
        return document


@ANSWERS.wrong("other passage")
@of
class AnyPassage(Routes):
    async def passage(self, asked, document, passage_id):
        return self.there(await asked.session.get(DocumentChunk, passage_id))


@ANSWERS.wrong("after the query")
@of
class ComparedAfterwards(Routes):
    async def load(self, asked, document_id):
        document = await asked.session.get(Document, document_id)
        if document is None or document.user_id != asked.user_id:
            raise HTTPException(**NOT_FOUND)
        return document


@ANSWERS.wrong("others changed")
@of
class AllOfTheUsers(Routes):
    async def load(self, asked, document_id):
        mine = select(Document).where(Document.user_id == asked.user_id)
        for document in await asked.session.scalars(mine):
            document.status = "processing"
        return await super().load(asked, document_id)


@ANSWERS.wrong("missing")
def takes_every_passage_for_there(sessions, caller):
    class Trusting(Routes):
        async def passage(self, asked, document, passage_id):
            chunk = await asked.session.get(DocumentChunk, passage_id)
            if chunk.document_id != document.id:
                raise HTTPException(**NOT_FOUND)
            return chunk

    return Trusting().router(sessions, caller)


@ANSWERS.wrong("swallowed")
def takes_every_error_for_nothing_there(sessions, caller):
    class Excusing(Routes):
        async def load(self, asked, document_id):
            try:
                return await super().load(asked, document_id)
            except Exception:
                raise HTTPException(**NOT_FOUND) from None

    return Excusing().router(sessions, caller)
