"""Jobs: how far the work is that was accepted."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import select

from course_lib.models import Document, Job
from course_lib.repositories import NotFound
from course_lib.service import problems
from course_lib.service.dependencies import Caller, Work
from course_lib.service.documented import errors
from course_lib.service.schemas import JobOut

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("/{job_id}", responses=errors(problems.NOT_FOUND))
async def job(job_id: UUID, caller: Caller, work: Work) -> JobOut:
    """A job is its document's owner's."""
    mine = select(Job).join(Document, Document.id == Job.document_id)
    if (found := await work.session.scalar(mine.where(Job.id == job_id, Document.user_id == caller.id))) is None:
        raise NotFound(Job, job_id)
    return JobOut.model_validate(found)
