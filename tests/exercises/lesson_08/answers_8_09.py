"""8.9: enqueued with the row, done once."""

import contextlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy import func, or_, select, text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import Document, Job, User
from tests.exercises.written import Answers

ANSWERS = Answers("8.9")


class Upload(BaseModel):
    title: str
    source: str
    body: str


def accepting(sessions, caller, *, two_transactions=False, keep=lambda job: job):
    router = APIRouter()

    @router.post("/documents", status_code=202)
    async def accept(new: Upload, user_id: Annotated[UUID, Depends(caller)]):
        async with sessions() as session:
            document = Document(user_id=user_id, title=new.title, source=new.source)
            session.add(document)
            await (session.commit() if two_transactions else session.flush())
            job = keep(Job(kind="ingest", document_id=document.id, payload={"body": new.body}))
            session.add(job)
            await session.commit()
        return {"document": str(document.id), "job": str(job.id)}

    return router


class Worker:
    """By objects and locked rows; the wrong answers change a part of it."""

    lease = timedelta(minutes=1)
    locked = {"skip_locked": True}  # noqa: RUF012
    kinds = ("ingest",)

    def __init__(self, sessions):
        self.sessions = sessions

    def free(self):
        over = Job.leased_until < func.now()
        return or_(Job.status == "queued", (Job.status == "running") & over)

    def first(self):
        one = select(Job).where(Job.kind.in_(self.kinds), self.free()).order_by(Job.run_after, Job.id).limit(1)
        return one if self.locked is None else one.with_for_update(**self.locked)

    async def take(self):
        async with self.sessions.begin() as session:
            job = await session.scalar(self.first())
            if job is not None:
                job.status, job.worker = "running", secrets.token_hex(8)
                job.attempts += 1
                job.leased_until = datetime.now(UTC) + self.lease
            return job

    async def still_mine(self, session, job):
        mine = select(Job).where(Job.id == job.id, Job.worker == job.worker, Job.status == "running")
        return await session.scalar(mine.with_for_update())

    async def book(self, session, job, cost):
        document = await session.get_one(Document, job.document_id)
        document.status = "ready"
        owner = await session.get_one(User, document.user_id, with_for_update=True)
        owner.tokens_used += cost

    async def finish(self, job, cost):
        async with self.sessions.begin() as session:
            if (mine := await self.still_mine(session, job)) is None:
                return
            mine.status, mine.leased_until = "done", None
            await self.book(session, job, cost)

    async def work(self, index):
        job = await self.take()
        if job is None:
            return False
        await self.finish(job, await index(job.document_id, job.payload["body"]))
        return True


@ANSWERS.right
def by_objects(sessions, caller):
    return accepting(sessions, caller), Worker(sessions).work


@ANSWERS.right
def gives_back_at_once(sessions, caller):
    """A job whose work failed is queued again, and the lease's end is what a worker is known by."""

    async def take(session):
        return (await session.execute(text(TAKE))).one_or_none()

    async def work(index):
        async with sessions.begin() as session:
            job = await take(session)
        if job is None:
            return False
        mine = {"id": job.id, "until": job.leased_until}
        try:
            cost = await index(job.document_id, job.payload["body"])
        except BaseException:
            async with sessions.begin() as session:
                await session.execute(text(GIVE_BACK), mine)
            raise
        async with sessions.begin() as session:
            await session.execute(text(FINISH), mine | {"cost": cost})
        return True

    return [accepting(sessions, caller), work]


TAKE = """
    UPDATE jobs SET status = 'running', leased_until = clock_timestamp() + interval '60 seconds' WHERE id = (
        SELECT id FROM jobs WHERE kind = 'ingest' AND (status, leased_until < now()) IN (('running', true))
            OR kind = 'ingest' AND status = 'queued'
        ORDER BY id DESC LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING id, document_id, payload, leased_until
"""
GIVE_BACK = "UPDATE jobs SET status = 'queued' WHERE id = :id AND status = 'running' AND leased_until = :until"
FINISH = """
    WITH done AS (
        UPDATE jobs SET status = 'done' WHERE id = :id AND status = 'running' AND leased_until = :until
        RETURNING document_id
    ), ready AS (
        UPDATE documents SET status = 'ready' WHERE id = (SELECT document_id FROM done) RETURNING user_id
    )
    UPDATE users SET tokens_used = tokens_used + :cost WHERE id = (SELECT user_id FROM ready)
"""


def of(kind):
    """The answer with these workers."""

    def accept_and_work(sessions, caller):
        return accepting(sessions, caller), kind(sessions).work

    accept_and_work.__name__ = kind.__name__
    return accept_and_work


@ANSWERS.wrong("not accepted")
def without_its_text(sessions, caller):
    def keep(job):
        job.payload = {}
        return job

    return accepting(sessions, caller, keep=keep), Worker(sessions).work


@ANSWERS.wrong("half stored")
def one_after_the_other(sessions, caller):
    return accepting(sessions, caller, two_transactions=True), Worker(sessions).work


@ANSWERS.wrong("not taken")
@of
class OnlyWhatIsLate(Worker):
    def free(self):
        return Job.leased_until < func.now()


@ANSWERS.wrong("not to be taken")
@of
class AnyKind(Worker):
    kinds = ("ingest", "mail")


@ANSWERS.wrong("connection held")
@of
class InOneTransaction(Worker):
    """The lock is the lease: a worker that dies gives it back, and each one at work holds a connection."""

    async def work(self, index):
        async with self.sessions.begin() as session:
            job = await session.scalar(self.first())
            if job is None:
                return False
            await self.book(session, job, await index(job.document_id, job.payload["body"]))
            job.status = "done"
        return True


@ANSWERS.wrong("not leased")
@of
class ForAnHour(Worker):
    lease = timedelta(hours=1)


@ANSWERS.wrong("not done")
@of
class NobodyPays(Worker):
    async def book(self, session, job, cost):
        (await session.get_one(Document, job.document_id)).status = "ready"


@ANSWERS.wrong("not at once")
@of
class DoneAndThenPaid(Worker):
    async def finish(self, job, cost):
        async with self.sessions() as session:
            if (mine := await self.still_mine(session, job)) is not None:
                mine.status, mine.leased_until = "done", None
                await session.commit()
                await self.book(session, job, cost)
                await session.commit()


@ANSWERS.wrong("waited")
@of
class InSingleFile(Worker):
    locked = {}  # noqa: RUF012


@ANSWERS.wrong("taken twice")
@of
class LookedAndThenWrote(Worker):
    locked = None


@ANSWERS.wrong("given up")
@of
class OnlyWhatIsQueued(Worker):
    def free(self):
        return Job.status == "queued"


@ANSWERS.wrong("done twice")
@of
class WhoeverComesToTheEnd(Worker):
    async def still_mine(self, session, job):
        return await session.get(Job, job.id)


@ANSWERS.wrong("put back")
@of
class GivesBackWhatIsNoLongerItsOwn(Worker):
    async def work(self, index):
        job = await self.take()
        if job is None:
            return False
        try:
            cost = await index(job.document_id, job.payload["body"])
        except BaseException:
            async with self.sessions.begin() as session:
                await session.execute(update(Job).where(Job.id == job.id).values(status="queued"))
            raise
        await self.finish(job, cost)
        return True


@ANSWERS.wrong("lost")
@of
class AddsToWhatItHasRead(Worker):
    async def book(self, session, job, cost):
        document = await session.get_one(Document, job.document_id)
        document.status = "ready"
        (await session.get_one(User, document.user_id)).tokens_used += cost


@ANSWERS.wrong("others changed")
@of
class EverybodyPays(Worker):
    async def book(self, session, job, cost):
        (await session.get_one(Document, job.document_id)).status = "ready"
        await session.execute(update(User).values(tokens_used=func.least(User.tokens_used + cost, User.token_limit)))


@ANSWERS.wrong("took more")
@of
class TakesAllThatWait(Worker):
    async def take(self):
        lease = {"status": "running", "worker": secrets.token_hex(8), "leased_until": datetime.now(UTC) + self.lease}
        ids = select(Job.id).where(Job.kind == "ingest", self.free()).with_for_update(skip_locked=True)
        async with self.sessions.begin() as session:
            taken = update(Job).where(Job.id.in_(ids)).values(lease).returning(Job)
            return (await session.scalars(taken)).first()


@ANSWERS.wrong("raised")
@of
class TakesTheOnlyOneThatWaits(Worker):
    async def take(self):
        lease = {"status": "running", "worker": secrets.token_hex(8), "leased_until": datetime.now(UTC) + self.lease}
        id = select(Job.id).where(Job.kind == "ingest", self.free()).with_for_update(skip_locked=True)
        async with self.sessions.begin() as session:
            return await session.scalar(update(Job).where(Job.id == id.scalar_subquery()).values(lease).returning(Job))


@ANSWERS.wrong("told done")
@of
class BooksIfItCan(Worker):
    async def book(self, session, job, cost):
        with contextlib.suppress(DBAPIError):
            await super().book(session, job, cost)
            await session.flush()


@ANSWERS.wrong("missed")
@of
class LocksAllThatWait(Worker):
    def first(self):
        return select(Job).where(Job.kind == "ingest", self.free()).with_for_update(skip_locked=True)


@ANSWERS.wrong("swallowed")
@of
class TakesEveryErrorForNoJob(Worker):
    async def take(self):
        with contextlib.suppress(DBAPIError):
            return await super().take()


@ANSWERS.wrong("swallowed")
@of
class TakesEveryErrorForAnothersJob(Worker):
    async def finish(self, job, cost):
        with contextlib.suppress(DBAPIError):
            await super().finish(job, cost)
