"""S4: a worker whose transaction is open for as long as its job takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows
from course_lib.judging.timers import watching_timers
from course_lib.judging.turns import in_turns

OPEN = """
    SELECT count(*), coalesce(min(state), ''), count(backend_xid) > 0, count(backend_xmin) > 0 FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL
    AND pid <> ALL(CAST(:watchers AS int[]))
"""
SEEN = """
    SELECT status, CASE
        WHEN leased_until IS NULL THEN 'without a lease'
        WHEN leased_until - clock_timestamp() BETWEEN '4 minutes' AND '6 minutes' THEN ''
        ELSE 'with a lease that ends in ' || extract(epoch FROM leased_until - clock_timestamp())::bigint || ' seconds'
    END FROM jobs WHERE id = :id
"""
AFTER = "SELECT status, attempts, error FROM jobs WHERE id = :id"
OTHERS = "SELECT md5(string_agg(j::text, '' ORDER BY id)) FROM jobs AS j WHERE id <> ALL(CAST(:ours AS uuid[]))"
ADD = """
    INSERT INTO jobs (kind, payload, attempts, run_after)
    SELECT 'embed', jsonb_build_object('text', CAST(:text AS text)), 1, now() + make_interval(secs => :late)
    RETURNING id
"""
LONG = 600  # seconds that a job may take
TRAP = "It's {not} a 'format' %s :error"


class Work(Drill):
    """What holds a job while it is handled, if not a transaction."""

    id = "S4"
    title = "Slower by the hour"
    answer = "work"
    minutes = 15
    points = 3
    level = "senior"
    topics: ClassVar = ("queues", "postgres", "transactions")
    faults: ClassVar = ("open", "idle")
    seconds = 12.0
    hints: ClassVar = (
        "Write down when the session's transaction begins and when it ends, for a job of ten minutes and for a worker "
        "that finds nothing. What does `pg_stat_activity` show meanwhile?",
        "VACUUM keeps every dead row that an open transaction might still see. A queue makes dead rows all day, and "
        "with a few workers one of them is always busy.",
        "The row lock is what keeps others from the job, and it ends with the transaction. What can be stored and "
        "committed before `handle` is called, so that nobody takes the job, and somebody does if the worker dies?",
        "Three steps: take the job (`running`, `leased_until`) and commit; handle it without a transaction; store "
        "what came of it and commit. And a SELECT that finds nothing has begun a transaction, too.",
    )
    why = (
        "A locked row needs a transaction id, and no row that died after the oldest id can be removed, in any table of "
        "the database: with one worker always busy, each look for a job wades through the day's dead rows. A lease is "
        "a lock that is written down: it survives the commit, and runs out by itself. The idle worker holds up less, "
        "but its lock on the table stops the next ALTER TABLE, and everybody behind that."
    )
    follow_up = (
        "A worker is slow, its lease runs out, and another one takes the job. What does the last UPDATE of the first "
        "one have to say, and what if `handle` has had its effect twice?"
    )
    mistakes: ClassVar = {
        "open": "While a job was being handled, the server showed {count} open transaction(s) of the worker, "
        "{state}, {holds}. | That is what was reported. Which dead rows may VACUUM remove as long as that is so?",
        "idle": "While the worker waited for jobs, the server showed {count} open transaction(s) of it, {state}. "
        "| A SELECT begins a transaction even if it finds nothing, and its lock on the table stays until the end.",
        "unguarded": "While a job was being handled, others saw it as {status!r} {lease}. "
        "| `running`, leased for five minutes: by that others leave it alone, and the sweeper finds it if you die.",
        "twice": "Two workers ran side by side, and {count} job(s) were handled twice. "
        "| Taking a job is one statement, or a row that is locked and skipped by others.",
        "wrong job": "`handle` was given {kind} and {payload}, which is not a queued job's id and its payload. "
        "| As it was found: `handle(job.id, job.payload)`",
        "too early": "A job was handled that was to run in an hour. | `run_after` is still a condition.",
        "order": "Jobs were handled in another order than they were to run. | Oldest `run_after` first, as before.",
        "left": "The worker was told that nothing more comes, and {count} of {total} jobs that were due had not been "
        "handled. | It waits only when it has found none, and looks again after that.",
        "not stored": "A job was handled, and in the end others saw it as {status!r}. "
        "| What came of it is stored and committed: `done`.",
        "failure not stored": "`handle` raised an error for a job, and in the end others saw it as {status!r} with the "
        "error {error!r}. | `failed`, and the text of the error.",
        "stopped by a failure": "`handle` raised an error for a job, and the worker ended with {error}. "
        "| One bad job is no reason to leave the others.",
        "attempts": "A job that had been tried once has {attempts} attempts after it was handled. | Each try counts.",
        "counted late": "While a job was handled for the second time, others saw {attempts} attempt(s). "
        "| A try counts when it begins: a worker that dies in it has tried, too.",
        "cut off": "A timer that the worker had set was let run out, which would have been in {seconds} seconds, and "
        "the job that was being handled was given up and became {status!r}. "
        "| A job takes ten minutes, too. The lease is no limit: another task extends it.",
        "lost": "A worker was cancelled while it handled a job, and others then saw the job as {status!r}. "
        "| Who dies says nothing any more. What is still `running` the sweeper queues again.",
        "others changed": "Jobs were changed that were not to be handled. "
        "| What runs elsewhere, is done or has failed stays as it is.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await add_rows(attempt, "jobs", [_other(status) for status in ("running", "done", "failed") * 2])
        queue = _Queue(attempt, [await _add(attempt, late) for late in (-300, -900, -600)])
        elsewhere = await attempt.value(OTHERS, ours=queue.due)
        later = await _add(attempt, 3600)
        queue.later = {later}
        await self._work(attempt, queue)
        attempt.expect(await attempt.value(OTHERS, ours=[*queue.due, later]) == elsewhere, "others changed")
        await self._side_by_side(attempt)
        await self._takes_its_time(attempt)
        await self._dies(attempt)

    async def _work(self, attempt: Attempt, queue: _Queue) -> None:
        """One worker alone; a job comes while it waits, and one of them fails."""
        queue.fails = queue.due[2]
        try:
            await attempt.call(sessions_of(attempt), queue.handle, queue.wait)
        except Wrong as error:
            if queue.found is not None:
                raise queue.found from error
            if isinstance(error.__cause__, _BadJob):
                raise attempt.wrong("stopped by a failure", error=article(error.__cause__)) from error
            raise
        await queue.look()
        first = [id for id in queue.handled if id in queue.due[:3]]
        attempt.expect(first == [queue.due[place] for place in (1, 2, 0)], "order")

    async def _side_by_side(self, attempt: Attempt) -> None:
        """Two workers take turns, statement by statement."""
        queue = _Queue(attempt, [await _add(attempt, -60 - place) for place in range(3)])
        queue.alone, queue.waited = False, True
        arguments = (queue.handle, queue.wait)
        await in_turns(attempt, arguments, arguments)
        count = len(queue.handled) - len(set(queue.handled))
        attempt.expect(not count, "twice", count=count)
        await queue.look()

    async def _takes_its_time(self, attempt: Attempt) -> None:
        """Ten minutes, in which timers of the worker's run out that are set for less."""
        id = await _add(attempt, -60)
        seconds: list[float] = []

        async def scene() -> None:
            with watching_timers() as timers:

                async def handle(*_: Any) -> None:
                    seconds.extend(timers.within(LONG))
                    if seconds:
                        await timers.run_out(LONG)

                await attempt.answer(sessions_of(attempt), handle, _nothing_comes)

        scene.__name__ = attempt.exercise.answer  # the name that a message gives
        await attempt.call(function=scene)
        status = (await attempt.sql(AFTER, id=id))[0][0]
        attempt.expect(
            not seconds or status == "done", "cut off", seconds=round(min(seconds, default=0)), status=status
        )

    async def _dies(self, attempt: Attempt) -> None:
        """Cancelled while a job is being handled."""
        id, begun = await _add(attempt, -60), asyncio.Event()

        async def handle(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def scene() -> None:
            running = asyncio.ensure_future(attempt.answer(sessions_of(attempt), handle, _nothing_comes))
            await first_of(running, begun)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        scene.__name__ = attempt.exercise.answer  # the name that a message gives
        await attempt.call(function=scene)
        status = (await attempt.sql(AFTER, id=id))[0][0]
        attempt.expect(status in ("running", "queued"), "lost", status=status)


async def _nothing_comes() -> bool:
    """There is nothing to wait for."""
    return False


class _BadJob(ValueError):
    """What ``handle`` raises for one of them."""


class _Queue:
    """What a worker is given, and what it does with it.

    Attributes:
        due: jobs that are to be handled.
        later: and those that are not yet.
        handled: in the order in which ``handle`` was called.
        fails: the job that cannot be handled.
        alone: whether all transactions that are open are this worker's, between two of its statements.
        waited: nothing more comes.
        found: the first mistake that was seen from inside.
    """

    def __init__(self, attempt: Attempt, due: Sequence[UUID]) -> None:
        self._attempt = attempt
        self.due, self.later = list(due), set[UUID]()
        self.handled: list[Any] = []
        self.fails: UUID | None = None
        self.alone, self.waited = True, False
        self.found: Wrong | None = None

    def _note(self, right: bool, mistake: str, **numbers: object) -> None:
        """The first mistake is kept: raised here, it would be an error that the worker catches."""
        if not right and self.found is None:
            self.found = self._attempt.wrong(mistake, **numbers)

    async def handle(self, id: Any, payload: Any) -> None:
        attempt = self._attempt
        if self.alone:
            count, state, writes, reads = (await attempt.sql(OPEN, watchers=list(attempt.watchers)))[0]
            holds = "with an id of its own" if writes else "with a snapshot" if reads else "and a lock on `jobs`"
            self._note(not count, "open", count=count, state=repr(state), holds=holds)
        self._note(id not in self.later, "too early")
        known = id in self.due and payload == await attempt.value("SELECT payload FROM jobs WHERE id = :id", id=id)
        self._note(known, "wrong job", kind=article(id), payload=article(payload))
        self.handled.append(id)
        status, lease = (await attempt.sql(SEEN, id=id))[0]
        guarded = status == "running" and not lease
        self._note(guarded or not self.alone, "unguarded", status=status, lease=lease or "with a lease")
        attempts = (await attempt.sql(AFTER, id=id))[0][1]
        self._note(attempts > 1, "counted late", attempts=attempts)
        if id == self.fails:
            raise _BadJob(TRAP)

    async def wait(self) -> bool:
        attempt = self._attempt
        if self.alone:
            count, state, *_ = (await attempt.sql(OPEN, watchers=list(attempt.watchers)))[0]
            self._note(not count, "idle", count=count, state=repr(state))
        if self.waited:
            return False
        self.waited = True
        self.due.append(await _add(attempt, 0))
        return True

    async def look(self) -> None:
        """What became of the jobs.

        Raises:
            Wrong: that, or what was noted meanwhile.
        """
        attempt = self._attempt
        if self.found is not None:
            raise self.found
        left = set(self.due) - set(self.handled)
        attempt.expect(not left, "left", count=len(left), total=len(self.due))
        for id in self.due:
            status, attempts, error = (await attempt.sql(AFTER, id=id))[0]
            if id == self.fails:
                right = status == "failed" and TRAP in (error or "")
                attempt.expect(right, "failure not stored", status=status, error=error)
            else:
                attempt.expect(status == "done", "not stored", status=status)
            attempt.expect(attempts == 2, "attempts", attempts=attempts)


async def _add(attempt: Attempt, late: int) -> UUID:
    """A job that is to run in so many seconds; it was tried once already."""
    id: UUID = await attempt.value(ADD, text=awkward_text(), late=late)
    return id


def _other(status: str) -> dict[str, Any]:
    """A job that is no longer in the queue; one that runs elsewhere is overdue."""
    long_ago = "2026-01-01T00:00:00+00:00"
    leased = {"worker": "elsewhere", "leased_until": long_ago} if status == "running" else {}
    row = {"kind": "embed", "payload": {"text": token_hex(4)}, "status": status, "attempts": 1, "max_attempts": 5}
    row |= {"run_after": long_ago, "created_at": long_ago, "updated_at": long_ago, "worker": None, "leased_until": None}
    return row | leased | {"id": str(UUID(bytes=bytes.fromhex(token_hex(16))))}
