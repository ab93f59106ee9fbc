"""9.7: a plan as a test, on a table that is large enough for the planner to mean it."""

from __future__ import annotations

from typing import ClassVar

from course_lib.exercises.lesson_09.scenes.newest import HOW
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import TestModule, answered
from course_lib.judging.testing.report import Case, Report, Tried
from course_lib.judging.testing.run import expect_no_error, expect_tests, run_tests

SCENES = "course_lib.exercises.lesson_09.scenes"
SMALL = 1_000  # messages: fewer fill so few pages that reading them all is as cheap
SORTED = ("function", "order", "tie", "hash")


class PlanTest(Exercise):
    """Rows first, then ANALYZE, and a look at the whole plan."""

    id = "9.7"
    title = "A plan that is meant"
    answer = "test_plan"
    minutes = 15
    points = 3
    level = "mid"
    recipe = "migrated"
    crowded = False
    seconds = 60.0  # pytest
    hints: ClassVar = (
        "On ten rows PostgreSQL reads the whole table, and is right. How many does it take until a plan says "
        "something, and how does the planner come to know that they are there?",
        "`INSERT … SELECT … FROM generate_series(1, 100)` makes five thousand rows in one statement. Commit, run "
        "`ANALYZE messages`, and then `plan = await explain(engine, newest(id, 90))`.",
        "That an index is used is half of it: what it finds may be sorted or thrown away afterwards. Of the nodes "
        "(`for node in plan`), none is a `Seq Scan`, a `Sort` or an `Incremental Sort`, and none has a `filter`. What "
        "the index is called is not your test's business.",
    )
    why = (
        "A plan on a few rows says nothing about the index: reading one page is cheapest with it and without it. "
        "Five thousand rows and ANALYZE make the planner mean it. And the promise is not the name of an index but "
        "what the plan does not do: read the table, sort, throw away. So an index may be renamed, and a cast, a "
        "function or another order may not slip in."
    )
    follow_up = (
        "In production the same statement has another plan than in your test. What are three reasons, and where would "
        "you look first?"
    )
    mistakes: ClassVar = {
        "never called": "`test_plan` never called `newest`. | It makes the statement whose plan is asked for.",
        "always fails": "`test_plan` failed for every statement, a right one too, with {messages} message(s) in the "
        "table. | It said: {message}.",
        "small table": "`test_plan` failed for a right statement: there were {messages} committed message(s), and that "
        "is too few for an index to pay. | Thousands of rows cost one `INSERT … SELECT … FROM generate_series(…)`.",
        "not analyzed": "`test_plan` failed for a right statement: there were {messages} messages, and the planner "
        "knew of {known}. | `ANALYZE messages` counts them, after they were stored.",
        "by name": "`test_plan` failed for a right statement whose index is called `ix_messages_newest`. "
        "| It said: {message}. What counts is what the plan does.",
        "false alarm": "`test_plan` failed for a right statement, with {messages} messages in the table. "
        "| It said: {message}.",
        "sorted afterwards": "`test_plan` passed for a statement that {how}: an index is used, and what it finds is "
        "sorted. | An index that gives the order leaves no `Sort` in the plan.",
        "thrown away": "`test_plan` passed for a statement that {how}. "
        "| No table is read whole there and nothing is sorted, but a node of the plan has a `filter`.",
        "not an assertion": "For a statement that {how}, `test_plan` ended with {error}, and not with an assertion. "
        "| A test says no by `assert`: what it does before that has to work with any plan.",
        "lives": "`test_plan` passed for a statement that {how}, with {messages} committed message(s) in the table. "
        "| Print the plan: which node would not be there with the right index?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        cases = [
            Case("own", right=True), Case("other name", right=True), *[Case(name) for name in HOW],
        ]  # fmt: skip
        report = await run_tests(attempt, module, cases, f"{SCENES}.given", f"{SCENES}.newest")
        print(report.printed, end="")
        expect_tests(report, module)
        self._calls_it(attempt, report)
        self._bears_with_right_ones(attempt, report, module)
        self._sees_broken_ones(attempt, report)

    def _calls_it(self, attempt: Attempt, report: Report) -> None:
        if report.stumbles:
            return  # what it raised is told first
        attempt.expect(any(tried.noted("messages") for tried in report.tried), "never called")

    def _bears_with_right_ones(self, attempt: Attempt, report: Report, module: TestModule) -> None:
        alarms = [tried for tried in report.right if tried.asserted]
        if not alarms:
            expect_no_error(report, module)
            return
        messages, known, message = _most(alarms[0], "messages"), _most(alarms[0], "known"), alarms[0].said
        attempt.expect(messages >= SMALL, "small table", messages=messages)
        attempt.expect(known >= messages / 2, "not analyzed", messages=messages, known=known)
        everywhere = all(tried.red for tried in report.tried)
        attempt.expect(not everywhere, "always fails", messages=messages, message=message)
        attempt.expect(alarms[0].case.name != "other name", "by name", message=message)
        raise attempt.wrong("false alarm", messages=messages, message=message)

    def _sees_broken_ones(self, attempt: Attempt, report: Report) -> None:
        lived = {tried.case.name: tried for tried in report.mutants if not tried.red}
        for name, tried in lived.items():
            if name not in (*SORTED, "other index"):
                raise attempt.wrong("lives", how=HOW[name], messages=_most(tried, "messages"))
        for name in lived:
            attempt.expect(name not in SORTED, "sorted afterwards", how=HOW[name])
            raise attempt.wrong("thrown away", how=HOW[name])
        for tried in report.mutants:
            error = tried.first_trouble.kind if tried.first_trouble else ""
            attempt.expect(tried.asserted, "not an assertion", how=HOW[tried.case.name], error=error)


def _most(tried: Tried, name: str) -> int:
    return max(tried.noted(name), default=0)
