"""9.3: a race as a test, which fails every time without the lock, and never with it."""

from __future__ import annotations

from secrets import randbelow
from typing import ClassVar

from course_lib.exercises.lesson_09.scenes.spending import HOW, LATEST
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import TestModule, answered
from course_lib.judging.testing.report import Case, Report
from course_lib.judging.testing.run import expect_no_error, expect_tests, run_tests

SCENES = "course_lib.exercises.lesson_09.scenes"
ROUNDS = 3  # where the machine did not keep to that


class RaceTest(Exercise):
    """A barrier between reading and writing, at which nobody waits for ever."""

    id = "9.3"
    title = "A hundred times of a hundred"
    answer = "test_race"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "migrated"
    crowded = False
    second_process = True
    seconds = 60.0  # pytest, and where there is a lock the test waits for somebody who does not come
    hints: ClassVar = (
        "`price` is yours, and it is awaited at the worst moment: after the reading and before the writing. What has "
        "to be true of both calls before one of them goes on from there?",
        "Count the arrivals in `price`, and let each wait until the other has arrived too: an `asyncio.Event` that the "
        "second one sets. Without a lock both arrive, every time.",
        "With a lock the second one does not come to `price` before the first has committed. So wait with an end: "
        "`asyncio.wait_for(event.wait(), 0.5)`, and go on after its `TimeoutError`. The assertion is about the row.",
    )
    why = (
        "A race that is left to chance is a test that is green on the machine where it matters. The barrier makes the "
        "bad order the only one: both have read before either writes. Where a lock keeps the second one out, waiting "
        "with an end lets the first go on, and nothing fails. What is asserted is the row, so a second try is as good "
        "as a lock."
    )
    follow_up = (
        "The function has no `price` to wait in: it reads and writes without calling anything of yours. How do you "
        "make the race happen every time?"
    )
    mistakes: ClassVar = {
        "never called": "`test_race` never ran `spend`. | Two calls at once, awaited: `asyncio.gather`.",
        "one at a time": "`test_race` called `spend`, and never a second time before the first call had ended. "
        "| Two calls race when both are under way: `asyncio.gather`, or tasks.",
        "waits for ever": "`test_race` had not come to an end after {seconds} seconds when `spend` loses nothing. "
        "| The other call may stand at a lock, and come to `price` only after this one has committed: "
        "wait with an end.",
        "always fails": "`test_race` failed for every `spend`, also for one that loses nothing. | It said: {message}.",
        "false alarm": "`test_race` failed for a `spend` that {how}, and loses nothing. | It said: {message}.",
        "not an assertion": "For a `spend` that {how}, `test_race` ended with {error}, and not with an assertion. "
        "| A test says no by `assert`, about what is in the row.",
        "by luck": "`test_race` failed {failed} of {runs} times when the lock was removed. "
        "| Each time the two calls came to their row at other moments: let one wait in `price` until the other is "
        "there too, and for longer than a tenth of a second.",
        "lives": "`test_race` passed for a `spend` that {how}. "
        "| One of two calls that are under way at once is lost there: what should be in the row in the end?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        some = 0.02 + randbelow(20) / 1_000
        cases = [
            Case("for update", right=True), Case("for update", right=True, options={"late": [0, LATEST - some]}),
            Case("optimistic", right=True), Case("repeatable read", right=True, options={"late": [some, 0]}),
            Case("no lock"), Case("no lock", options={"late": [0, some]}),
            Case("no lock", options={"late": [LATEST - some, 0]}), Case("no lock", options={"follows": True}),
            Case("lock after reading"), *[Case(name, options={"follows": True}) for name in ("lock let go", "gave up")],
        ]  # fmt: skip
        for _ in range(ROUNDS):
            report = await run_tests(attempt, module, cases, f"{SCENES}.given", f"{SCENES}.spending", side_by_side=3)
            if not _too_slow(report):
                break
        print(report.printed, end="")
        self._comes_to_an_end(attempt, report)
        expect_tests(report, module)
        self._calls_it(attempt, report)
        self._bears_with_right_ones(attempt, report, module)
        self._sees_what_is_lost(attempt, report)

    def _comes_to_an_end(self, attempt: Attempt, report: Report) -> None:
        late = [tried for tried in report.tried for run in tried.runs if run.outcome == "late"]
        if late and all(tried.case.right for tried in late) and _calls(report):
            raise attempt.wrong("waits for ever", seconds=report.seconds)

    def _calls_it(self, attempt: Attempt, report: Report) -> None:
        if report.stumbles:
            return  # what it raised is told first
        attempt.expect(_calls(report) > 0, "never called")

    def _bears_with_right_ones(self, attempt: Attempt, report: Report, module: TestModule) -> None:
        alarms = [tried for tried in report.right if tried.asserted]
        if alarms:
            message = alarms[0].said
            attempt.expect(not all(tried.red for tried in report.tried), "always fails", message=message)
            how = {"for update": "locks the row", "optimistic": "checks when it writes and starts over"}
            way = how.get(alarms[0].case.name, "starts over when the server refuses it")
            raise attempt.wrong("false alarm", how=way, message=message)
        expect_no_error(report, module)

    def _sees_what_is_lost(self, attempt: Attempt, report: Report) -> None:
        unlocked = [tried for tried in report.mutants if tried.case.name == "no lock"]
        lived = [tried for tried in report.mutants if not tried.red]
        if lived:
            attempt.expect(_calls(report) > 1 or len(lived) < len(report.mutants), "one at a time")
            failed = sum(tried.red for tried in unlocked)
            attempt.expect(failed in (0, len(unlocked)), "by luck", failed=failed, runs=len(unlocked))
            raise attempt.wrong("lives", how=HOW[lived[0].case.name])
        for tried in report.mutants:
            error = tried.first_trouble.kind if tried.first_trouble else ""
            attempt.expect(tried.asserted, "not an assertion", how=HOW[tried.case.name], error=error)


def _too_slow(report: Report) -> bool:
    """A mutant lived while a call took much longer to its row than the statement says."""
    lived = [tried for tried in report.mutants if tried.green]
    return any(second > 2 * LATEST for tried in lived for second in tried.noted("reached"))


def _calls(report: Report) -> int:
    """How many calls were under way at once, at most."""
    return max((count for tried in report.tried for count in tried.noted("inside")), default=0)
