"""9.5: a migration as a test: up, down and up again, on a table with rows in it."""

from __future__ import annotations

from secrets import randbelow
from typing import ClassVar

from course_lib.exercises.lesson_09.scenes.handles import HOW, NEED_AGAIN, NEED_DOWN, NEED_SHARED
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import TestModule, answered
from course_lib.judging.testing.report import Case, Report
from course_lib.judging.testing.run import expect_no_error, expect_tests, run_tests

SCENES = "course_lib.exercises.lesson_09.scenes"
UP_DOWN_UP = [True, False, True]


class MigrationTest(Exercise):
    """Rows before, the same rows after, and a schema that comes back."""

    id = "9.5"
    title = "Up, down, and up again"
    answer = "test_revision"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "migrated"
    crowded = False
    seconds = 120.0  # pytest
    hints: ClassVar = (
        "A migration goes well on an empty table, nearly always. Which two users would be in the way of a handle that "
        "is unique?",
        "Read the rows before, after the way up and after the way down, by their columns of before: "
        "`SELECT id, email, name FROM users ORDER BY id`. All three are equal, whatever else is in the table.",
        "What no row shows is in the catalogue: `pg_index.indisvalid` of `'uq_users_handle'::regclass`, and "
        "`attnotnull` in `pg_attribute`. After the way down `information_schema.columns` has no `handle`. And only the "
        "second way up sees what the way down has left. Close each transaction before a step, or it waits for you.",
    )
    why = (
        "The four ready-made tests of pytest-alembic run on empty tables, where a NOT NULL without a default goes "
        "well and nothing can be lost. Two users who share a handle turn them into tests that can fail. Rows are "
        "compared by their old columns, at all three places; the index and the column are asked for in the "
        "catalogue, since an INVALID index is silent; and the second way up finds what the way down forgot."
    )
    follow_up = (
        "The test is green. Which two things can still go wrong when the same revision runs on the table of forty "
        "million users, and how would you find out beforehand?"
    )
    mistakes: ClassVar = {
        "never called": "`test_revision` never ran `revision.upgrade()`. | Is an `await` missing?",
        "in its own way": "`revision` waited for a lock that a transaction of `test_revision` holds. "
        "| Reading begins a transaction too: end it before the next step, as `async with` around each reading does.",
        "always fails": "`test_revision` failed for every revision, also for one that does what it promises. "
        "| It said: {message}.",
        "one more user": "`test_revision` passed for a right revision, and failed for a right one when {others} more "
        "user(s) were there. | Compare what is there after a step with what was there before it.",
        "false alarm": "`test_revision` failed for a revision that does what it promises, {way}. | It said: {message}.",
        "empty table": "`test_revision` passed for a revision that {how}: there was no user when it went up. "
        "| Make users first, and commit them.",
        "nobody shares": "`test_revision` passed for a revision that {how}: no two users had the same part before "
        "the @. | It is a migration of handles that are taken: make two who want the same.",
        "users only": "`test_revision` passed for a revision that {how}: there was no conversation when it went up. "
        "| No row is lost in whichever table: give the users something to lose.",
        "never down": "`test_revision` passed for a revision that {how}, and never ran `revision.downgrade()`. "
        "| Whoever goes down does so on a bad day: it is worth a test.",
        "up once": "`test_revision` passed for a revision that {how}, and never went up again after going down. "
        "| What the way down forgets stands in the way then.",
        "lives": "`test_revision` passed for a revision that {how}. "
        "| Which row, column or index of the promises would look another way?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        others = 2 + randbelow(5)
        cases = [
            Case("constraint", right=True),
            Case("concurrently", right=True, options={"others": others}, backwards=True),
            *[Case(name, until_no=True) for name in HOW],
        ]  # fmt: skip
        report = await run_tests(attempt, module, cases, f"{SCENES}.given", f"{SCENES}.handles")
        print(report.printed, end="")
        attempt.expect(not any(tried.noted("kept_out") for tried in report.tried), "in its own way")
        expect_tests(report, module)
        self._calls_it(attempt, report)
        self._bears_with_right_ones(attempt, report, module)
        self._sees_broken_ones(attempt, report)

    def _calls_it(self, attempt: Attempt, report: Report) -> None:
        if report.stumbles:
            return  # what it raised is told first
        attempt.expect(any(any(tried.noted("up")) for tried in report.tried), "never called")

    def _bears_with_right_ones(self, attempt: Attempt, report: Report, module: TestModule) -> None:
        alarms = [tried for tried in report.right if tried.asserted]
        if alarms:
            first = alarms[0]
            message, more = first.said, first.case.options.get("others", 0)
            attempt.expect(not all(tried.red for tried in report.tried), "always fails", message=message)
            attempt.expect(not (len(alarms) == 1 and more), "one more user", others=more)
            concurrently = first.case.name == "concurrently"
            way = "with an index that it builds CONCURRENTLY" if concurrently else "with a unique constraint"
            raise attempt.wrong("false alarm", way=way, message=message)
        expect_no_error(report, module)

    def _sees_broken_ones(self, attempt: Attempt, report: Report) -> None:
        lived = [tried for tried in report.mutants if not tried.red]
        for tried in lived:
            name = tried.case.name
            attempt.expect(any(tried.noted("users")), "empty table", how=HOW[name])
            attempt.expect(any(tried.noted("shared")) or name not in NEED_SHARED, "nobody shares", how=HOW[name])
        for tried in lived:
            name, steps = tried.case.name, tried.noted("up")
            attempt.expect(False in steps or name not in NEED_DOWN, "never down", how=HOW[name])
            again = any(steps[at : at + 3] == UP_DOWN_UP for at in range(len(steps)))
            attempt.expect(again or name not in NEED_AGAIN, "up once", how=HOW[name])
        for tried in lived:
            talks = any(tried.noted("conversations"))
            attempt.expect(talks or tried.case.name != "conversations", "users only", how=HOW[tried.case.name])
            raise attempt.wrong("lives", how=HOW[tried.case.name])
