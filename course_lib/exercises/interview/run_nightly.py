"""M10: a lock of a session that goes back to a pool, under a number that others have too."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, ClassVar, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.db import make_engine
from course_lib.judging.asking import BLOCKED
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import kind_of

POOL: dict[str, Any] = {"pool_size": 3, "max_overflow": 0, "pool_timeout": 1}
GOODBYE, LOOKS = 0.6, 20  # seconds and looks, for the server to see a closed connection off
NAME = "send-invoices-12"
OTHER_NAMES = ("send-invoices-21", "send-invoices-123", "send-invoices-1", "Send-Invoices-12", "send-reminders")
LOCKS = """
    SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
OPEN = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL
        AND backend_type = 'client backend' AND pid <> ALL(CAST(CAST(:own AS text[]) AS int[]))
"""
KILL = """
    SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> ALL(CAST(CAST(:own AS text[]) AS int[]))
"""
End = Literal["returned", "raised", "was cancelled"]


class MailServerDown(RuntimeError):
    """What the job of the reported night raised."""


class Job:
    """A job that begins, and ends when it is told to.

    Attributes:
        calls: how often it was begun.
        begun: set when it is.
        error: what it raises at its end, if anything.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.calls, self.error = 0, error
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.calls += 1
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error

    @classmethod
    def short(cls) -> Job:
        """One that has nothing to do."""
        job = cls()
        job.may_end.set()
        return job


class RunNightly(Drill):
    """An advisory lock that outlives what it was taken for."""

    id = "M10"
    title = "Another one is running"
    answer = "run_nightly"
    minutes = 15
    points = 2
    level = "mid"
    topics: ClassVar = ("pooling", "concurrency", "operations")
    faults: ClassVar = ("locked out", "kept apart", "open transaction")
    hints: ClassVar = (
        "Whose is the lock: the transaction's, the connection's, or the process's? Follow the connection after "
        "`job()` has raised.",
        "A pool gives a connection back with a rollback, which is nothing to a lock of the session. What has to "
        "happen however the job ends, also when it is cancelled? Then put the names of two jobs through the line "
        "that makes the key, and look at `pg_stat_activity` while a job runs.",
        "`try … finally` with `pg_advisory_unlock` on the same connection; a key of the whole name, such as "
        "`hashtextextended(name, 0)`; and a connection with the isolation level AUTOCOMMIT, so that no transaction "
        "stands open for an hour.",
    )
    why = (
        "A session-level lock ends with the session, and a pool is there to keep sessions. So it has to be given back "
        "on the connection that took it, whichever way the job ends. The process that holds such a leftover is the "
        "only one that still gets the lock: a session may take it twice. A number of 64 bits holds a hash of a name, "
        "not the name, and the hash has to be the same in every process."
    )
    follow_up = "Between your processes and PostgreSQL somebody puts PgBouncer with pool_mode = transaction. What now?"
    mistakes: ClassVar = {
        "not run": "Nobody was at the job, and it was called {calls} times. | Once.",
        "locked out": "The job had failed in one process, and in another `run_nightly` went on to say that somebody "
        "was at it. | That is what was reported. Which line is not reached when `job()` raises?",
        "locked out by a cancel": "The job had been cancelled in one process, and in another `run_nightly` went on to "
        "say that somebody was at it. | CancelledError is no `Exception`.",
        "never given back": "The job had come to its end in one process, and in another `run_nightly` went on to say "
        "that somebody was at it. | Who gives back the lock, and on which connection?",
        "error swallowed": "The job {how}, and `run_nightly` {did}. | The caller sees it as it is.",
        "ran twice": "{whose} process was at the job, and it was begun once more. "
        "| What is seen by all processes? And a session may take a lock that it holds already.",
        "waited": "Another process was at the job, and `run_nightly` waited for a lock. "
        "| Ask in a way that says no at once: there is a function, and there is NOWAIT.",
        "raised instead": "Another process was at the job, and `run_nightly` raised {error}. | False.",
        "wrong return": "{what}, and it returned {said!r}. | True if the job ran, False if somebody else was at it.",
        "kept apart": "`{name}` was running in another process, and so `{other}` was not run. "
        "| Two jobs, and one number for both locks. How much of the name is in it?",
        "salted": "The number of the lock is what Python's `hash` says of the name, and it says something else in "
        "every process. | Unless PYTHONHASHSEED is set, texts are salted. Which hash is the same everywhere?",
        "open transaction": "While the job ran, {count} transaction(s) stood open. "
        "| The first statement on a connection begins one, a SELECT too, and the server ends it after a minute.",
        "outlives its process": "The process was ended in the middle of the job, and another one was told that "
        "somebody was at it. | What does nobody give back when a process dies, and what goes with its connections?",
        "connections left": "The job {how}, and {count} connection(s) of the pool did not come back. "
        "| `async with engine.connect()`",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        ends: dict[End, str] = {
            "returned": "never given back", "raised": "locked out", "was cancelled": "locked out by a cancel",
        }  # fmt: skip
        async with _process(attempt) as here, _process(attempt) as there:

            async def scene() -> None:
                for how, mistake in ends.items():
                    await self._is_over(attempt, here, there, how, mistake)
                await self._beside(attempt, here, there)
                await self._dies(attempt, here, there)

            scene.__name__ = self.answer  # the name that a message gives
            await attempt.call(function=scene)

    async def _is_over(self, attempt: Attempt, here: AsyncEngine, there: AsyncEngine, how: End, mistake: str) -> None:
        """The job comes to an end in one process; then it is another's turn, and this one's again."""
        job = Job(MailServerDown("no route to host") if how == "raised" else None)
        running = await self._begin(attempt, here, job)
        running.cancel() if how == "was cancelled" else job.may_end.set()
        await asyncio.wait({running})
        self._look_at_end(attempt, running, job, how)
        await self._until_it_runs(attempt, there, mistake)
        await self._until_it_runs(attempt, here, mistake)
        for engine in (here, there):
            out = engine.pool.checkedout()  # type: ignore[attr-defined]
            attempt.expect(not out, "connections left", how=how, count=out)

    async def _begin(self, attempt: Attempt, engine: AsyncEngine, job: Job) -> asyncio.Task[Any]:
        """Until the job is at work."""
        running = asyncio.ensure_future(_run(attempt, engine, NAME, job))
        begun = asyncio.ensure_future(job.begun.wait())
        await asyncio.wait({running, begun}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if running.done() and not job.calls:
            running.result()
        attempt.expect(job.calls == 1, "not run", calls=job.calls)
        return running

    def _look_at_end(self, attempt: Attempt, running: asyncio.Task[Any], job: Job, how: End) -> None:
        attempt.expect(job.calls == 1, "not run", calls=job.calls)
        error = None if running.cancelled() else running.exception()
        if how != "returned":
            right = running.cancelled() if how == "was cancelled" else error is job.error
            did = f"raised {kind_of(error)}" if error else "returned"
            attempt.expect(right, "error swallowed", how=how, did=did)
            return
        said = running.result()
        attempt.expect(said is True, "wrong return", what="The job ran", said=said)

    async def _until_it_runs(self, attempt: Attempt, engine: AsyncEngine, mistake: str, name: str = NAME) -> None:
        """At once, but for the moment that the server takes to see a closed connection off."""
        deadline = asyncio.get_running_loop().time() + GOODBYE
        for look in count():
            job = Job.short()
            said = await _run(attempt, engine, name, job)
            if job.calls:
                attempt.expect(job.calls == 1, "not run", calls=job.calls)
                attempt.expect(said is True, "wrong return", what="The job ran", said=said)
                return
            late = asyncio.get_running_loop().time() > deadline and look > LOOKS
            attempt.expect(not late, mistake, name=NAME, other=name)
            await asyncio.sleep(0.02)

    async def _beside(self, attempt: Attempt, here: AsyncEngine, there: AsyncEngine) -> None:
        """While one process is at the job."""
        job = Job()
        running = await self._begin(attempt, here, job)
        try:
            open_ones = await attempt.value(OPEN, own=_own(attempt))
            keys = await attempt.sql(LOCKS)
            await self._is_refused(attempt, there, "Another")
            await self._is_refused(attempt, here, "The same")
            for other in OTHER_NAMES:
                await self._until_it_runs(attempt, there, "kept apart", other)
            await self._is_refused(attempt, there, "Another")
            attempt.expect(not open_ones, "open transaction", count=open_ones)
            attempt.expect(not any(_is_salted(*key) for key in keys), "salted")
        finally:
            job.may_end.set()
            await asyncio.wait({running})
        self._look_at_end(attempt, running, job, "returned")
        await self._until_it_runs(attempt, there, "never given back")

    async def _is_refused(self, attempt: Attempt, engine: AsyncEngine, whose: str) -> None:
        job = Job.short()
        asking = asyncio.ensure_future(_run(attempt, engine, NAME, job))
        while not asking.done():
            if await attempt.value(BLOCKED):
                asking.cancel()
                with suppress(BaseException):
                    await asking
                raise attempt.wrong("waited")
            await asyncio.wait({asking}, timeout=0.005)
        attempt.expect(not job.calls, "ran twice", whose=whose)
        error = asking.exception()
        attempt.expect(error is None, "raised instead", error=kind_of(error))
        what = "Somebody else was at the job"
        attempt.expect(asking.result() is False, "wrong return", what=what, said=asking.result())

    async def _dies(self, attempt: Attempt, here: AsyncEngine, there: AsyncEngine) -> None:
        """Its connections are closed by the system, and nothing else of it happens."""
        await there.dispose()
        job = Job()
        running = await self._begin(attempt, here, job)
        await attempt.sql(KILL, own=_own(attempt))
        try:
            await self._until_it_runs(attempt, there, "outlives its process")
        finally:
            job.may_end.set()
            await asyncio.wait({running})
            running.cancelled() or running.exception()  # of whoever gives back what is gone


@asynccontextmanager
async def _process(attempt: Attempt) -> AsyncIterator[AsyncEngine]:
    """What another process has: a pool of its own."""
    engine = make_engine(attempt.url, **POOL)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _run(attempt: Attempt, engine: AsyncEngine, name: str, job: Job) -> Any:
    said = attempt.answer(engine, name, job)
    return await said if inspect.isawaitable(said) else said


def _own(attempt: Attempt) -> list[str]:
    return [str(pid) for pid in attempt.watchers]


def _is_salted(upper: int, lower: int) -> bool:
    """Whether a lock's number is made of what ``hash`` says of the name in this process."""
    there = {upper << 32 | lower, upper, lower}
    moduli = [2**bits - less for bits in (31, 32, 62, 63, 64) for less in (0, 1)] + [10**digits for digits in (9, 18)]
    said = [value for text in (NAME, NAME.encode()) for value in (hash(text), abs(hash(text)))]
    return any(value % modulus in there for value in said for modulus in moduli)
