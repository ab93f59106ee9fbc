"""Answers to 3.7, a queue for four workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import and_, case, delete, func, literal, or_, select, text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import Job
from tests.exercises.written import Answers

ANSWERS = Answers("3.7")


def can_be_taken():
    queued = and_(Job.status == "queued", Job.run_after <= func.now())
    left_behind = and_(Job.status == "running", Job.leased_until < func.now())
    return and_(or_(queued, left_behind), Job.attempts < Job.max_attempts)


def following():
    return select(Job).where(can_be_taken()).order_by(Job.run_after, Job.id).limit(1)


def lease(seconds):
    return func.now() + timedelta(seconds=seconds)


@ANSWERS.right
class Right:
    """What the wrong ones change one method of."""

    def __init__(self, sessions):
        self.sessions = sessions

    def statement(self):
        return following().with_for_update(skip_locked=True)

    async def claim(self, worker, seconds):
        async with self.sessions.begin() as session:
            job = await session.scalar(self.statement())
            if job is not None:
                self.take(job, worker, seconds)
            return job

    def take(self, job, worker, seconds):
        job.status, job.worker = "running", worker
        job.leased_until = lease(seconds)
        job.attempts += 1

    def mine(self, job_id, worker):
        return and_(Job.id == job_id, Job.worker == worker, Job.status == "running")

    async def complete(self, job_id, worker):
        done = update(Job).where(self.mine(job_id, worker)).values(status="done", leased_until=None)
        async with self.sessions.begin() as session:
            return (await session.execute(done)).rowcount == 1


@ANSWERS.right
class OneUpdate(Right):
    async def claim(self, worker, seconds):
        free = following().with_only_columns(Job.id).with_for_update(skip_locked=True)
        taken = update(Job).where(Job.id == free.scalar_subquery())
        taken = taken.values(
            status="running", worker=worker, attempts=Job.attempts + 1, leased_until=lease(seconds)
        ).returning(Job)
        async with self.sessions() as session:
            job = (await session.scalars(taken, execution_options={"synchronize_session": False})).one_or_none()
            await session.commit()
            return job

    async def complete(self, job_id, worker):
        async with self.sessions.begin() as session:
            job = await session.get(Job, job_id, with_for_update=True)
            if job is None or job.worker != worker or job.status != "running":
                return False
            job.status = "done"
            return True


@ANSWERS.right
class RawSql(Right):
    """Marks as failed what is out of attempts, and gives a row."""

    async def claim(self, worker, seconds):
        sweep = """
            UPDATE jobs SET status = 'failed', error = 'out of attempts' WHERE id IN (
                SELECT id FROM jobs WHERE status = 'running' AND leased_until < now() AND attempts >= max_attempts
                FOR UPDATE SKIP LOCKED)
        """
        sql = """
            WITH free AS (
                SELECT id FROM jobs
                WHERE (status = 'queued' AND run_after <= now() OR status = 'running' AND leased_until < now())
                AND attempts < max_attempts
                ORDER BY run_after, id LIMIT 1 FOR UPDATE SKIP LOCKED
            )
            UPDATE jobs SET status = 'running', worker = :worker, attempts = attempts + 1,
                leased_until = now() + make_interval(secs => :seconds)
            FROM free WHERE jobs.id = free.id RETURNING jobs.id, jobs.payload
        """
        async with self.sessions.begin() as session:
            await session.execute(text(sweep))
            return (await session.execute(text(sql), {"worker": worker, "seconds": seconds})).first()

    async def complete(self, job_id, worker):
        sql = """
            UPDATE jobs SET status = 'done' WHERE id = :id AND worker = :worker AND status = 'running' RETURNING 1
        """
        async with self.sessions.begin() as session:
            return bool(await session.scalar(text(sql), {"id": job_id, "worker": worker}))


@ANSWERS.right
class TheClockOfPython(Right):
    def statement(self):
        now = datetime.now(UTC)
        queued = and_(Job.status == "queued", Job.run_after <= now)
        free = or_(queued, and_(Job.status == "running", Job.leased_until <= now))
        statement = select(Job).where(free, Job.attempts != Job.max_attempts)
        return statement.order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)

    def take(self, job, worker, seconds):
        super().take(job, worker, seconds)
        job.leased_until = datetime.now(UTC) + timedelta(seconds=seconds)

    async def claim(self, worker, seconds):
        job = await super().claim(worker, seconds)
        return {"id": job.id, "payload": job.payload} if job else None


@ANSWERS.right
class MarksWhatIsOutOfAttempts(Right):
    async def claim(self, worker, seconds):
        while True:
            async with self.sessions.begin() as session:
                queued = and_(Job.status == "queued", Job.run_after <= func.now())
                free = or_(queued, and_(Job.status == "running", Job.leased_until < func.now()))
                statement = select(Job).where(free).order_by(Job.run_after, Job.id).limit(1)
                job = await session.scalar(statement.with_for_update(skip_locked=True))
                if job is None:
                    return None
                if job.attempts < job.max_attempts:
                    self.take(job, worker, seconds)
                    return job
                job.status = "failed"


@ANSWERS.right
class TurnsOfAnAdvisoryLock(Right):
    """One claim at a time, and still past locked rows."""

    async def claim(self, worker, seconds):
        async with self.sessions.begin() as session:
            await session.execute(select(func.pg_advisory_xact_lock(37)))
            job = await session.scalar(self.statement())
            if job is not None:
                self.take(job, worker, seconds)
            return job


@ANSWERS.wrong("another job changed")
class PutBackThenClaimed(Right):
    """What dead workers have left is queued again in a transaction of its own; any worker does that."""

    async def claim(self, worker, seconds):
        lost = and_(Job.status == "running", Job.leased_until < func.now(), Job.attempts < Job.max_attempts)
        ids = select(Job.id).where(lost).with_for_update(skip_locked=True)
        async with self.sessions.begin() as session:
            back = update(Job).where(Job.id.in_(ids)).values(status="queued", worker=None, leased_until=None)
            await session.execute(back, execution_options={"synchronize_session": False})
        return await super().claim(worker, seconds)


@ANSWERS.right
class NowaitThroughAList(Right):
    """What is locked is not waited for: the next of the list is tried."""

    async def claim(self, worker, seconds):
        ids = following().with_only_columns(Job.id).limit(20)
        async with self.sessions() as session:
            for id in (await session.scalars(ids)).all():
                try:
                    free = select(Job).where(Job.id == id, can_be_taken()).with_for_update(nowait=True)
                    job = await session.scalar(free)
                except DBAPIError:
                    await session.rollback()
                    continue
                if job is not None:
                    self.take(job, worker, seconds)
                    await session.commit()
                    return job
        return None


@ANSWERS.wrong("method missing")
class NoComplete:
    def __init__(self, sessions):
        self.sessions = sessions

    claim = Right.claim
    statement = Right.statement
    take = Right.take


@ANSWERS.wrong("nothing claimed")
class ForgotReturn(Right):
    async def claim(self, worker, seconds):
        await super().claim(worker, seconds)


@ANSWERS.wrong("wrong order")
class NullIsNotLess(Right):
    """For a job that was never leased, `leased_until < now()` is NULL."""

    def statement(self):
        free = and_(Job.status.in_(["queued", "running"]), Job.leased_until < func.now())
        return select(Job).where(free).order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("not a job")
class OnlyTheId(Right):
    async def claim(self, worker, seconds):
        job = await super().claim(worker, seconds)
        return job.id if job else None


@ANSWERS.wrong("connection held")
class LockedWhileAtWork(Right):
    """The job is protected by the row lock, until the worker is done."""

    def __init__(self, sessions):
        self.session = sessions()

    async def claim(self, worker, seconds):
        job = await self.session.scalar(self.statement())
        if job is not None:
            self.take(job, worker, seconds)
            await self.session.flush()
        return job


@ANSWERS.wrong("not committed")
class ForgotCommit(Right):
    async def claim(self, worker, seconds):
        async with self.sessions() as session:
            job = await session.scalar(self.statement())
            if job is not None:
                self.take(job, worker, seconds)
                await session.flush()
            return job


@ANSWERS.wrong("wrong column")
class CountsNoAttempts(Right):
    def take(self, job, worker, seconds):
        job.status, job.worker, job.leased_until = "running", worker, lease(seconds)


@ANSWERS.wrong("wrong column")
class NobodysJob(Right):
    def take(self, job, worker, seconds):
        job.status, job.leased_until = "running", lease(seconds)
        job.attempts += 1


@ANSWERS.wrong("wrong lease")
class NoLease(Right):
    def take(self, job, worker, seconds):
        job.status, job.worker = "running", worker
        job.attempts += 1


@ANSWERS.wrong("claimed more")
class AllThatAreDue(Right):
    async def claim(self, worker, seconds):
        free = select(Job.id).where(can_be_taken()).order_by(Job.run_after, Job.id).with_for_update(skip_locked=True)
        async with self.sessions.begin() as session:
            ids = (await session.scalars(free)).all()
            if not ids:
                return None
            taken = (
                update(Job)
                .where(Job.id.in_(ids))
                .values(status="running", worker=worker, attempts=Job.attempts + 1, leased_until=lease(seconds))
            )
            await session.execute(taken)
            return await session.get(Job, ids[0])


@ANSWERS.wrong("wrong order")
class AnyOfEquals(Right):
    def statement(self):
        return select(Job).where(can_be_taken()).order_by(Job.run_after).limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("not due")
class AnyTime(Right):
    def statement(self):
        free = or_(Job.status == "queued", and_(Job.status == "running", Job.leased_until < func.now()))
        statement = select(Job).where(free, Job.attempts < Job.max_attempts).order_by(Job.run_after, Job.id)
        return statement.limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("lease ignored")
class RunningOnesToo(Right):
    def statement(self):
        free = and_(Job.status.in_(["queued", "running"]), Job.run_after <= func.now())
        statement = select(Job).where(free, Job.attempts < Job.max_attempts).order_by(Job.run_after, Job.id)
        return statement.limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("empty queue")
class One(Right):
    async def claim(self, worker, seconds):
        async with self.sessions.begin() as session:
            job = (await session.scalars(self.statement())).one()
            self.take(job, worker, seconds)
            return job


@ANSWERS.wrong("not a bool")
class CompleteReturnsNothing(Right):
    async def complete(self, job_id, worker):
        await super().complete(job_id, worker)


@ANSWERS.wrong("said False")
class IsItStillThere(Right):
    async def complete(self, job_id, worker):
        await super().complete(job_id, worker)
        async with self.sessions() as session:
            return await session.scalar(select(Job.id).where(self.mine(job_id, worker))) is not None


@ANSWERS.wrong("row gone")
class DeletesWhatIsDone(Right):
    async def complete(self, job_id, worker):
        async with self.sessions.begin() as session:
            return (await session.execute(delete(Job).where(self.mine(job_id, worker)))).rowcount == 1


@ANSWERS.wrong("not done")
class Looks(Right):
    async def complete(self, job_id, worker):
        async with self.sessions() as session:
            job = await session.scalar(select(Job).where(self.mine(job_id, worker)).with_for_update())
            if job is None:
                return False
            job.status = "done"
            await session.flush()
            return True


@ANSWERS.wrong("completed for another")
class ByItsId(Right):
    def mine(self, job_id, worker):
        return and_(Job.id == job_id, Job.status == "running")


@ANSWERS.wrong("completed for another")
class WhateverItsStatus(Right):
    def mine(self, job_id, worker):
        return and_(Job.id == job_id, func.coalesce(Job.worker, worker) == worker)


@ANSWERS.wrong("unknown job")
class NoneHasNoWorker(Right):
    async def complete(self, job_id, worker):
        async with self.sessions.begin() as session:
            job = await session.get(Job, job_id, with_for_update=True)
            if job.worker != worker or job.status != "running":
                return False
            job.status = "done"
            return True


@ANSWERS.wrong("never taken over")
class QueuedOnesOnly(Right):
    def statement(self):
        free = and_(Job.status == "queued", Job.run_after <= func.now(), Job.attempts < Job.max_attempts)
        return select(Job).where(free).order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("late complete")
class RemembersWhatItClaimed(Right):
    claimed: set[tuple[object, str]] = set()  # noqa: RUF012

    async def claim(self, worker, seconds):
        job = await super().claim(worker, seconds)
        if job is not None:
            self.claimed.add((job.id, worker))
        return job

    async def complete(self, job_id, worker):
        if (job_id, worker) not in self.claimed:
            return False
        async with self.sessions.begin() as session:
            done = update(Job).where(Job.id == job_id, Job.status == "running").values(status="done")
            return (await session.execute(done)).rowcount == 1


@ANSWERS.wrong("late complete")
class LooksBeforeItCompletes(Right):
    """Between the look and the UPDATE the job can be taken over."""

    async def complete(self, job_id, worker):
        async with self.sessions.begin() as session:
            job = await session.scalar(select(Job).where(self.mine(job_id, worker)))
            if job is None:
                return False
            job.status = "done"
            return True


@ANSWERS.wrong("out of attempts")
class LeftToTheConstraint(Right):
    def statement(self):
        queued = and_(Job.status == "queued", Job.run_after <= func.now())
        free = or_(queued, and_(Job.status == "running", Job.leased_until < func.now()))
        return select(Job).where(free).order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("out of attempts")
class NoneForTheFirst(LeftToTheConstraint):
    async def claim(self, worker, seconds):
        async with self.sessions.begin() as session:
            job = await session.scalar(self.statement())
            if job is None or job.attempts == job.max_attempts:
                return None
            self.take(job, worker, seconds)
            return job


@ANSWERS.wrong("out of attempts")
class OnlyForQueuedOnes(Right):
    def statement(self):
        queued = and_(Job.status == "queued", Job.run_after <= func.now(), Job.attempts < Job.max_attempts)
        free = or_(queued, and_(Job.status == "running", Job.leased_until < func.now()))
        return select(Job).where(free).order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)

    def take(self, job, worker, seconds):
        super().take(job, worker, seconds)
        job.attempts = min(job.attempts, job.max_attempts)


@ANSWERS.wrong("waits")
class Waits(Right):
    def statement(self):
        return following().with_for_update()


@ANSWERS.wrong("gave up at a lock")
class NowaitForAWhile(Right):
    tries = 40

    async def claim(self, worker, seconds):
        for _ in range(self.tries):
            try:
                async with self.sessions.begin() as session:
                    job = await session.scalar(following().with_for_update(nowait=True))
                    if job is not None:
                        self.take(job, worker, seconds)
                    return job
            except DBAPIError as error:
                if error.orig.sqlstate != "55P03":
                    raise
        return None


@ANSWERS.wrong("failed at once")
class NowaitOnce(Right):
    def statement(self):
        return following().with_for_update(nowait=True)


@ANSWERS.wrong("failed at once")
class RepeatableRead(Right):
    async def claim(self, worker, seconds):
        async with self.sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            job = await session.scalar(following().with_for_update())
            if job is not None:
                self.take(job, worker, seconds)
            await session.commit()
            return job


@ANSWERS.wrong("claimed twice")
class LooksThenWrites(Right):
    def statement(self):
        return following()


@ANSWERS.wrong("came back empty")
class AskedAgainInTheUpdate(Right):
    async def claim(self, worker, seconds):
        async with self.sessions.begin() as session:
            id = await session.scalar(following().with_only_columns(Job.id))
            values = {"status": "running", "worker": worker, "leased_until": lease(seconds)}
            taken = update(Job).where(Job.id == id, can_be_taken()).values(attempts=Job.attempts + 1, **values)
            return await session.scalar(taken.returning(Job), execution_options={"synchronize_session": False})


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("locked in this process")
class LockOfPython(Right):
    def statement(self):
        return following()

    async def claim(self, worker, seconds):
        async with LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await super().claim(worker, seconds)


@ANSWERS.wrong("not all done")
class StopsNearTheEnd(Right):
    """Takes a job only while there are enough for all workers."""

    async def claim(self, worker, seconds):
        async with self.sessions() as session:
            count = await session.scalar(select(func.count()).select_from(Job).where(Job.status == "done"))
            held = await session.scalar(
                select(func.sum(case((Job.status == "running", 1), else_=literal(0)))).where(Job.worker != worker)
            )
        if count > 35 and held and count < 40 and worker != "north":
            return None
        return None if 38 <= count < 40 else await super().claim(worker, seconds)


@ANSWERS.wrong("finished job")
class AnythingDue(Right):
    def statement(self):
        due = and_(Job.run_after <= func.now(), Job.attempts < Job.max_attempts, Job.status != "running")
        return select(Job).where(due).order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)


@ANSWERS.wrong("wrong order")
class QueuedOnesFirst(Right):
    def statement(self):
        return super().statement().order_by(None).order_by(Job.status, Job.run_after, Job.id)


@ANSWERS.wrong("nothing claimed")
class DeadOnesHaveToBeDue(Right):
    def statement(self):
        return super().statement().where(Job.run_after <= func.now())


@ANSWERS.wrong("wrong lease")
class WholeSeconds(Right):
    def take(self, job, worker, seconds):
        super().take(job, worker, int(seconds))


@ANSWERS.wrong("another job changed")
class TakesDoneOnesForLost(Right):
    async def claim(self, worker, seconds):
        tried = and_(Job.leased_until < func.now(), Job.attempts >= Job.max_attempts)
        ids = select(Job.id).where(tried).with_for_update(skip_locked=True)
        failed = update(Job).where(Job.id.in_(ids)).values(status="failed")
        async with self.sessions.begin() as session:
            await session.execute(failed, execution_options={"synchronize_session": False})
        return await super().claim(worker, seconds)


@ANSWERS.wrong("another job changed")
class GivesUpOnTheLastTry(Right):
    async def claim(self, worker, seconds):
        tried = and_(Job.status.in_(["queued", "running"]), Job.attempts >= Job.max_attempts)
        ids = select(Job.id).where(tried).with_for_update(skip_locked=True)
        failed = update(Job).where(Job.id.in_(ids)).values(status="failed")
        async with self.sessions.begin() as session:
            await session.execute(failed, execution_options={"synchronize_session": False})
        return await super().claim(worker, seconds)


@ANSWERS.wrong("waits")
class SweepsWhatIsLocked(Right):
    async def claim(self, worker, seconds):
        tried = and_(Job.status == "running", Job.leased_until < func.now(), Job.attempts >= Job.max_attempts)
        async with self.sessions.begin() as session:
            failed = update(Job).where(tried).values(status="failed")
            await session.execute(failed, execution_options={"synchronize_session": False})
            job = await session.scalar(self.statement())
            if job is not None:
                self.take(job, worker, seconds)
            return job


@ANSWERS.wrong("still its own")
class LateIsLate(Right):
    def mine(self, job_id, worker):
        return and_(super().mine(job_id, worker), Job.leased_until > func.now())


@ANSWERS.wrong("without a lease")
class NoLeaseIsAnOldOne(Right):
    def statement(self):
        left_behind = and_(Job.status == "running", func.coalesce(Job.leased_until, Job.run_after) < func.now())
        queued = and_(Job.status == "queued", Job.run_after <= func.now())
        can = and_(or_(queued, left_behind), Job.attempts < Job.max_attempts)
        return select(Job).where(can).order_by(Job.run_after, Job.id).limit(1).with_for_update(skip_locked=True)
