"""9.4: tests of what becomes of an answer when the model refuses, breaks off or is slow."""

from __future__ import annotations

from typing import ClassVar

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import answered
from course_lib.judging.testing.report import Case, Tried
from course_lib.judging.testing.run import expect_no_error, expect_tests, run_tests

SCENES = "course_lib.exercises.lesson_09.scenes"
RIGHT = {
    "at the end": "stores what it has when the stream is over",
    "row first": "stores a row before it asks the model, and changes it when the stream is over",
}
MUTANTS = (
    "cut as complete", "lost", "empty", "cut in silence", "apology", "row left", "refused in silence",
    "no second try", "left streaming", "held",
)  # fmt: skip
"""By the names of their mistakes."""


class BadDay(Exercise):
    """The model's failures made at the transport, and the rows looked at afterwards."""

    id = "9.4"
    title = "The model's bad day"
    answer = "TestBadDay"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "migrated"
    crowded = False
    second_process = True
    seconds = 60.0  # pytest, and second tries of the SDK
    hints: ClassVar = (
        "One test for each kind of day. `openai_client(fail_first=1, retry_after_ms=1)` is refused once, "
        "`openai_client(status=429, retry_after_ms=1)` always, `openai_client(break_stream_after=3)` is cut.",
        "Three things are to be seen each time: whether an error came out of `reply` (`pytest.raises`), which rows of "
        "the assistant there are, and what their `status` and `content` are.",
        "For the slow one, look while the model is being asked: replace `client.chat.completions.create` by a function "
        "of yours that first counts, over another connection, the sessions that are `idle in transaction`, and then "
        "calls the original.",
    )
    why = (
        "The failures are made beneath the SDK, so its second tries, its errors and its way of reading a stream are "
        "the real ones. Each test looks at what stays: an error for the caller, and rows that say the truth about what "
        "was said. And a slow model is looked at while it is slow; afterwards nobody can tell who held a transaction."
    )
    follow_up = (
        "The tests are green, and the provider begins to send an `error` event inside of the stream, with status 200. "
        "How would you have noticed before your users did?"
    )
    mistakes: ClassVar = {
        "never called": "No test of `TestBadDay` ran `reply`. | `await reply(sessions, client, conversation_id)`.",
        "always fails": "`{test}` failed for every `reply`, also for a right one. | It said: {message}.",
        "false alarm": "`{test}` failed for a `reply` that is right and {how}. | It said: {message}.",
        "never fails": "`TestBadDay` passed for all {count} `reply` that are wrong. "
        "| What is in the table afterwards, and did an error come out?",
        "cut as complete": "`TestBadDay` passed for a `reply` that stores half an answer as 'complete' when the stream "
        "is cut. | Look at the `status` of the row after `break_stream_after`.",
        "lost": "`TestBadDay` passed for a `reply` that stores nothing of an answer that was cut. "
        "| What had come is to be in the table: look for the row, and for its content.",
        "empty": "`TestBadDay` passed for a `reply` that stores an empty text when the stream is cut. "
        "| The words that had come are to be in the row: look at its content.",
        "cut in silence": "`TestBadDay` passed for a `reply` that returns as if nothing were the matter when the "
        "stream is cut. | Whoever called it is to hear of it: `pytest.raises`.",
        "apology": "`TestBadDay` passed for a `reply` that stores an apology as the assistant's answer when the model "
        "refuses. | After `status=429`, which rows of the assistant are there?",
        "row left": "`TestBadDay` passed for a `reply` that leaves an empty row with status 'aborted' when the model "
        "refuses. | After `status=429` there is no message of the assistant, whatever its status.",
        "refused in silence": "`TestBadDay` passed for a `reply` that returns an empty text when the model refuses. "
        "| Whoever called it is to hear of it: `pytest.raises(openai.RateLimitError)`.",
        "no second try": "`TestBadDay` passed for a `reply` that gives up after one 429. "
        "| After `fail_first=1` the second request is answered, and so is the user.",
        "left streaming": "`TestBadDay` passed for a `reply` whose answer is there in full and keeps the status "
        "'streaming'. | After a second try that was answered, what is the `status` of the row?",
        "held": "`TestBadDay` passed for a `reply` that keeps its transaction open while it waits for the model. "
        "| Look while the model is being asked: is a session `idle in transaction`?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        cases = [*(Case(name, right=True) for name in RIGHT), Case("at the end", right=True, backwards=True)]
        cases += [Case(name, until_no=True) for name in MUTANTS]
        report = await run_tests(attempt, module, cases, f"{SCENES}.given", f"{SCENES}.replies", side_by_side=3)
        print(report.printed, end="")
        expect_tests(report, module)
        alarms = [tried for tried in report.right if tried.asserted and not tried.case.backwards]
        if alarms:
            test, message = _failed(alarms[0])
            attempt.expect(not all(tried.red for tried in report.tried), "always fails", test=test, message=message)
            raise attempt.wrong("false alarm", test=test, how=RIGHT[alarms[0].case.name], message=message)
        expect_no_error(report, module)
        attempt.expect(any(tried.noted("called") for tried in report.tried), "never called")
        lived = [tried.case.name for tried in report.mutants if not tried.red]
        attempt.expect(len(lived) < len(MUTANTS), "never fails", count=len(lived))
        if lived:
            raise attempt.wrong(lived[0])


def _failed(tried: Tried) -> tuple[str, str]:
    """The first test that failed, and what it said."""
    run = next(run for run in tried.runs if run.outcome == "failed")
    return run.test, f"`{run.message}`" if run.message else "nothing; `assert condition, message` lets it say more"
