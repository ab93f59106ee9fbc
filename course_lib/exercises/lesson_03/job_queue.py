"""3.7: a queue in a table, for workers that come, go and die."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_03.scenes.job_workers import (
    forty_jobs,
    four_at_once,
    one_amid_another,
    past_a_lock,
    too_late_amid_a_claim,
)
from course_lib.exercises.lesson_03.scenes.queued_jobs import (
    EXPIRE,
    LONG_OVER,
    WORKERS,
    Jobs,
    add_jobs,
    changed,
    claim,
    complete,
    jobs,
    open_queue,
)
from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.rising import expect_methods_to_raise

TOLERANCE = timedelta(milliseconds=2)  # for roundings: when the call began and ended is known


class QueueOfJobs(Exercise):
    """SKIP LOCKED for the moment of claiming, a lease for the time of working."""

    id = "3.7"
    title = "A queue for four workers"
    answer = "JobQueue"
    minutes = 20
    points = 3
    level = "senior"
    seconds = 45.0  # some three hundred transactions, on a machine that may be busy
    hints: ClassVar = (
        "Two things keep a job from others: a row lock for the moment in which it is claimed, and the lease for the "
        "minutes of work, in which no transaction is open. Which of them outlives a worker that dies?",
        "`with_for_update(skip_locked=True)` with `order_by` and `limit(1)` gives each claim another row, and nobody "
        "waits. Change the row in the same transaction.",
        "What can be taken is a condition with two branches, joined by `or_`: queued and due, or running with a lease "
        "in the past. `attempts < max_attempts` holds for both.",
        "`complete` is one UPDATE whose WHERE asks for the id, the worker and the status. Whether it changed a row is "
        "the answer.",
    )
    why = (
        "The row lock lasts for a claim, milliseconds; the lease lasts for the work, and runs out by itself when a "
        "worker dies. A worker that is only slow may come back late, so `complete` asks whose the job is in the UPDATE "
        "itself. A job can be worked on twice that way, and is completed once: make the work repeatable."
    )
    follow_up = (
        "Some jobs take longer than any lease you would like to wait for. How does a worker keep its lease alive?"
    )
    mistakes: ClassVar = {
        "method missing": "`JobQueue` has no method `{method}`. | Two are asked for: `claim` and `complete`.",
        "nothing claimed": "With {count} job(s) that can be taken, `claim` returned None. "
        "| Queued and due, or running with a lease that is over. Which condition leaves them out?",
        "not a job": "`claim` returned {kind}, and a job was asked for. | The `Job`, or a row that has its `id`.",
        "connection held": "`claim` had returned, and {count} connection(s) were still out of the pool. "
        "| The lease protects the job while it is worked on. The transaction ends with the claim.",
        "not committed": "`claim` returned a job that no other connection sees claimed. | What makes it last?",
        "wrong column": "Claimed by {worker!r}, the job has {stored!r} in `{column}`. "
        "| Status, worker, lease and attempts change with a claim.",
        "wrong lease": "Claimed for {seconds} seconds, the job's lease ends {ends}. "
        "| `leased_until` is now plus the seconds that were asked for.",
        "claimed more": "One claim changed {count} jobs. | One job at a time: `limit(1)`, and its id in the UPDATE.",
        "another job changed": "One claim also changed {count} job(s) that it did not return: one that was {was!r} "
        "has become {status!r}, and its lease was {lease}. "
        "| Unfinished jobs that are out of attempts may be made `failed` once their lease is over. All others stay.",
        "wrong order": "Of {count} jobs that could be taken, `claim` took number {place} by `run_after` and `id`. "
        "| The earliest `run_after` first, between equals the smaller id: one order for queued jobs and for those "
        "whose lease is over.",
        "not due": "`claim` took a job that is to run {minutes} minutes from now. | `run_after` is in the future.",
        "finished job": "`claim` took a job whose status was {status!r}. | That one is over.",
        "lease ignored": "`claim` took a job that another worker held for {seconds} seconds more. "
        "| Running jobs can be taken when their lease is in the past, and not before.",
        "without a lease": "`claim` took a job that is `running` and whose `leased_until` is NULL. "
        "| NULL is not in the past: nobody knows when that lease is over, and the job stays as it is.",
        "empty queue": "With nothing to take, `claim` raised {error}. | None was asked for.",
        "not a bool": "`complete` returned {kind}, and True or False was asked for. "
        "| Compare what came back, for example with `== 1` or `is not None`.",
        "said False": "`complete` said False to the worker who holds the job. | Did the UPDATE change a row? Ask it.",
        "row gone": "`{method}` returned, and the job's row is gone. "
        "| Who did what and when is asked later: change the status, keep the row.",
        "not done": "`complete` said True, and the job's status is {status!r}. | 'done', for good.",
        "completed for another": "`complete` was called for a job that {whose}, and {did}. "
        "| The job's worker and status belong into the WHERE.",
        "unknown job": "For an id that no job has, `complete` {did}. | No such job means False.",
        "never taken over": "A worker's lease was over, and nobody got its job: `claim` returned None. "
        "| A dead worker says nothing. Whose lease is in the past is presumed dead.",
        "late complete": "A worker came back after its job had been taken over, and its `complete` {did}. "
        "| Whose job is it now? Ask that in the UPDATE itself.",
        "still its own": "A worker came back after its lease, before anybody had taken its job over, and `complete` "
        "said {said!r}. "
        "| The job is `running`, and it is this worker who has it: the lease is the business of `claim`.",
        "out of attempts": "For a job that has had {attempts} of {attempts} attempts, `claim` {did}. "
        "| `attempts < max_attempts`, for queued jobs and for those whose lease is over.",
        "waits": "While another transaction had locked the first jobs, `claim` waited for it. "
        "| The next job is free: SKIP LOCKED, in every statement of the claim.",
        "gave up at a lock": "While another transaction had locked the first jobs, `claim` {did}. "
        "| The next job is free. Skip what is locked, do not stop at it.",
        "claimed twice": "{workers} workers claimed at once, and {count} of them got a job that another one got too. "
        "| Look and change in one transaction, under a lock that the others skip.",
        "came back empty": "{workers} workers claimed at once, and {count} of them got None, with jobs enough for "
        "all. "
        "| A claim locks one job and no more, and passes over what others have locked to the next.",
        "failed at once": "{workers} workers claimed at once, and one of them failed with {error}. "
        "| With SKIP LOCKED nobody is in anybody's way.",
        "locked in this process": "While one claim had not committed yet, another one waited for something that is no "
        "lock of the database. "
        "| Workers are processes, and Python's locks are known to one of them.",
        "not all done": "Four workers ran until `claim` gave them nothing, one died on the way, and {left} of {jobs} "
        "jobs are not done. "
        "| None means that there is nothing to take, and not that somebody else was faster.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        held = await self._claims_in_order(attempt)
        await self._completes(attempt, held)
        await self._takes_over(attempt, held)
        await self._stops_trying(attempt)
        await add_jobs(attempt, *range(-100, -60))
        await four_at_once(attempt)
        await one_amid_another(attempt)
        await past_a_lock(attempt)
        await too_late_amid_a_claim(attempt)
        await forty_jobs(attempt)
        (id,) = await add_jobs(attempt, -30)
        await expect_methods_to_raise(
            attempt, await open_queue(attempt), claim=(WORKERS[0], 60), complete=(id, WORKERS[0])
        )

    async def _claims_nothing(self, attempt: Attempt) -> None:
        before = await jobs(attempt)
        claimed = await claim(attempt)
        if claimed is not None:
            self._could_be_taken(attempt, before, claimed)

    async def _claims_in_order(self, attempt: Attempt) -> dict[UUID, str]:
        """Three of them are to run at the same time. Then there is nothing more to take. Who holds which job."""
        due = await add_jobs(attempt, -9) + await add_jobs(attempt, -7, **LONG_OVER)
        tied: dict[str, Any] = {"run_after": datetime.now(UTC) - timedelta(minutes=5)}
        due += sorted(await add_jobs(attempt, -5, -5, **tied) + await add_jobs(attempt, -5, **LONG_OVER, **tied))
        due += await add_jobs(attempt, 20, **LONG_OVER)  # when it was to run matters for queued ones
        later = await add_jobs(attempt, 30)
        await self._add_what_nobody_can_take(attempt)
        workers = [WORKERS[number % len(WORKERS)] for number in range(len(due))]
        for number, id in enumerate(due):
            left = due[number:]
            worker, seconds = workers[number], 61.25 + randbelow(600)
            before = await jobs(attempt)
            claimed = await claim(attempt, worker, seconds)
            attempt.expect(claimed is not None, "nothing claimed", count=len(left))
            assert claimed is not None
            self._could_be_taken(attempt, before, claimed)
            if claimed != id:
                await self._ever_takes_over(attempt, before[id])
                raise attempt.wrong("wrong order", count=len(left), place=left.index(claimed) + 1)
            await self._inspect(attempt, before, claimed, worker, seconds)
        with calling_it(attempt, "empty queue"):
            await self._claims_nothing(attempt)
        return dict(zip([*due, *later], [*workers, ""], strict=True))

    async def _ever_takes_over(self, attempt: Attempt, passed_over: dict[str, Any]) -> None:
        """A job whose lease is over was not taken when it was its turn: is it, when there are no others?"""
        if passed_over["status"] == "running":
            await attempt.sql("DELETE FROM jobs WHERE status = 'queued'")
            attempt.expect(await claim(attempt) is not None, "never taken over")

    async def _add_what_nobody_can_take(self, attempt: Attempt) -> None:
        for status in ("done", "failed"):
            await add_jobs(attempt, -20, **{**LONG_OVER, "status": status, "attempts": 5})  # done at the last try
        await add_jobs(attempt, 50, **{**LONG_OVER, "status": "queued"})
        last_try = {"attempts": 3, "max_attempts": 3, "leased_until": "2100-01-01T00:00:00Z"}
        await add_jobs(attempt, -20, **{**LONG_OVER, **last_try})
        await add_jobs(attempt, -1, **{**LONG_OVER, "leased_until": None})

    def _could_be_taken(self, attempt: Attempt, before: Jobs, claimed: UUID) -> None:
        attempt.expect(claimed in before, "not a job", kind="an id that no job has")
        job = before[claimed]
        attempt.expect(job["status"] in ("queued", "running"), "finished job", status=job["status"])
        due = job["minutes"] <= 0 or job["status"] == "running"
        attempt.expect(due, "not due", minutes=job["minutes"])
        attempt.expect(job["status"] == "queued" or job["leased_until"] is not None, "without a lease")
        attempt.expect(job["status"] == "queued" or job["lease"] < 0, "lease ignored", seconds=job["lease"])

    async def _inspect(self, attempt: Attempt, before: Jobs, claimed: UUID, worker: str, seconds: float) -> None:
        """What the table says after a claim."""
        after = await jobs(attempt)
        attempt.expect(claimed in after, "row gone", method="claim")
        others = changed(before, after)
        attempt.expect(claimed in others, "not committed")
        self._leaves_others_alone(attempt, before, after, [id for id in others if id != claimed], worker)
        wanted = {"status": "running", "worker": worker, "attempts": before[claimed]["attempts"] + 1}
        for column, value in wanted.items():
            stored = after[claimed][column]
            attempt.expect(stored == value, "wrong column", worker=worker, column=column, stored=stored)
        until: datetime | None = after[claimed]["leased_until"]
        attempt.expect(until is not None, "wrong lease", seconds=seconds, ends="never")
        assert until is not None
        moments = [(before[claimed][clock], until - timedelta(seconds=seconds), after[claimed][clock])
                   for clock in ("seen", "here")]  # fmt: skip
        right = any(start - TOLERANCE <= moment <= end + TOLERANCE for start, moment, end in moments)
        lasts = (until - before[claimed]["seen"]).total_seconds()
        attempt.expect(right, "wrong lease", seconds=seconds, ends=f"{lasts:.2f} seconds after the call")

    def _leaves_others_alone(
        self, attempt: Attempt, before: Jobs, after: Jobs, others: list[UUID], worker: str
    ) -> None:  # fmt: skip
        attempt.expect(all(id in after for id in others), "row gone", method="claim")
        taken = [id for id in others if after[id]["status"] == "running" and after[id]["worker"] == worker]
        attempt.expect(not taken, "claimed more", count=len(taken) + 1)
        more = [id for id in others if not _may_fail(before[id], after[id])]
        if more:
            lease, was, status = before[more[0]]["lease"], before[more[0]]["status"], after[more[0]]["status"]
            said = "none" if lease is None else "over" if lease < 0 else "not over"
            raise attempt.wrong("another job changed", count=len(more), was=was, status=status, lease=said)

    async def _completes(self, attempt: Attempt, held: dict[UUID, str]) -> None:
        first, worker = next(iter(held.items()))
        (failed,) = await add_jobs(attempt, -20, status="failed", worker="east", attempts=1)
        (queued,) = await add_jobs(attempt, 40, worker="east", attempts=1)
        await self._is_done(attempt, first, worker)
        for id, by, whose in (
            (list(held)[2], "west", "another worker holds"), (list(held)[-1], "east", "nobody has claimed"),
            (first, worker, "is done"), (failed, "east", "has failed"), (queued, "east", "is queued again"),
        ):  # fmt: skip
            did = await self._completes_in_vain(attempt, id, by)
            attempt.expect(not did, "completed for another", whose=whose, did=did)
        with calling_it(attempt, "unknown job", did="raised an error"):
            said = await complete(attempt, uuid4(), worker)
        attempt.expect(not said, "unknown job", did="returned True")

    async def _completes_in_vain(self, attempt: Attempt, id: UUID, worker: str) -> str:
        """What it did, in words, that it should not have done."""
        before = await jobs(attempt)
        said = await complete(attempt, id, worker)
        if changed(before, await jobs(attempt)):
            return "changed the job"
        return "returned True" if said else ""

    async def _is_done(self, attempt: Attempt, id: UUID, worker: str) -> None:
        said = await complete(attempt, id, worker)
        attempt.expect(said, "said False")
        after = await jobs(attempt)
        attempt.expect(id in after, "row gone", method="complete")
        status = after[id]["status"]
        attempt.expect(status == "done", "not done", status=status)

    async def _takes_over(self, attempt: Attempt, held: dict[UUID, str]) -> None:
        _, (id, worker), *_ = held.items()
        await attempt.sql(EXPIRE, id=id)
        before = await jobs(attempt)
        claimed = await claim(attempt, "west", 120)
        attempt.expect(claimed == id, "never taken over")
        await self._inspect(attempt, before, id, "west", 120)
        did = await self._completes_in_vain(attempt, id, worker)
        attempt.expect(not did, "late complete", did=did)
        await self._is_done(attempt, id, "west")

    async def _stops_trying(self, attempt: Attempt) -> None:
        attempts = 1 + randbelow(4)
        tried = {"attempts": attempts, "max_attempts": attempts}
        used_up = await add_jobs(attempt, -50, **tried)
        used_up += await add_jobs(attempt, -50, **tried, status="running", worker="west")
        await attempt.sql(EXPIRE, id=used_up[1])
        await add_jobs(attempt, -40)
        with calling_it(attempt, "out of attempts", attempts=attempts, did="raised an error"):
            claimed = await claim(attempt)
        attempt.expect(claimed not in used_up, "out of attempts", attempts=attempts, did="took it again")
        did = "returned None, though another job is due"
        attempt.expect(claimed is not None, "out of attempts", attempts=attempts, did=did)


def _may_fail(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """True for a job that was out of attempts and in nobody's hands, and was made failed."""
    left = before["lease"] is not None and before["lease"] < 0
    free = before["status"] == "queued" or (before["status"] == "running" and left)
    return bool(free and before["attempts"] >= before["max_attempts"] and after["status"] == "failed")
