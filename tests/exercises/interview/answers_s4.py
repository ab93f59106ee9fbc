"""Answers to S4, slower by the hour."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, text, update

from course_lib.models import Job
from tests.exercises.written import Answers

ANSWERS = Answers("S4")
LEASE = timedelta(minutes=5)
DUE = (Job.status == "queued", Job.run_after <= func.clock_timestamp())
NEXT = select(Job).where(*DUE).order_by(Job.run_after, Job.id).limit(1)
SKIPPING = NEXT.with_for_update(skip_locked=True)
ONE_STATEMENT = text("""
    UPDATE jobs SET status = 'running', attempts = attempts + 1, leased_until = clock_timestamp() + interval '5 minutes'
    WHERE id = (
        SELECT id FROM jobs WHERE status = 'queued' AND run_after <= now()
        ORDER BY run_after, id FOR UPDATE SKIP LOCKED LIMIT 1
    )
    RETURNING id, payload
""")


async def take(sessions, next_one=SKIPPING, tries=1, lease=LEASE):
    async with sessions.begin() as session:
        job = await session.scalar(next_one)
        if job is not None:
            job.status, job.attempts = "running", job.attempts + tries
            job.leased_until = datetime.now(UTC) + lease if lease else None
        return job


async def end(sessions, id, status, error=None):
    async with sessions.begin() as session:
        ending = update(Job).where(Job.id == id)
        await session.execute(ending.values(status=status, error=error, leased_until=None))


async def run(sessions, handle, wait, take=take, end=end):
    while True:
        job = await take(sessions)
        if job is None:
            if not await wait():
                return
            continue
        try:
            await handle(job.id, job.payload)
        except Exception as error:
            await end(sessions, job.id, "failed", str(error))
        else:
            await end(sessions, job.id, "done")


@ANSWERS.right
async def three_steps(sessions, handle, wait):
    await run(sessions, handle, wait)


@ANSWERS.right
async def one_session_with_more_commits(sessions, handle, wait):
    async with sessions() as session:
        while True:
            job = await session.scalar(SKIPPING)
            if job is None:
                await session.rollback()
                if not await wait():
                    return
                continue
            job.status, job.leased_until = "running", func.clock_timestamp() + LEASE
            job.attempts += 1
            await session.commit()
            try:
                await handle(job.id, job.payload)
                job.status = "done"
            except Exception as error:
                job.status, job.error = "failed", f"{type(error).__name__}: {error}"
            await session.commit()


@ANSWERS.right
async def in_autocommit(sessions, handle, wait):
    """A connection is kept, and each statement is a transaction of its own."""
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        while True:
            job = (await session.execute(ONE_STATEMENT)).one_or_none()
            if job is None:
                if not await wait():
                    return
                continue
            status, said = "done", None
            try:
                await handle(job.id, job.payload)
            except Exception as error:
                status, said = "failed", str(error)
            await session.execute(
                text("UPDATE jobs SET status = :status, error = :said, leased_until = NULL WHERE id = :id"),
                {"status": status, "said": said, "id": job.id},
            )


@ANSWERS.right
async def guarded_by_a_condition(sessions, handle, wait):
    """No lock is waited for or skipped: who comes second changes no row, and looks again."""

    async def take(sessions):
        while True:
            async with sessions.begin() as session:
                id = await session.scalar(NEXT.with_only_columns(Job.id))
                if id is None:
                    return None
                taking = update(Job).where(Job.id == id, Job.status == "queued")
                taking = taking.values(
                    status="running", attempts=Job.attempts + 1, leased_until=func.clock_timestamp() + LEASE
                )
                job = await session.scalar(taking.returning(Job))
            if job is not None:
                return job

    await run(sessions, handle, wait, take)


@ANSWERS.wrong("open")
async def only_the_wait_is_free(sessions, handle, wait):
    async with sessions() as session:
        while True:
            job = await session.scalar(SKIPPING)
            if job is None:
                await session.rollback()
                if not await wait():
                    return
                continue
            try:
                await handle(job.id, job.payload)
                job.status = "done"
            except Exception as error:
                job.status, job.error = "failed", str(error)
            job.attempts += 1
            await session.commit()


@ANSWERS.wrong("open")
async def flushed_and_not_committed(sessions, handle, wait):
    async def take_and_hold(session):
        job = await session.scalar(SKIPPING)
        if job is not None:
            job.status, job.leased_until = "running", datetime.now(UTC) + LEASE
            job.attempts += 1
            await session.flush()
        return job

    while True:
        async with sessions.begin() as session:
            job = await take_and_hold(session)
            if job is not None:
                await handle(job.id, job.payload)
                job.status = "done"
        if job is None and not await wait():
            return


@ANSWERS.wrong("open")
async def read_again_after_the_commit(sessions, handle, wait):
    """`refresh` begins the next transaction."""
    async with sessions() as session:
        while True:
            job = await session.scalar(SKIPPING)
            if job is None:
                await session.rollback()
                if not await wait():
                    return
                continue
            job.status, job.leased_until, job.attempts = "running", datetime.now(UTC) + LEASE, job.attempts + 1
            await session.commit()
            await session.refresh(job)
            await handle(job.id, job.payload)
            job.status = "done"
            await session.commit()


@ANSWERS.wrong("idle")
async def only_what_was_reported(sessions, handle, wait):
    async with sessions() as session:
        while True:
            job = await session.scalar(SKIPPING)
            if job is None:
                if not await wait():
                    return
                continue
            job.status, job.leased_until, job.attempts = "running", datetime.now(UTC) + LEASE, job.attempts + 1
            await session.commit()
            try:
                await handle(job.id, job.payload)
                job.status = "done"
            except Exception as error:
                job.status, job.error = "failed", str(error)
            await session.commit()


@ANSWERS.wrong("unguarded")
async def lock_let_go(sessions, handle, wait):
    async def look(sessions):
        async with sessions.begin() as session:
            return await session.scalar(SKIPPING)

    async def count_and_end(sessions, id, status, error=None):
        async with sessions.begin() as session:
            ending = update(Job).where(Job.id == id)
            await session.execute(ending.values(status=status, error=error, attempts=Job.attempts + 1))

    await run(sessions, handle, wait, look, count_and_end)


@ANSWERS.wrong("unguarded")
async def without_a_lease(sessions, handle, wait):
    await run(sessions, handle, wait, lambda sessions: take(sessions, lease=None))


@ANSWERS.wrong("unguarded")
async def leased_for_ever(sessions, handle, wait):
    await run(sessions, handle, wait, lambda sessions: take(sessions, lease=timedelta(days=3650)))


@ANSWERS.wrong("unguarded")
async def done_before_it_is(sessions, handle, wait):
    async def take_as_done(sessions):
        async with sessions.begin() as session:
            job = await session.scalar(SKIPPING)
            if job is not None:
                job.status, job.attempts = "done", job.attempts + 1
            return job

    await run(sessions, handle, wait, take_as_done)


@ANSWERS.wrong("twice")
async def looked_and_written(sessions, handle, wait):
    await run(sessions, handle, wait, lambda sessions: take(sessions, NEXT))


@ANSWERS.wrong("too early")
async def whatever_is_queued(sessions, handle, wait):
    queued = select(Job).where(Job.status == "queued").order_by(Job.run_after.desc()).limit(1)
    await run(sessions, handle, wait, lambda sessions: take(sessions, queued.with_for_update(skip_locked=True)))


@ANSWERS.wrong("order")
async def in_order_of_ids(sessions, handle, wait):
    by_id = select(Job).where(*DUE).order_by(Job.id).limit(1).with_for_update(skip_locked=True)
    await run(sessions, handle, wait, lambda sessions: take(sessions, by_id))


@ANSWERS.wrong("left")
async def ended_at_the_first_wait(sessions, handle, wait):
    async def wait_once():
        await wait()
        return False

    await run(sessions, handle, wait_once)


@ANSWERS.wrong("wrong job")
async def given_the_job(sessions, handle, wait):
    async def with_the_job(id, payload):
        await handle(str(id), payload)

    await run(sessions, with_the_job, wait)


@ANSWERS.wrong("not stored")
async def never_ended(sessions, handle, wait):
    async def nothing(*_):
        pass

    await run(sessions, handle, wait, end=nothing)


@ANSWERS.wrong("failure not stored")
async def failures_are_done(sessions, handle, wait):
    async def done(sessions, id, *_):
        await end(sessions, id, "done")

    await run(sessions, handle, wait, end=done)


@ANSWERS.wrong("failure not stored")
async def failures_are_nameless(sessions, handle, wait):
    async def silent(sessions, id, status, *_):
        await end(sessions, id, status)

    await run(sessions, handle, wait, end=silent)


@ANSWERS.wrong("stopped by a failure")
async def failures_rise(sessions, handle, wait):
    while True:
        job = await take(sessions)
        if job is None:
            if not await wait():
                return
            continue
        await handle(job.id, job.payload)
        await end(sessions, job.id, "done")


@ANSWERS.wrong("attempts")
async def tries_counted_twice(sessions, handle, wait):
    await run(sessions, handle, wait, lambda sessions: take(sessions, tries=2))


@ANSWERS.wrong("counted late")
async def counted_with_the_outcome(sessions, handle, wait):
    async def end_and_count(sessions, id, status, error=None):
        async with sessions.begin() as session:
            ending = update(Job).where(Job.id == id)
            counted = {"attempts": Job.attempts + 1, "leased_until": None}
            await session.execute(ending.values(status=status, error=error, **counted))

    await run(sessions, handle, wait, lambda sessions: take(sessions, tries=0), end_and_count)


@ANSWERS.wrong("lost")
async def cancelled_is_failed(sessions, handle, wait):
    while (job := await take(sessions)) or await wait():
        if job is None:
            continue
        try:
            await handle(job.id, job.payload)
        except BaseException as error:
            await asyncio.shield(end(sessions, job.id, "failed", str(error)))
            if not isinstance(error, Exception):
                raise
        else:
            await end(sessions, job.id, "done")


def limited(limit):
    """Right but for a limit of its own."""

    async def work(sessions, handle, wait):
        await run(sessions, lambda *job: limit(handle(*job)), wait)

    return work


async def under_a_timeout(handling):
    async with asyncio.timeout(LEASE.total_seconds()):
        await handling


async def looked_at_after_the_lease(handling):
    task = asyncio.ensure_future(handling)
    done, _ = await asyncio.wait({task}, timeout=LEASE.total_seconds() - 10)
    if not done:
        task.cancel()
        raise RuntimeError("the lease is over")
    await task


async def cancelled_by_a_timer(handling):
    task = asyncio.ensure_future(handling)
    timer = asyncio.get_running_loop().call_later(LEASE.total_seconds(), task.cancel)
    try:
        await asyncio.wait({task})
        if task.cancelled():
            raise RuntimeError("too long")
        await task
    finally:
        timer.cancel()


ANSWERS.wrong("cut off")(limited(lambda handling: asyncio.wait_for(handling, 300)))
ANSWERS.wrong("cut off")(limited(under_a_timeout))
ANSWERS.wrong("cut off")(limited(looked_at_after_the_lease))
ANSWERS.wrong("cut off")(limited(cancelled_by_a_timer))
ANSWERS.right(limited(lambda handling: asyncio.wait_for(handling, 3600)))


@ANSWERS.right
async def extends_its_lease(sessions, handle, wait):
    """Every minute, although another task would."""

    async def extend(id):
        while True:
            await asyncio.sleep(60)
            async with sessions.begin() as session:
                lease = func.clock_timestamp() + LEASE
                await session.execute(update(Job).where(Job.id == id).values(leased_until=lease))

    async def handle_and_extend(id, payload):
        extending = asyncio.create_task(extend(id))
        try:
            await handle(id, payload)
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)

    await run(sessions, handle_and_extend, wait)


@ANSWERS.wrong("counted late")
async def tries_uncounted(sessions, handle, wait):
    await run(sessions, handle, wait, lambda sessions: take(sessions, tries=0))


@ANSWERS.wrong("others changed")
async def swept_as_well(sessions, handle, wait):
    async def sweep_and_take(sessions):
        async with sessions.begin() as session:
            await session.execute(update(Job).where(Job.status == "failed", Job.error.is_(None)).values(error="lost"))
        return await take(sessions)

    await run(sessions, handle, wait, sweep_and_take)
