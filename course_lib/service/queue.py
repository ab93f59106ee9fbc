"""The queue of jobs: enqueued in the transaction that needs them, taken by one worker at a time, never lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Document, Job

LEASE = timedelta(seconds=60)
"""A worker that has not been heard of for so long is dead, and its job is another's."""
MOST_WAITING = 50
"""Jobs of one user that wait or run: the others' are not to stand behind thousands."""


def enqueue(session: AsyncSession, kind: str, document_id: UUID, payload: dict[str, Any]) -> Job:
    """A job that exists when the session's transaction commits, and not otherwise."""
    job = Job(kind=kind, document_id=document_id, payload=payload)
    session.add(job)
    return job


async def waiting_of(session: AsyncSession, user_id: UUID) -> int:
    """How many of the user's jobs are not done."""
    mine = select(func.count()).select_from(Job).join(Document, Document.id == Job.document_id)
    return await session.scalar(mine.where(Document.user_id == user_id, Job.status.in_(["queued", "running"]))) or 0


async def take(session: AsyncSession, worker: str) -> Job | None:
    """The job that has waited longest, leased to ``worker``; None when there is none to be done now.

    Who comes at the same time skips the row that is being taken, and takes another. Commit at once.
    """
    ready = select(Job.id).where(Job.status == "queued", Job.run_after <= func.now())
    ready = ready.order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)
    statement = update(Job).where(Job.id == ready.scalar_subquery()).values(
        status="running", worker=worker, attempts=Job.attempts + 1, leased_until=func.clock_timestamp() + LEASE
    )  # fmt: skip
    return await session.scalar(statement.returning(Job))


async def extend(session: AsyncSession, job_id: UUID, worker: str) -> bool:
    """The worker is alive, and needs longer. False when the job is no longer its own."""
    statement = update(Job).where(*_held(job_id, worker)).values(leased_until=func.clock_timestamp() + LEASE)
    return await session.scalar(statement.returning(Job.id)) is not None


async def still_held(session: AsyncSession, job_id: UUID, worker: str) -> bool:
    """Whether the job is still the worker's; nobody takes it before the transaction ends."""
    return await session.scalar(select(Job.id).where(*_held(job_id, worker)).with_for_update()) is not None


async def finish(session: AsyncSession, job_id: UUID) -> None:
    """Done. What the job was given is not kept: a deleted document's text must be nowhere."""
    done: dict[str, Any] = {"status": "done", "leased_until": None, "error": None, "payload": {}}
    await session.execute(update(Job).where(Job.id == job_id).values(done))


async def fail(session: AsyncSession, job_id: UUID, worker: str, sentence: str, pause: timedelta | None) -> str | None:
    """It did not work: again after ``pause``, unless that is None or it was tried as often as may be.

    Returns the job's status now; None when it is no longer the worker's.
    """
    may_retry = literal(pause is not None) & (Job.attempts < Job.max_attempts)
    statement = update(Job).where(*_held(job_id, worker)).values(
        status=case((may_retry, "queued"), else_="failed"),
        payload=case((may_retry, Job.payload), else_=literal({}, Job.payload.type)),
        run_after=func.now() + (pause or timedelta()),
        leased_until=None,
        error=sentence,
    )  # fmt: skip
    return await session.scalar(statement.returning(Job.status))


async def reclaim(session: AsyncSession) -> list[Job]:
    """Take back the jobs of dead workers. Returns those that died once too often, and have failed.

    A job whose text kills whoever reads it is tried ``max_attempts`` times, not for ever.
    """
    may_retry = Job.attempts < Job.max_attempts
    dead = select(Job.id).where(Job.status == "running", Job.leased_until < func.clock_timestamp())
    statement = update(Job).where(Job.id.in_(dead.with_for_update(skip_locked=True))).values(
        status=case((may_retry, "queued"), else_="failed"), leased_until=None, error="The worker died.",
    )  # fmt: skip
    return [job for job in await session.scalars(statement.returning(Job)) if job.status == "failed"]


def _held(job_id: UUID, worker: str) -> tuple[Any, ...]:
    return Job.id == job_id, Job.status == "running", Job.worker == worker
