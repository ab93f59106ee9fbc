"""9.2: a budget of statements as a test, tried on pages that keep to it and on pages that do not."""

from __future__ import annotations

from secrets import randbelow
from typing import ClassVar

from course_lib.exercises.lesson_09.scenes.members_page import HOW
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import answered
from course_lib.judging.testing.report import Case, Report, Tried
from course_lib.judging.testing.run import expect_no_error, expect_tests, run_tests

GIVEN = "course_lib.exercises.lesson_09.scenes.given"
SCENE = "course_lib.exercises.lesson_09.scenes.members_page"
ENOUGH = 40  # users who have said something: then every broken page sends more than three statements


class BudgetTest(Exercise):
    """Data of its own, a session of its own, and a number that does not grow."""

    id = "9.2"
    title = "A budget that sees through properties"
    answer = "test_budget"
    minutes = 12
    points = 2
    level = "mid"
    recipe = "migrated"
    crowded = False
    second_process = True
    seconds = 40.0  # a process of pytest
    hints: ClassVar = (
        "The page is slow only when there is something to load. Which rows does the test have to make, and how many, "
        "so that ten users at a time are more than three statements?",
        "An object that the session already holds is not loaded again. Make the rows in one session, commit, and call "
        "the page with another: `async with AsyncSession(engine) as fresh:`.",
        "`with QueryLog(engine) as log:` around the call alone, then `assert log.count <= 3, str(log)`. Nothing about "
        "how many lines come back.",
    )
    why = (
        "A loop shows in data, not in code: forty users who each have said something, where three would have hidden "
        "it. The rows are made in one session and the page is asked in another: what a session holds is not loaded "
        "again. And the limit is a number of statements, so one more user changes nothing."
    )
    follow_up = (
        "The test is green for two years, then somebody raises its budget from 3 to 4 in the commit that turns it red. "
        "What would you ask in the review?"
    )
    mistakes: ClassVar = {
        "never called": "`test_budget` never ran `members_page` to its end. "
        "| Only running it shows what it sends. Is an `await` missing?",
        "no database": "`test_budget` ran `members_page`, and no statement reached the database. "
        "| Give it a real session on the engine: `AsyncSession(engine)`.",
        "always fails": "`test_budget` failed for every page, a right one too that sent {sent} statement(s) for "
        "{lines} users. | It said: {message}.",
        "one more user": "`test_budget` passed for a right page, and failed for a right page when {others} more "
        "user(s) were there. | Nobody promised that the table is empty: count statements, not users.",
        "false alarm": "`test_budget` failed for a right page that sent {sent} statement(s) for {lines} users. "
        "| It said: {message}.",
        "no data": "`test_budget` passed for every page, and the page that it asked for had {speaking} user(s) who "
        "have said something. "
        "| A loop over nobody sends nothing: make users, conversations and messages, and commit them.",
        "warmed up": "`test_budget` passed for a page that {how}: the session it called the page with held {known} "
        "objects already. | What a session holds is not loaded again: make the rows in one, ask the page in another.",
        "small data": "`test_budget` passed for a page that {how}: with {speaking} user(s) who have said something it "
        "sent {sent} statement(s). | From how many users on does that page send more than three?",
        "let through": "`test_budget` passed for a page that {how}: {sent} statements for {lines} users. "
        "| Every statement on the engine counts, whoever sends it and whatever it asks.",
        "not an assertion": "For a page that {how}, `test_budget` ended with {error}, and not with an assertion. "
        "| A test says no by `assert`: what it does before that has to work with any page.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        others = 1 + randbelow(6)
        cases = [
            Case("eager", right=True), Case("one statement", right=True),
            Case("eager", right=True, options={"others": others}, backwards=True),
            *[Case(name) for name in HOW],
        ]  # fmt: skip
        report = await run_tests(attempt, module, cases, GIVEN, SCENE)
        print(report.printed, end="")
        expect_tests(report, module)
        self._calls_it(attempt, report)
        self._bears_with_right_pages(attempt, report)
        expect_no_error(report, module)
        self._sees_broken_pages(attempt, report)

    def _calls_it(self, attempt: Attempt, report: Report) -> None:
        if report.stumbles:
            return  # what it raised is told first
        sent = [number for tried in report.tried for number in tried.noted("sent")]
        attempt.expect(bool(sent), "never called")
        attempt.expect(any(sent), "no database")

    def _bears_with_right_pages(self, attempt: Attempt, report: Report) -> None:
        alarms = [tried for tried in report.right if tried.asserted]
        if not alarms:
            return
        first = alarms[0]
        numbers = {"sent": _most(first, "sent"), "lines": _most(first, "lines"), "message": first.said}
        attempt.expect(not all(tried.red for tried in report.tried), "always fails", **numbers)
        more = first.case.options.get("others", 0)
        attempt.expect(not (len(alarms) == 1 and more), "one more user", others=more)
        raise attempt.wrong("false alarm", **numbers)

    def _sees_broken_pages(self, attempt: Attempt, report: Report) -> None:
        lived = [tried for tried in report.mutants if not tried.red]
        if lived:
            first = max(lived, key=lambda tried: _most(tried, "sent"))
            speaking, known = _most(first, "speaking"), min(first.noted("known"), default=0)
            how, sent, lines = HOW[first.case.name], _most(first, "sent"), _most(first, "lines")
            attempt.expect(len(lived) < len(HOW) or speaking > 0, "no data", speaking=speaking)
            attempt.expect(not known, "warmed up", how=how, known=known)
            attempt.expect(speaking >= ENOUGH or sent > 3, "small data", how=how, speaking=speaking, sent=sent)
            raise attempt.wrong("let through", how=how, sent=sent, lines=lines)
        for tried in report.mutants:
            error = tried.first_trouble.kind if tried.first_trouble else ""
            attempt.expect(tried.asserted, "not an assertion", how=HOW[tried.case.name], error=error)


def _most(tried: Tried, name: str) -> int:
    return max(tried.noted(name), default=0)
