"""3.5: a transaction that is tried again when, and only when, that can help."""

from __future__ import annotations

from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar

from course_lib.db import make_session_factory
from course_lib.exercises.lesson_03.scenes.conflicts import (
    MARKS,
    AtCommit,
    Broken,
    CutOff,
    Deadlocked,
    Mistaken,
    Overtaken,
    Refused,
    RefusedAtCommit,
    Returning,
    Told,
    Work,
)
from course_lib.judging.asking import DEADLOCK, NOT_AVAILABLE, SERIALIZATION, UNIQUE
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.staging import add_user
from course_lib.judging.trouble import sqlstate_of

ALLOWED, LONG = 0.05, 1.0  # seconds between two tries: asked for, or gone by on however busy a machine
DEFAULT = 5  # attempts, where none are given
TRIES = 9  # so many that pauses which double become long
WHERE = {Overtaken: "a statement", Deadlocked: "a statement", AtCommit: "the COMMIT", Told: "a statement"}
MISLEADING = "could not serialize access due to concurrent update, deadlock detected, SQLSTATE 40001"


class RunWithRetry(Exercise):
    """Classify by SQLSTATE, start over from the beginning, and let everything else out."""

    id = "3.5"
    title = "Retry what can be retried"
    answer = "run"
    minutes = 15
    points = 3
    level = "senior"
    hints: ClassVar = (
        "Which part has to be repeated: the statement that failed, the commit, or everything since the transaction "
        "began? And where can the error come from?",
        "With asyncpg both errors arrive as a plain `DBAPIError`, like many that no second try will mend. What tells "
        "them apart is `error.orig.sqlstate`.",
        "A `try` around `async with sessions.begin() as session:` sees errors of the work and of the COMMIT alike, and "
        "by then the failed session is closed.",
    )
    why = (
        "40001 and 40P01 say: you lost to somebody else, start over, and what you read may be different now. So "
        "everything is repeated, reads included, in a fresh transaction. COMMIT is a statement like others and can be "
        "the one that fails. Any other error would only come again."
    )
    follow_up = "The connection breaks during COMMIT. Was it stored or not, and what must `work` be to be run again?"
    mistakes: ClassVar = {
        "another value": "`run` returned {said}, and that is not what `work` returned. "
        "| Return what `await work(session)` gives, None and 0 included.",
        "called again": "`work` had returned without an error, and was called {calls} times. "
        "| Whatever it returns, 0 and None included, no error means done.",
        "not committed": "`run` returned, and what `work` wrote is not stored. | Who commits?",
        "not retried": "{place} failed with SQLSTATE 40001, and `run` raised {error} after {calls} call(s) of `work`. "
        "| With asyncpg a serialization failure is a plain `DBAPIError`: ask `error.orig.sqlstate`.",
        "deadlock not retried": "A statement failed with SQLSTATE 40P01, and `run` raised {error} after {calls} "
        "call(s) of `work`. "
        "| A deadlock is over when one of the two starts again: it is tried again like 40001, and each `run` counts "
        "anew.",
        "commit not covered": "{place} failed with SQLSTATE 40001, and `run` raised {error}. "
        "| A COMMIT can fail like a statement. Is it inside the `try`?",
        "same transaction": "Try number {calls} found itself in the transaction of the one before. "
        "| After such an error the transaction is over. Roll back, and begin another one.",
        "not rolled back": "After {calls} call(s) of `work`, of which the last ended in {end}, {count} of them had "
        "their rows stored. "
        "| What a failed try wrote must not remain.",
        "conflict swallowed": "Each try ended in SQLSTATE 40001, and after {calls} of them `run` returned {said}. "
        "| The last error is the caller's to know.",
        "error swallowed": "`work` failed with {error}, and `run` returned {said}. "
        "| What cannot be retried is raised as it is.",
        "retried for nothing": "`work` failed with {error}, and was called {calls} times. "
        "| Two SQLSTATEs are tried again: 40001 and 40P01, of the error itself. Ask for them, not for a class or a "
        "text.",
        "another error": "`work` failed with {error}, and out of `run` came {raised}. "
        "| A bare `raise` passes the error on as it is.",
        "gave up at the wrong time": "With attempts={attempts} and a conflict in each try, `work` was called {calls} "
        "time(s). "
        "| The first call is an attempt too.",
        "not the last error": "All {calls} tries failed, and the error that came out was not that of the last one. "
        "| Raise what the last try raised.",
        "connections held": "In try number {calls}, {held} connections were out of the pool. "
        "| Leave the block of the failed session before you try again.",
        "long pause": "Between two tries it waited for {pause}. | 50 milliseconds at most, after every one of them.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(MARKS)
        users = await add_user(attempt, used=100), await add_user(attempt, used=100)
        await self._succeeds(attempt, Returning(attempt, users, token_hex(3)))
        await self._succeeds(attempt, Returning(attempt, users, None))
        await self._succeeds(attempt, Overtaken(attempt, users, times=2), attempts=3 + randbelow(3))
        await self._succeeds(attempt, Deadlocked(attempt, users, times=1), attempts=2 + randbelow(3))
        await self._succeeds(attempt, AtCommit(attempt, users, times=1), attempts=2 + randbelow(3))
        await self._succeeds(attempt, Told(attempt, users, "40001", "not now", times=TRIES - 1), attempts=TRIES)
        for attempts in (2 + randbelow(2), 1):
            await self._gives_up(attempt, Overtaken(attempt, users, times=attempts + 2), attempts, attempts=attempts)
        await self._gives_up(attempt, Told(attempt, users, "40001", "not now", times=TRIES), DEFAULT)
        await self._lets_out(attempt, Refused(attempt, users), f"SQLSTATE {UNIQUE}")
        await self._lets_out(attempt, RefusedAtCommit(attempt, users), f"SQLSTATE {UNIQUE} at its COMMIT")
        await self._lets_out(attempt, Broken(attempt, users), "SQLSTATE 22012")
        for code, said in ((choice(("40002", "40003")), "not now"), (NOT_AVAILABLE, "not now"), ("P0001", MISLEADING)):
            await self._lets_out(attempt, Told(attempt, users, code, said), f"SQLSTATE {code}")
        await self._lets_out(attempt, Mistaken(attempt, users), "a NoResultFound that a SQLSTATE 40001 had caused")
        await self._lets_out(attempt, CutOff(attempt, users), "a connection that was lost")

    async def _succeeds(self, attempt: Attempt, work: Work, **attempts: Any) -> None:
        said, raised = await self._run(attempt, work, **attempts)
        if raised is not None:
            await self._diagnose(attempt, work, raised, attempts.get("attempts", DEFAULT))
        attempt.expect(work.calls <= work.times + 1, "called again", calls=work.calls)
        marks = await work.marks()
        attempt.expect(marks > 0, "not committed")
        attempt.expect(marks == 1, "not rolled back", calls=work.calls, end="success", count=marks)
        attempt.expect(said is work.value or said == work.value, "another value", said=article(said))
        attempt.expect(work.held <= 1, "connections held", calls=work.calls, held=work.held)
        attempt.expect(work.slept <= ALLOWED, "long pause", pause=f"{1000 * work.slept:.0f} milliseconds")
        attempt.expect(work.pause < LONG, "long pause", pause=f"{work.pause:.1f} seconds")

    async def _diagnose(self, attempt: Attempt, work: Work, wrong: Wrong, attempts: int) -> None:
        """An error came out where another try would have ended well."""
        error = wrong.__cause__
        code = sqlstate_of(error)
        numbers = {"error": kind_of(error), "calls": work.calls}
        attempt.expect(not work.reused, "same transaction", calls=work.calls)
        if code in (DEADLOCK, SERIALIZATION) and (work.calls > 1 or await self._wants_more(attempt, work, attempts)):
            raise attempt.wrong("gave up at the wrong time", attempts=attempts, calls=work.calls) from wrong
        if code == DEADLOCK:
            raise attempt.wrong("deadlock not retried", **numbers) from wrong
        if code == SERIALIZATION:
            name = "commit not covered" if isinstance(work, AtCommit) else "not retried"
            raise attempt.wrong(name, place=WHERE[type(work)].capitalize(), **numbers) from wrong
        raise wrong

    async def _wants_more(self, attempt: Attempt, work: Work, attempts: int) -> bool:
        """True if with more attempts it does try again after what it did not try again now."""
        if not isinstance(work, Deadlocked | AtCommit):
            return False
        again = type(work)(attempt, (work.mine, work.theirs), times=1)
        await self._run(attempt, again, attempts=attempts + 3)
        return again.calls > 1

    async def _gives_up(self, attempt: Attempt, work: Work, allowed: int, **attempts: Any) -> None:
        said, raised = await self._run(attempt, work, **attempts)
        attempt.expect(not work.reused, "same transaction", calls=work.calls)
        right = work.calls == allowed
        attempt.expect(right, "gave up at the wrong time", attempts=allowed, calls=work.calls)
        if raised is None:
            raise attempt.wrong("conflict swallowed", calls=work.calls, said=article(said))
        if raised.__cause__ in work.errors:
            attempt.expect(raised.__cause__ is work.errors[-1], "not the last error", calls=work.calls)
        else:
            numbers = {"error": "SQLSTATE 40001", "raised": article(raised.__cause__)}
            raise attempt.wrong("another error", **numbers) from raised
        marks = await work.marks()
        attempt.expect(marks == 0, "not rolled back", calls=work.calls, end="SQLSTATE 40001", count=marks)

    async def _lets_out(self, attempt: Attempt, work: Work, error: str) -> None:
        said, raised = await self._run(attempt, work)
        attempt.expect(work.calls == 1, "retried for nothing", error=error, calls=work.calls)
        marks = await work.marks()
        attempt.expect(marks == 0, "not rolled back", calls=work.calls, end=error, count=marks)
        if raised is None:
            raise attempt.wrong("error swallowed", error=error, said=article(said))
        cause = raised.__cause__
        as_it_is = cause is work.errors[0] if work.errors else sqlstate_of(cause) == UNIQUE
        attempt.expect(as_it_is, "another error", error=error, raised=article(cause))

    async def _run(self, attempt: Attempt, work: Work, **attempts: Any) -> tuple[Any, Wrong | None]:
        """What it returned, or the error that came out. An error without a call of ``work`` is the answer's own."""
        engine = attempt.engine.execution_options(isolation_level="SERIALIZABLE")
        try:
            with work.listening_to_sleep():
                return await attempt.call(make_session_factory(engine), work.work, **attempts), None
        except Wrong as wrong:
            if wrong.mistake != "raised" or not work.calls:
                raise
            return None, wrong
