"""6.3: a change of a millisecond, and a report that reads for a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from course_lib.exercises.lesson_06.scenes.bystanders import (
    LOOK_SECONDS,
    Bystanders,
    Queue,
    a_report,
    one_try,
    while_it_reads,
)
from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.environment import environment_of
from course_lib.judging.asking import NOT_AVAILABLE
from course_lib.judging.attempt import Attempt
from course_lib.judging.deadline import end
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of, message_of
from course_lib.judging.trouble import behind, sqlstate_of

TABLE = "messages"
COLUMN = ("column", "messages.language")
BUDGET = 100  # milliseconds, as the statement says
LET_THROUGH = 2.5  # times the wait behind a single try that keeps to the budget
TOO_LONG = 5  # times a single try that keeps to it, in the queue: it is not going to give way
READS = {"upgrade": 0.8, "downgrade": 0.6}  # seconds that the report stays
ABORTED = "25P02"  # SQLSTATE: the transaction has failed before
ENOUGH = 4  # errors that no further try makes better
Run = Callable[[], Coroutine[Any, Any, None]]


class AddLanguage(Exercise):
    """The lock queue: not the work keeps people waiting, but the waiting."""

    id = "6.3"
    title = "A column under a long reader"
    answer = "AddLanguage"
    minutes = 15
    points = 2
    level = "mid"
    seconds = 12.0
    hints: ClassVar = (
        "`ALTER TABLE` waits for the report. Who waits for the `ALTER TABLE`? It has to leave the queue before it is "
        "through, and to come again.",
        "`lock_timeout` is the server's limit for waiting at a lock. Its error, SQLSTATE 55P03, aborts the "
        "transaction; what could be rolled back instead, so that there can be a next try?",
        "`with op.get_bind().begin_nested():` is a savepoint. Rolling back to it takes back a `SET LOCAL` that was "
        "sent inside of it too, so send it in each try. `error.orig.sqlstate` tells the one error to try again after.",
    )
    why = (
        "A lock that is waited for blocks whoever comes after it and conflicts with it, and ACCESS EXCLUSIVE conflicts "
        "with everybody. So the wait is cut short and begun again: others get through in between, and the "
        "migration gets through as soon as the report is over. The savepoint keeps the transaction alive."
    )
    follow_up = (
        "The revision changes two tables, and the second one is being read. What do people at the first table notice "
        "of your tries, and what do you change?"
    )
    mistakes: ClassVar = {
        "method missing": "`AddLanguage` has no method `{method}`. | Two are asked for: `upgrade` and `downgrade`.",
        "not written": "`{method}` of `AddLanguage` is not written yet. | DROP COLUMN takes the same lock.",
        "tries for ever": "Without a table `messages`, `{method}` went on trying after {errors} errors. "
        "| One error is worth another try, SQLSTATE 55P03. Let all others go on.",
        "error swallowed": "Without a table `messages`, `{method}` returned, and Alembic took the revision for done. "
        "| One error is worth another try, SQLSTATE 55P03. Let all others go on.",
        "kept waiting": "While `{method}` waited for a report to end, a {who} stood behind it for {ms:.0f} ms, "
        "{times:.1f} times as long as behind a single try of 100 ms. "
        "| What limits how long a statement stands in the queue?",
        "limit gone": "The first try of `{method}` left the queue after {first:.0f} ms, and a later one stood in it "
        "for {later:.0f} ms, with others behind it. "
        "| A SET that is rolled back, to a savepoint too, is undone. Every try needs its limit.",
        "lock kept": "`{method}` stood in the queue for {own:.0f} ms at most, and a {who} waited for {ms:.0f} ms: it "
        "had the lock, and kept it. | What is done between the ALTER and the end of its transaction?",
        "transaction aborted": "`{method}` tried again after an error, and raised {error}: {said}. "
        "| The first error aborted the transaction. A savepoint can be rolled back on its own.",
        "gave up": "`{method}` raised {error} while a report was still reading: {said}. "
        "| Reports of a second are usual. Go on trying.",
        "report ended": "The report did not come to its end: its connection was ended or its statement cancelled. "
        "| The migration can wait, and somebody is waiting for the report.",
        "column missing": "After `upgrade` the table `messages` has no column `language`. | Did a try succeed?",
        "wrong column": "After `upgrade` `messages.language` is {found}. "
        "| A text that may be NULL, without a default.",
        "something else": "After `{method}` the {what}. | A revision changes what it is asked for, and nothing else.",
        "rows changed": "After `{method}` rows of `{table}` are not as they were. "
        "| A change of the schema leaves what people wrote alone.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        before = await look_at_catalogue(attempt)
        rows = await rows_of(attempt, before)
        queues: dict[str, Queue] = {}
        with environment_of(attempt) as environment:
            both = (("upgrade", environment.upgrade), ("downgrade", environment.downgrade))
            for method, run in both:
                await self._fails_aloud(attempt, method, run)
                await run()
                await self._look(attempt, method, before, rows)
            async with Bystanders(attempt, TABLE) as bystanders:
                with bystanders.phase("one try"):
                    async with a_report(attempt, TABLE):
                        usual = await one_try(attempt, TABLE, BUDGET)
                for method, run in both:
                    with bystanders.phase(method):
                        queues[method] = await self._under_a_report(attempt, method, run, TOO_LONG * usual)
                    await self._look(attempt, method, before, rows)
        for method, queue in queues.items():
            self._expect_patience(attempt, method, queue, bystanders)

    async def _fails_aloud(self, attempt: Attempt, method: str, run: Run) -> None:
        """Without the table there is nothing to wait for."""
        await attempt.sql("ALTER TABLE messages RENAME TO moved")
        running, errors = asyncio.ensure_future(run()), 0
        while not running.done() and errors < ENOUGH:
            await asyncio.wait({running}, timeout=LOOK_SECONDS)
            errors = sum(statement.sqlstate is not None for statement in attempt.log.statements)
        goes_on = not running.done()
        await end([running])
        await attempt.sql("ALTER TABLE moved RENAME TO messages")
        attempt.expect(not goes_on, "tries for ever", method=method, errors=errors)
        error = running.exception()
        attempt.expect(error is not None, "error swallowed", method=method)
        if not (isinstance(error, Wrong) and error.mistake == "raised"):
            raise error  # type: ignore[misc]

    async def _under_a_report(self, attempt: Attempt, method: str, run: Run, longest: float) -> Queue:
        try:
            queue, ended = await while_it_reads(attempt, TABLE, run, READS[method], longest)
        except Wrong as wrong:
            raise self._because_of_the_report(attempt, method, wrong) from wrong
        attempt.expect(ended, "report ended")
        return queue

    def _because_of_the_report(self, attempt: Attempt, method: str, wrong: Wrong) -> Wrong:
        """What it raised after a try, which is another mistake than what it would raise without the report."""
        error = wrong.__cause__
        codes = {sqlstate_of(one) for one in behind(error)}
        if wrong.mistake != "raised" or error is None or not codes & {ABORTED, NOT_AVAILABLE}:
            return wrong
        mistake = "transaction aborted" if ABORTED in codes else "gave up"
        return attempt.wrong(mistake, method=method, error=kind_of(error), said=message_of(error).rstrip("."))

    async def _look(self, attempt: Attempt, method: str, before: Catalogue, rows: dict[str, str]) -> None:
        now = await look_at_catalogue(attempt)
        if method == "upgrade":
            attempt.expect(COLUMN in now, "column missing")
            attempt.expect(now.get(*COLUMN) == "text", "wrong column", found=now.get(*COLUMN))
        for difference in now.since(before, without=[COLUMN] if method == "upgrade" else []):
            raise attempt.wrong("something else", method=method, what=str(difference))
        for table, print_ in (await rows_of(attempt, before)).items():
            attempt.expect(print_ == rows[table], "rows changed", method=method, table=table)

    def _expect_patience(self, attempt: Attempt, method: str, queue: Queue, bystanders: Bystanders) -> None:
        """Others waited about as long as behind a single try that keeps to the budget."""
        _, usual = bystanders.longest("one try")
        who, seconds = bystanders.longest(method)
        limit = LET_THROUGH * max(usual, BUDGET / 1000)
        if seconds <= limit:
            return
        told = {"method": method, "who": who, "ms": 1000 * seconds, "own": 1000 * queue.longest}
        attempt.expect(queue.longest > limit / 2, "lock kept", **told)
        first, later = 1000 * queue.first, 1000 * queue.longest
        attempt.expect(later < 2 * first, "limit gone", method=method, first=first, later=later)
        raise attempt.wrong("kept waiting", times=seconds / max(usual, BUDGET / 1000), **told)
