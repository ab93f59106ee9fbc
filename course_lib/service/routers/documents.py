"""Documents: sent, listed, looked at, deleted. What is not the caller's is not there."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Form, Path, Response, UploadFile
from sqlalchemy import select

from course_lib.models import Document, DocumentChunk
from course_lib.repositories import NotFound, RagRepository
from course_lib.service import problems
from course_lib.service.dependencies import FORM, JSON, Caller, Running, Work
from course_lib.service.documented import ONCE, errors
from course_lib.service.idempotency import Once, OnceOnly
from course_lib.service.problems import Refused
from course_lib.service.schemas import (
    LARGEST_INT,
    Cursor,
    DocumentOut,
    Documents,
    JobOut,
    Limit,
    Line,
    NewDocument,
    PassageOut,
    Uploaded,
)  # fmt: skip
from course_lib.service.uploads import Upload, accept
from course_lib.unit_of_work import UnitOfWork

router = APIRouter(prefix="/documents", tags=["documents"])
LISTING = "documents"
TOO_MANY = (problems.TOO_MUCH_WAITS, problems.AS_MANY_AS_MAY_BE)
Number = Annotated[int, Path(ge=0, le=LARGEST_INT)]


@router.post(
    "", status_code=202, dependencies=[JSON], responses=errors(*ONCE, *TOO_MANY, body=True)
)  # fmt: skip
async def add_text(new: NewDocument, caller: Caller, work: Work, once: OnceOnly, response: Response) -> Uploaded:
    """Send a text, in Markdown or plain. It can be searched when its job is done."""
    await once.claim(work.session, new.model_dump_json().encode())
    upload = Upload(new.text.encode(), "text.md", "text/markdown", new.source or new.title, new.title)
    return await _accepted(work, caller.id, upload, once, response)


@router.post(
    "/files", status_code=202, dependencies=[FORM], responses=errors(*ONCE, *TOO_MANY, body=True)
)  # fmt: skip
async def add_file(
    file: Annotated[UploadFile, File(description="Markdown, plain text, HTML or PDF.")],
    caller: Caller,
    work: Work,
    once: OnceOnly,
    response: Response,
    title: Annotated[Line | None, Form()] = None,
) -> Uploaded:
    """Send a file. Its name is its source: the file of the same name is replaced."""
    data, name = await file.read(), _name(file.filename)
    await once.claim(work.session, name.encode() + b"\0" + (title or "").encode() + b"\0" + data)
    upload = Upload(data, name, file.content_type, name, title)
    return await _accepted(work, caller.id, upload, once, response)


@router.get("", responses=errors(problems.BAD_CURSOR))
async def documents(
    caller: Caller, work: Work, service: Running, limit: Limit = 50, cursor: Cursor = None
) -> Documents:
    """A page of the caller's documents, in the order they were first sent."""
    after = UUID(service.cursors.open(caller.id, LISTING, cursor)[0]) if cursor else None
    found = await work.documents.page_of(caller.id, after=after, limit=limit + 1)
    page = found[:limit]
    further = service.cursors.seal(caller.id, LISTING, str(page[-1].id)) if len(found) > limit else None
    return Documents(items=[DocumentOut.model_validate(document) for document in page], next=further)


@router.get("/{document_id}", responses=errors(problems.NOT_FOUND))
async def document(document_id: UUID, caller: Caller, work: Work) -> DocumentOut:
    """One document, and how far it is."""
    mine = select(Document).where(Document.id == document_id, Document.user_id == caller.id)
    if (found := await work.session.scalar(mine)) is None:
        raise NotFound(Document, document_id)
    return DocumentOut.model_validate(found)


@router.get("/{document_id}/passages/{number}", responses=errors(problems.NOT_FOUND))
async def passage(document_id: UUID, number: Number, caller: Caller, work: Work) -> PassageOut:
    """A passage that an answer rests on, by its number in the document."""
    chunk = DocumentChunk
    statement = (
        select(chunk.document_id, Document.title, chunk.chunk_index, chunk.content)
        .join(chunk.document)
        .where(chunk.document_id == document_id, chunk.chunk_index == number, Document.user_id == caller.id)
    )
    if (found := (await work.session.execute(statement)).one_or_none()) is None:
        raise NotFound(chunk, number)
    return PassageOut.model_validate(found)


@router.delete("/{document_id}", status_code=204, responses=errors(problems.NOT_FOUND))
async def delete(document_id: UUID, caller: Caller, work: Work) -> None:
    """Delete a document with its passages and jobs."""
    await RagRepository(work.session).delete_document(caller.id, document_id)


async def _accepted(work: UnitOfWork, user_id: UUID, upload: Upload, once: Once, response: Response) -> Uploaded:
    row, job = await accept(work.session, user_id, upload)
    accepted = Uploaded(document=DocumentOut.model_validate(row), job=JobOut.model_validate(job))
    headers = {"Location": f"jobs/{job.id}" if upload.name == "text.md" else f"../jobs/{job.id}"}
    response.headers.update(headers)
    await once.keep(work.session, 202, accepted.model_dump(mode="json"), headers)
    return accepted


def _name(filename: str | None) -> str:
    """The last part of a file's name, as a client may send a whole path."""
    name = (filename or "").replace("\\", "/").rpartition("/")[2].strip()[:200]
    if not name or not name.isprintable():
        raise Refused(problems.INVALID, "file: it needs a name, of characters that can be shown.")
    return name
