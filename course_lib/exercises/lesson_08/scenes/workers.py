"""Workers at a job, and what is expected of each: that it is given the job, and that it brings it to its end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from sqlalchemy import text

from course_lib.exercises.lesson_08.scenes.queued import Indexing, Queued, Stage
from course_lib.exercises.lesson_08.scenes.serving import side_by_side
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import quoted
from course_lib.judging.rising import HIDE, SHOW

GATE = 8_09
HALT = f"""
    DO $$ BEGIN
        CREATE OR REPLACE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS
            $f$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $f$;
        CREATE TRIGGER halt BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.status = 'running') EXECUTE FUNCTION halt();
    END $$
"""


def expect_given(attempt: Attempt, index: Indexing, job: Queued, said: Any, mistake: str, **told: str) -> None:
    did = "" if index.given else f"returned {quoted(said)}, without a call of `index`"
    if index.given and index.given != [(job.document, job.body)]:
        did = "called `index` more than once" if len(index.given) > 1 else "called it with something else"
    attempt.expect(not did, mistake, did=did, **told)


async def expect_done(attempt: Attempt, stage: Stage, job: Queued, said: Any, before: int, cost: int) -> None:
    after = await stage.queue.state(job)
    paid = after.paid - before
    right = (after.job, after.document, paid) == ("done", "ready", cost) and said is True
    told = {"said": said, "job": after.job, "document": after.document, "paid": paid, "cost": cost}
    attempt.expect(right, "not done", **told)


async def at_work(attempt: Attempt, stage: Stage, job: Queued, index: Indexing) -> asyncio.Future[Any]:
    """A worker whose ``index`` hangs."""
    running = asyncio.ensure_future(stage.work(index))
    await first_of(running, index.begun)
    if running.done():
        expect_given(attempt, index, job, running.result(), "not taken")
    return running


async def both_at_work(
    attempt: Attempt, stage: Stage, job: Queued, late: Indexing, other: Indexing
) -> tuple[asyncio.Future[Any], asyncio.Future[Any]]:
    """Two workers with one job, of which the first has lost it to the second."""
    slow = await at_work(attempt, stage, job, late)
    await stage.queue.end_lease(job)
    running = asyncio.ensure_future(stage.work(other, 1))
    await first_of(running, other.begun)
    if running.done():
        ended = "was slow at its work"
        expect_given(attempt, other, job, running.result(), "given up", ended=ended)
    return slow, running


async def another_takes_it(attempt: Attempt, stage: Stage, job: Queued, before: int, ended: str) -> None:
    await stage.queue.end_lease(job)
    index = stage.index()
    said = await stage.work(index, 1)
    expect_given(attempt, index, job, said, "given up", ended=ended)
    await expect_done(attempt, stage, job, said, before, index.cost)


async def several_wait(attempt: Attempt, stage: Stage) -> None:
    """Each step takes one job, and leaves the others to others."""
    await _each_step_takes_one(attempt, stage)
    await _two_take_two(attempt, stage)
    await _errors_rise(attempt, stage)


async def _each_step_takes_one(attempt: Attempt, stage: Stage) -> None:
    jobs = [await stage.queue.add() for _ in range(3)]
    while jobs:
        before, index = await stage.queue.state(jobs[0]), stage.index()
        said = await stage.work(index)
        job = next((job for job in jobs if index.given == [(job.document, job.body)]), jobs[0])
        expect_given(attempt, index, job, said, "not taken")
        jobs.remove(job)
        gone = sum([(await stage.queue.state(other)).job != "queued" for other in jobs])
        attempt.expect(gone == 0, "took more", count=gone, n=len(jobs))
        await expect_done(attempt, stage, job, said, before.paid, index.cost)


async def _two_take_two(attempt: Attempt, stage: Stage) -> None:
    """Neither can make a job its own before both are about to; they come to their end one after the other."""
    jobs = [await stage.queue.add() for _ in range(2)]
    before, indexes = await stage.queue.state(jobs[0]), [stage.index(hangs=True) for _ in jobs]
    await attempt.sql(HALT)
    async with attempt.judge_session() as gate:
        await gate.execute(text(f"SELECT pg_advisory_xact_lock({GATE})"))
        works = [asyncio.ensure_future(stage.work(index, at)) for at, index in enumerate(indexes)]
        await until_blocked(attempt, side_by_side(works), 2)
        await gate.rollback()
    paid = 0
    for index, work in zip(indexes, works, strict=True):
        await first_of(work, index.begun)
    same = bool(indexes[0].given) and indexes[0].given == indexes[1].given
    if same:
        for index in indexes:
            index.goes_on.set()
        await asyncio.gather(*works, return_exceptions=True)
        raise attempt.wrong("taken twice", count=2)
    for index, work in zip(indexes, works, strict=True):
        index.goes_on.set()
        said = await work
        attempt.expect(bool(index.given), "missed", said=quoted(said))
        job = next((job for job in jobs if index.given == [(job.document, job.body)]), jobs[0])
        expect_given(attempt, index, job, said, "not taken")
        paid += index.cost
        await expect_done(attempt, stage, job, said, before.paid, paid)
    await attempt.sql("DROP TRIGGER halt ON jobs")


async def _errors_rise(attempt: Attempt, stage: Stage) -> None:
    """No table can be found, from the beginning of a step on, or from its work on."""
    await stage.queue.add()
    for from_the_beginning in (True, False):
        index = stage.index()
        index.look = partial(attempt.sql, HIDE)
        if from_the_beginning:
            await attempt.sql(HIDE)
        try:
            said = await stage.work(index)
        except Exception:
            continue
        finally:
            if from_the_beginning or index.given:
                await attempt.sql(SHOW)
        sentence = f"When no table could be found, `work` returned {quoted(said)}."
        raise Wrong("swallowed", sentence, "Catch only what you have an answer for: everything else rises.")
    await attempt.sql("DELETE FROM jobs WHERE status IN ('queued', 'running')")
