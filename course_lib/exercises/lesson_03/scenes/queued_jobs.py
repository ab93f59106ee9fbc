"""What the judge of 3.7 does with the learner's queue: put jobs into it, claim, complete, and look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from course_lib.judging.asking import readable
from course_lib.judging.attempt import Attempt
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows
from course_lib.models import Job

WORKERS = ("north", "east's", "south", "west")
JOBS = """
    SELECT id, status, worker, attempts, max_attempts, leased_until, run_after, clock_timestamp() AS seen,
           round(extract(epoch FROM leased_until - now()))::bigint AS lease,
           round(extract(epoch FROM run_after - now()) / 60)::int AS minutes
    FROM jobs
"""
LONG_OVER = {"status": "running", "worker": "west", "attempts": 1, "leased_until": "2026-02-01T10:00:00Z"}
"""Columns of a job that somebody was lent and did not complete in time."""
EXPIRE = "UPDATE jobs SET leased_until = now() - interval '1 minute' WHERE id = :id"
Jobs = dict[UUID, dict[str, Any]]


async def add_jobs(attempt: Attempt, *minutes: int, **columns: Any) -> list[UUID]:
    """A job for each of ``minutes``, to be run so long after now, or before it if negative; their ids."""
    now = datetime.now(UTC)
    ids = [uuid4() for _ in minutes]
    rows = [
        {"id": id, "kind": "embed", "payload": {}, "status": "queued", "attempts": 0, "max_attempts": 5}
        | {"run_after": now + timedelta(minutes=m), "created_at": now, "updated_at": now, **columns}
        for id, m in zip(ids, minutes, strict=True)
    ]
    # where they lie in the table is no order to rely on
    await add_rows(attempt, "jobs", sorted(rows, key=lambda row: str(row["id"]), reverse=True))
    return ids


async def jobs(attempt: Attempt) -> Jobs:
    """All jobs by their id. ``lease`` and ``minutes`` (until ``run_after``) count from now.

    ``seen`` is the moment by the clock of the server, ``here`` by that of this process.
    """
    rows = await attempt.sql(JOBS)
    here = datetime.now(UTC)
    return {row[0]: {**dict(zip(rows.columns, row, strict=True)), "here": here} for row in rows}


def changed(before: Jobs, after: Jobs) -> list[UUID]:
    """Whose row is another one, or gone; what merely gets older does not count."""
    lasting = ("status", "worker", "attempts", "leased_until", "run_after")
    return [id for id in before if id not in after or any(before[id][c] != after[id][c] for c in lasting)]


async def open_queue(attempt: Attempt) -> Any:
    """A queue as a worker has it."""
    queue = await attempt.call(sessions_of(attempt))
    for method in ("claim", "complete"):
        attempt.expect(callable(getattr(queue, method, None)), "method missing", method=method)
    return queue


async def claim(attempt: Attempt, worker: str = WORKERS[0], seconds: float = 60) -> UUID | None:
    """Claim in a queue of its own; the id of the job."""
    queue = await open_queue(attempt)
    job = await attempt.call(worker, seconds, function=queue.claim)
    held = attempt.engine.pool.checkedout()  # type: ignore[attr-defined]
    attempt.expect(held == 0, "connection held", count=held)
    return id_of(attempt, job)


def id_of(attempt: Attempt, job: Any) -> UUID | None:
    """The id of a claimed job; None for None."""
    if job is None:
        return None
    if isinstance(job, Job):
        readable(job, "id")
    id = job.get("id") if isinstance(job, Mapping) else getattr(job, "id", None)
    attempt.expect(isinstance(id, UUID), "not a job", kind=article(job))
    return id


async def complete(attempt: Attempt, id: UUID, worker: str) -> bool:
    queue = await open_queue(attempt)
    said = await attempt.call(id, worker, function=queue.complete)
    attempt.expect(isinstance(said, bool), "not a bool", kind=article(said))
    return bool(said)
