"""Workers of 3.7 in each other's way: at a locked job, at the same moment, and over forty jobs with a death."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import text

from course_lib.exercises.lesson_03.scenes.queued_jobs import (
    EXPIRE,
    LONG_OVER,
    WORKERS,
    add_jobs,
    complete,
    id_of,
    jobs,
    open_queue,
)
from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.turns import PATIENCE, Race, run_race

JOBS = 40
DIES, CLAIMS = "south", 3  # this worker dies with the job that it claims as its third
TURNS = 12  # more than a claim takes
LOCK_WHAT_IS_OVER = "SELECT id FROM jobs WHERE attempts >= max_attempts OR leased_until < now() FOR UPDATE"
LOCK = "SELECT id FROM jobs WHERE status = 'queued' ORDER BY run_after, id LIMIT 1 FOR UPDATE"
LEFT_BEHIND = """
    UPDATE jobs SET status = 'running', worker = :worker, attempts = 1, leased_until = now() - interval '1 minute'
    WHERE id = :id
"""
SECONDS = 600


async def past_a_lock(attempt: Attempt) -> None:
    """A claim while the judge holds the first job's row, those of dead workers, and those that are out of attempts.

    Raises:
        Wrong: it waits, or goes away with nothing.
    """
    queue = await open_queue(attempt)
    await add_jobs(attempt, -30, -20, -10)
    await add_jobs(attempt, -300, -290, **LONG_OVER)
    await add_jobs(attempt, -280, **{**LONG_OVER, "attempts": 5})

    async def script(race: Race) -> tuple[bool, Any]:
        race.run_freely()
        async with attempt.judge_session() as judge:
            await judge.execute(text(LOCK_WHAT_IS_OVER))
            await judge.execute(text(LOCK))
            call = race.start(queue.claim, WORKERS[0], SECONDS)
            await race.settle(PATIENCE)
            waited = not call.ended
        return waited, (await race.results())[0]

    with calling_it(attempt, "gave up at a lock", did="raised an error"):
        waited, job = await run_race(attempt, script)
    attempt.expect(not waited, "waits")
    attempt.expect(job is not None, "gave up at a lock", did="returned None")


async def four_at_once(attempt: Attempt) -> None:
    """Four claims, one statement each in turn."""
    queues = [await open_queue(attempt) for _ in WORKERS]

    async def script(race: Race) -> tuple[bool, list[Any]]:
        for queue, worker in zip(queues, WORKERS, strict=True):
            race.start(queue.claim, worker, SECONDS)
        return await race.take_turns(), await race.results()

    with calling_it(attempt, "failed at once", workers=len(WORKERS)):
        in_the_database, claimed = await run_race(attempt, script)
    _each_its_own(attempt, claimed)
    attempt.expect(in_the_database, "locked in this process")


async def one_amid_another(attempt: Attempt) -> None:
    """A claim that happens while another one is after its first statement, after its second, and so on; of two jobs."""
    queues = [await open_queue(attempt) for _ in range(2)]
    for turns in range(1, TURNS):
        await attempt.sql("DELETE FROM jobs")
        await add_jobs(attempt, -2, -1)

        async def script(race: Race, turns: int = turns) -> list[Any]:
            first = race.start(queues[0].claim, WORKERS[0], SECONDS)
            await race.run_alone(first, turns)
            if not first.ended:
                await race.run_alone(race.start(queues[1].claim, WORKERS[1], SECONDS))
                await race.take_turns()
            return await race.results()

        with calling_it(attempt, "failed at once", workers=2):
            claimed = await run_race(attempt, script)
        _each_its_own(attempt, claimed)
        if len(claimed) == 1:
            return


async def too_late_amid_a_claim(attempt: Attempt) -> None:
    """A lease is over. Its worker comes back, and in the middle of its ``complete`` another one claims the job."""
    await attempt.sql("DELETE FROM jobs")
    (id,) = await add_jobs(attempt, -30)
    queues = [await open_queue(attempt) for _ in range(2)]
    for turns in range(1, TURNS):
        await attempt.sql(LEFT_BEHIND, id=id, worker=WORKERS[0])

        async def script(race: Race, turns: int = turns) -> list[Any]:
            first = race.start(queues[0].complete, id, WORKERS[0])
            await race.run_alone(first, turns)
            if not first.ended:
                await race.run_alone(race.start(queues[1].claim, WORKERS[1], SECONDS))
                await race.take_turns()
            return await race.results()

        with calling_it(attempt, "late complete", did="raised an error"):
            said, *claimed = await run_race(attempt, script)
        if not claimed:
            attempt.expect(said is True, "still its own", said=said)
            return
        taken_over = claimed[0] is not None
        state = (await jobs(attempt))[id]
        right = (said, state["status"]) == ((False, "running") if taken_over else (True, "done"))
        did = f"returned {said} and left the job {state['status']!r}"
        attempt.expect(right, "late complete", did=did)


def _each_its_own(attempt: Attempt, claimed: list[Any]) -> None:
    ids = [id_of(attempt, job) for job in claimed]
    shared = [id for id in ids if id is not None and ids.count(id) > 1]
    attempt.expect(not shared, "claimed twice", workers=len(ids), count=len(shared))
    attempt.expect(None not in ids, "came back empty", workers=len(ids), count=ids.count(None))


async def forty_jobs(attempt: Attempt) -> None:
    """Four workers until nothing is left; one dies, its lease runs out, and it comes back too late."""
    await attempt.sql("DELETE FROM jobs")
    await add_jobs(attempt, *range(-JOBS, 0))
    working = _Working(attempt, [await open_queue(attempt) for _ in WORKERS])

    async def script(race: Race, *workers: str) -> list[Any]:
        race.run_freely()
        for worker in workers:
            race.start(working.until_nothing_is_left, worker)
        return await race.results()

    with calling_it(attempt, "failed at once", workers=len(WORKERS)):
        await run_race(attempt, lambda race: script(race, *WORKERS))
    attempt.expect(not working.twice, "claimed twice", workers=len(WORKERS), count=len(working.twice))
    attempt.expect(not working.refused, "said False")
    if working.left_behind is not None:
        await attempt.sql(EXPIRE, id=working.left_behind)
        del working.held_by[working.left_behind]
        await run_race(attempt, lambda race: script(race, WORKERS[0]))
    left = sum(job["status"] != "done" for job in (await jobs(attempt)).values())
    attempt.expect(left == 0, "not all done", left=left, jobs=JOBS)
    if working.left_behind is not None:
        late = await complete(attempt, working.left_behind, DIES)
        attempt.expect(not late, "late complete", did="returned True")


class _Working:
    """What the workers do, and who holds which job."""

    def __init__(self, attempt: Attempt, queues: list[Any]) -> None:
        self.attempt = attempt
        self.queues = dict(zip(WORKERS, queues, strict=True))
        self.held_by: dict[UUID, str] = {}
        self.twice: list[UUID] = []
        self.refused: list[UUID] = []
        self.left_behind: UUID | None = None

    async def until_nothing_is_left(self, worker: str) -> None:
        for number in range(1, JOBS + 2):
            id = id_of(self.attempt, await self.queues[worker].claim(worker, SECONDS))
            if id is None:
                return
            if id in self.held_by:
                self.twice.append(id)
            self.held_by[id] = worker
            if worker == DIES and number == CLAIMS:
                self.left_behind = id
                return
            if not await self.queues[worker].complete(id, worker):
                self.refused.append(id)
            self.held_by.pop(id, None)
