"""8.9: a job that exists when its row does, and that is done once, whoever dies at it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from secrets import randbelow
from typing import ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from course_lib.exercises.lesson_08.scenes.asking import asked_by
from course_lib.exercises.lesson_08.scenes.queued import Queued, Stage, WorkFailed
from course_lib.exercises.lesson_08.scenes.refused import refusing_commits
from course_lib.exercises.lesson_08.scenes.serving import Serving, in_service, side_by_side
from course_lib.exercises.lesson_08.scenes.workers import (
    another_takes_it,
    at_work,
    both_at_work,
    expect_done,
    expect_given,
    several_wait,
)
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import quoted
from course_lib.judging.staging import add_user, other_rows

LEASE = (20, 61)  # seconds that are left of a minute, on a slow machine too
SPEND = "UPDATE users SET tokens_used = tokens_used + :more WHERE id = :user"
LOCK = "SELECT 1 FROM jobs WHERE id = :id FOR"
STORED = """
    SELECT d.id, d.title, d.source, d.status, j.id, j.kind, j.status, j.payload
    FROM documents AS d LEFT JOIN jobs AS j ON j.document_id = d.id WHERE d.user_id = :user
"""


class EnqueueOnce(Exercise):
    """An outbox, a lease, and an end that counts only for who still has it."""

    id = "8.9"
    title = "Enqueued with the row, done once"
    answer = "accept_and_work"
    minutes = 25
    points = 3
    level = "senior"
    seconds = 45.0
    hints: ClassVar = (
        "Three transactions: the document with its job; the taking of a job; the end of the work with all that comes "
        "of it. Nothing else may stand between a BEGIN and its COMMIT, least of all the work.",
        "A queue is `SELECT … FOR UPDATE SKIP LOCKED` inside the UPDATE that takes the job. What is `running` with a "
        "lease that is over is as free as what is queued: its worker is dead, or is thought to be.",
        "Who was thought to be dead may come back. Let the UPDATE that makes the job `done` ask whether it is still "
        "this worker's, by a name in `worker` that is new for every try, or by the end of its lease; only where that "
        "finds a row is the document made ready and the owner charged, in the same transaction.",
    )
    why = (
        "A message to a queue that is sent beside a transaction is sent for rows that never came, or is not sent for "
        "rows that did. A job that is a row of the same transaction is neither. Its worker may die at any line, so the "
        "work itself happens at least once; what happens exactly once is the UPDATE that says so, and everything that "
        "shall happen once has to be in its transaction."
    )
    follow_up = (
        "The work also sends an e-mail, which no transaction takes back. At which place do you send it, what is the "
        "worst that can happen there, and what would the receiving side need to make it harmless?"
    )
    mistakes: ClassVar = {
        "not accepted": "`POST /documents` was answered with {status}, and others see {seen}. "
        "| Status 202, the two ids, and by then both rows, as the task has them.",
        "half stored": "The database refused the job when its transaction was to be committed; the client was told "
        "{status}, and {left} document(s) without a job were left. "
        "| One transaction for both, which is over before the response.",
        "not taken": "With a job that waits, `work` {did}. | Kind `ingest` and status `queued`.",
        "not to be taken": "With nothing but jobs of other kinds, jobs that are over and jobs of workers that are "
        "alive, `work` {did}. | It returns False, and leaves them as they are.",
        "connection held": "While `index` worked, {count} connection(s) were held. "
        "| What ends the transaction in which the job was taken?",
        "not leased": "While `index` worked, others saw the job {status} with a lease of {seconds} seconds. "
        "| Running, for a minute from now, and committed before the work begins.",
        "not done": "`work` returned {said}, and others see the job {job}, the document {document}, and {paid} tokens "
        "paid for work that cost {cost}. | True, done, ready, and what `index` returned.",
        "not at once": "At the end of the work the database refused the COMMIT of what had changed in {table}, and "
        "others see the job {job}, the document {document}, and {paid} tokens paid. "
        "| The end of the job and all that comes of it are one transaction, or a worker dies between two.",
        "took more": "Several jobs waited, and when one step of a worker was over, {count} of the {n} others did not "
        "wait any more. | One step, one job: `LIMIT 1` where it is chosen.",
        "told done": "At the end of the work the database refused a change in {table}, and `work` returned True. "
        "| An error of the database rises; a COMMIT after it is none.",
        "missed": "Two jobs waited, two workers came at once, and one returned {said} without a call of `index`. "
        "| Who takes one job locks that one: others skip whatever is locked.",
        "waited": "`work` waited for a job that another worker was just taking, with another job there to be taken. "
        "| `FOR UPDATE` knows what to do with rows that are locked.",
        "taken twice": "Two workers came at once, and {count} of them worked on the same job. "
        "| Both had seen it queued before either of them wrote. Take it in one statement, with the row locked.",
        "given up": "A worker {ended}, its lease was over, and another one {did}. "
        "| A job that is running with a lease in the past is as free as a queued one.",
        "done twice": "Two workers had the same job, since the lease of the first was over: it cost {first} and "
        "{second} tokens, and {paid} were paid. "
        "| Who comes to the end asks whether the job is still its own, in the transaction that books.",
        "put back": "A worker's lease was over and another one {had} the job when the first one {ended}; after that "
        "`work` {did}. | Who gives a job back asks whether it is still its own, as the one does who finishes it.",
        "lost": "While a worker booked {cost} tokens another added {more}, and `tokens_used` went up by {paid}. "
        "| What was read before somebody else wrote is old: add in the UPDATE, or lock the row when you read it.",
        "others changed": "Rows of other users changed. | The owner is the document's.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql("DELETE FROM jobs")
        stage = Stage(attempt, await add_user(attempt))
        before = await other_rows(attempt, "users", "id", stage.queue.user)

        async def scene(served: Serving) -> None:
            await self._refused(attempt, stage, served)
            await self._one(attempt, stage, await self._accepted(attempt, stage, served))
            await self._nothing_to_do(attempt, stage)
            await several_wait(attempt, stage)
            await self._two_at_once(attempt, stage)
            await self._skips(attempt, stage)
            await self._fails(attempt, stage)
            await self._end_is_refused(attempt, stage)
            await self._is_cancelled(attempt, stage)
            for late_is_first in (False, True):
                await self._is_late(attempt, stage, late_is_first)
            for finished in (False, True):
                await self._comes_back_and_fails(attempt, stage, finished)
            await self._others_spend(attempt, stage)
            after = await other_rows(attempt, "users", "id", stage.queue.user)
            attempt.expect(after == before, "others changed")

        await in_service(attempt, stage.app, scene)

    async def _accepted(self, attempt: Attempt, stage: Stage, served: Serving) -> Queued:
        new = {name: awkward_text() for name in ("title", "source", "body")}
        reply = await served.ask("POST", "/documents", json=new, headers=asked_by(stage.queue.user))
        rows = await attempt.sql(STORED, user=stage.queue.user)
        ids = reply.json if isinstance(reply.json, dict) else {}
        wanted = {
            "document": ids.get("document"), "title": new["title"], "source": new["source"], "status": "uploaded",
            "job": ids.get("job"), "kind": "ingest", "status of the job": "queued", "payload": {"body": new["body"]},
        }  # fmt: skip
        seen = "no document" if not rows else f"{len(rows)} jobs or documents" if len(rows) > 1 else ""
        if not seen:
            found = (value if isinstance(value, dict) else str(value) for value in rows[0])
            other = [name for (name, value), stored in zip(wanted.items(), found, strict=True) if value != stored]
            seen = f"another `{'`, `'.join(other)}`" if other else ""
        right = reply.status == 202 and not seen
        attempt.expect(right, "not accepted", status=reply.status, seen=seen or "both rows")
        return Queued(UUID(ids["job"]), UUID(ids["document"]), new["body"])

    async def _refused(self, attempt: Attempt, stage: Stage, served: Serving) -> None:
        """The job, when its transaction is to be committed."""
        new = {name: awkward_text() for name in ("title", "source", "body")}
        async with refusing_commits(attempt, "INSERT", "jobs"):
            reply = await served.ask_anyway("POST", "/documents", json=new, headers=asked_by(stage.queue.user))
        left = await attempt.value("SELECT count(*) FROM documents WHERE user_id = :user", user=stage.queue.user)
        right = reply.status >= 500 and left == 0
        attempt.expect(right, "half stored", status=reply.status, left=left)

    async def _one(self, attempt: Attempt, stage: Stage, job: Queued) -> None:
        before, index, during = await stage.queue.state(job), stage.index(), None

        async def look() -> None:
            nonlocal during
            during = await stage.queue.state(job)

        index.look = look
        said = await stage.work(index)
        expect_given(attempt, index, job, said, "not taken")
        attempt.expect(index.held == 0, "connection held", count=index.held)
        status, _, _, lease = during or before
        right = status == "running" and lease is not None and LEASE[0] < lease <= LEASE[1]
        attempt.expect(right, "not leased", status=status, seconds="no" if lease is None else round(lease))
        await expect_done(attempt, stage, job, said, before.paid, index.cost)

    async def _nothing_to_do(self, attempt: Attempt, stage: Stage) -> None:
        queue, index = stage.queue, stage.index()
        await queue.add(kind="mail")
        await queue.add(status="running", lease="1 hour")
        for status in ("done", "failed"):
            await queue.add(status=status, lease="-1 hour")
        before = await queue.rows()
        said = await stage.work(index)
        attempt.expect(not index.given, "not to be taken", did="called `index`")
        attempt.expect(said is False, "not to be taken", did=f"returned {quoted(said)}")
        attempt.expect(await queue.rows() == before, "not to be taken", did="changed a row")

    async def _skips(self, attempt: Attempt, stage: Stage) -> None:
        """Another worker is taking one of two jobs, the older one and then the newer one."""
        first, second = await stage.queue.add(), await stage.queue.add()
        await self._skip(attempt, stage, first, second)
        await self._skip(attempt, stage, await stage.queue.add(), first)
        await attempt.sql("DELETE FROM jobs WHERE status = 'queued'")

    async def _skip(self, attempt: Attempt, stage: Stage, taken: Queued, free: Queued) -> None:
        before, index = await stage.queue.state(free), stage.index()
        async with attempt.judge_session() as other:
            await other.execute(text(f"{LOCK} UPDATE"), {"id": taken.id})
            running = asyncio.ensure_future(stage.work(index))
            waited = await until_blocked(attempt, running, 1)
            await other.rollback()
            said = await running
        attempt.expect(not waited, "waited")
        expect_given(attempt, index, free, said, "not taken")
        await expect_done(attempt, stage, free, said, before.paid, index.cost)

    async def _two_at_once(self, attempt: Attempt, stage: Stage) -> None:
        """Nobody can write before both have seen the job, or have given way."""
        job = await stage.queue.add()
        before, indexes = await stage.queue.state(job), [stage.index(), stage.index()]
        async with attempt.judge_session() as other:
            await other.execute(text(f"{LOCK} SHARE"), {"id": job.id})
            running = side_by_side(stage.work(index, at) for at, index in enumerate(indexes))
            await until_blocked(attempt, running, 2)
            await other.rollback()
            await running
        calls = sum(len(index.given) for index in indexes)
        attempt.expect(calls <= 1, "taken twice", count=calls)
        cost = sum(index.cost for index in indexes if index.given)
        if not calls:  # both skipped it
            indexes[0].given.clear()
            expect_given(attempt, indexes[0], job, await stage.work(indexes[0]), "not taken")
            cost = indexes[0].cost
        await expect_done(attempt, stage, job, True, before.paid, cost)

    async def _fails(self, attempt: Attempt, stage: Stage) -> None:
        job, index = await stage.queue.add(), stage.index()
        before = await stage.queue.state(job)
        index.fails = WorkFailed("it could not be indexed")
        try:
            said = await stage.work(index)
        except WorkFailed:
            pass
        else:
            sentence = f"`index` raised an error, and `work` returned {quoted(said)}."
            raise Wrong("swallowed", sentence, "Whoever runs the worker has to know of it.")
        paid = (await stage.queue.state(job)).paid - before.paid
        attempt.expect(paid == 0, "not done", said="an error", job="left", document="left", paid=paid, cost=0)
        await another_takes_it(attempt, stage, job, before.paid, "had an error at its work")

    async def _end_is_refused(self, attempt: Attempt, stage: Stage) -> None:
        """What comes of the work is one transaction: the COMMIT of one part is refused, or a part, and then another."""
        paid, done = ("users", "NEW.tokens_used > OLD.tokens_used"), ("jobs", "NEW.status = 'done'")
        for (table, when), at_once in ((paid, False), (done, False), (paid, True)):
            job, said = await stage.queue.add(), None
            before = await stage.queue.state(job)
            async with refusing_commits(attempt, "UPDATE", table, when, at_once=at_once):
                with suppress(DBAPIError):
                    said = await stage.work(stage.index())
            after = await stage.queue.state(job)
            none = after.job != "done" and after.document != "ready" and after.paid == before.paid
            told = {"table": table, "job": after.job, "document": after.document, "paid": after.paid - before.paid}
            attempt.expect(none, "not at once", **told)
            attempt.expect(said is not True, "told done", table=table)
            await another_takes_it(attempt, stage, job, before.paid, "could not store the end of its work")

    async def _is_cancelled(self, attempt: Attempt, stage: Stage) -> None:
        job, index = await stage.queue.add(), stage.index(hangs=True)
        before = await stage.queue.state(job)
        running = await at_work(attempt, stage, job, index)
        running.cancel()
        await asyncio.wait({running})
        await another_takes_it(attempt, stage, job, before.paid, "was cancelled at its work")

    async def _is_late(self, attempt: Attempt, stage: Stage, late_is_first: bool) -> None:
        """Its lease is over and its job another worker's, and both come to their end."""
        job, late, other = await stage.queue.add(), stage.index(hangs=True), stage.index(hangs=True)
        before = await stage.queue.state(job)
        slow, running = await both_at_work(attempt, stage, job, late, other)
        order = [(late, slow), (other, running)]
        for index, task in order if late_is_first else order[::-1]:
            index.goes_on.set()
            await task
        paid = (await stage.queue.state(job)).paid - before.paid
        once = paid in (late.cost, other.cost)
        attempt.expect(once, "done twice", first=late.cost, second=other.cost, paid=paid)
        await expect_done(attempt, stage, job, True, before.paid, paid)

    async def _comes_back_and_fails(self, attempt: Attempt, stage: Stage, finished: bool) -> None:
        """Or is cancelled, when another worker is at its job; has ``finished`` it."""
        job, late, other = await stage.queue.add(), stage.index(hangs=True), stage.index(hangs=True)
        third, before = stage.index(), await stage.queue.state(job)
        slow, running = await both_at_work(attempt, stage, job, late, other)
        if finished:
            other.goes_on.set()
            await running
            late.fails = WorkFailed("it could not be indexed")
            late.goes_on.set()
        else:
            slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        said = await stage.work(third)
        other.goes_on.set()
        await running
        did = "called `index`" if third.given else f"returned {quoted(said)}"
        told = {"had": "had done" if finished else "was at", "ended": "failed" if finished else "was cancelled"}
        attempt.expect(said is False and not third.given, "put back", did=did, **told)
        await expect_done(attempt, stage, job, running.result(), before.paid, other.cost)

    async def _others_spend(self, attempt: Attempt, stage: Stage) -> None:
        """Another process adds to the owner's tokens, and commits when the worker stands at the row."""
        job, index, more = await stage.queue.add(), stage.index(), 1 + randbelow(90)
        before = await stage.queue.state(job)
        async with attempt.judge_session() as other:
            await other.execute(text(SPEND), {"user": stage.queue.user, "more": more})
            running = asyncio.ensure_future(stage.work(index))
            await until_blocked(attempt, running, 1)
            await other.commit()
            try:
                said = await running
            except DBAPIError:  # what it had read is old, and it was told so
                ended = "could not store the end of its work"
                await another_takes_it(attempt, stage, job, before.paid + more, ended)
                return
        paid = (await stage.queue.state(job)).paid - before.paid
        attempt.expect(paid == index.cost + more, "lost", cost=index.cost, more=more, paid=paid)
        await expect_done(attempt, stage, job, said, before.paid + more, index.cost)
