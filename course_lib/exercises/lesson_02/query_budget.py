"""2.8: the learner's test is tried on functions that keep the budget and on functions that do not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID

from course_lib.exercises.lesson_02.scenes import loading_conversations as loading
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.staging import add_user
from course_lib.judging.threads import add_threads

KEEPING = (loading.in_a_second_select, loading.in_a_join, loading.by_hand)
BREAKING = (loading.one_by_one, loading.one_by_one_below, loading.in_small_batches, loading.at_once_while_few)
BREAKING_WHEN_FEW = (loading.one_by_one, loading.one_by_one_below)


@dataclass
class Trial:
    """The test, run on one function and one user with ``n`` conversations."""

    function: loading.Loading
    n: int
    passed: bool = True
    said: Any = None
    error: BaseException | None = None
    calls: int = 0
    sent: int = 0  # statements, by one call at most
    seen: list[int] = field(default_factory=list)  # how many conversations each call returned

    @property
    def keeps_the_budget(self) -> bool:
        return self.function in KEEPING

    @property
    def statements(self) -> str:
        return f"{self.sent} statement" + ("" if self.sent == 1 else "s")


class QueryBudget(Exercise):
    """A query budget as a test, itself tested."""

    id = "2.8"
    title = "A test that bites"
    answer = "test_budget"
    minutes = 15
    points = 3
    level = "senior"
    seconds = 15.0  # a dozen tests, with hundreds of statements
    hints: ClassVar = (
        "The test has to call the function with a session on the engine it is given, and count what that engine sends "
        "meanwhile. Which instrument does that?",
        "`with QueryLog(engine) as log:` around the call, in `async with AsyncSession(engine) as session:`. Then "
        "`log.count` is the number.",
        "How many statements are allowed depends on how many conversations came back: `len(conversations)`. "
        "`math.ceil` rounds up.",
    )
    why = (
        "The limit follows from how a good implementation grows, not from how today's grows. One that is as high as "
        "the data lets the loop through, a fixed 2 cries wolf when selectinload sends its next batch. And it is "
        "counted where all statements pass, so the test does not care how the function is written."
    )
    follow_up = (
        "Which rows would you create for this test, and how would you notice that somebody has shrunk the test data to "
        "two conversations?"
    )
    mistakes: ClassVar = {
        "never called": "`test_budget` never ran `list_conversations`. "
        "| Only running it shows what it sends. Is an `await` missing?",
        "no database": "`test_budget` ran `list_conversations`, and no statement reached the database. "
        "| Give it a real session on the engine: `AsyncSession(engine)`.",
        "returned, not asserted": "`test_budget` returned {kind}, raised nothing, and so passes for every function. "
        "| A test says no by `assert`.",
        "never fails": "`test_budget` passed for all functions it was tried on, one of which sent {sent} "
        "for {n} conversations. | What does it count, from when to when, and how high is its limit?",
        "always fails": "`test_budget` failed for all functions it was tried on, one of which sent {sent} "
        "for {n} conversations. | Its assert said: {message}.",
        "not an assertion": "For a function that sent {sent} for {n} conversations, `test_budget` raised "
        "{error}. | A test says no by an AssertionError: use `assert`.",
        "fails for many": "`test_budget` failed for a function that sent {sent} for {n} conversations, and "
        "that is within the budget. | One more is allowed for every 500 conversations.",
        "false alarm": "`test_budget` failed for a function that sent {sent} for {n} conversations, and "
        "that is within the budget. | Its assert said: {message}.",
        "limit too high": "`test_budget` passed for a function that sent {sent} for {n} conversations. "
        "| For so many the limit has to be lower, and every statement has to be counted.",
        "second level": "`test_budget` passed for a function that loads a user's conversations at once, and then the "
        "messages of each with a statement of its own: {sent} for {n} conversations. "
        "| Count all statements, whatever table they ask.",
        "batches": "`test_budget` passed for a function that loads messages ten conversations at a time: {sent} "
        "for {n} conversations. | Compare the number of all statements with the budget.",
        "small data": "`test_budget` passed for a function that sends too many statements: the test asked it for "
        "{seen} conversations, and the user has {n}. "
        "| A loop hides in small data. Ask for the conversations of the user you are given.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        sizes = (4 + randbelow(3), 30, 501 + randbelow(40))
        few, some, many = [await _stage(attempt, n) for n in sizes]
        trials = [await self._try(attempt, function, *some) for function in (*KEEPING, *BREAKING)]
        trials += [await self._try(attempt, function, *few) for function in (loading.in_a_join, *BREAKING_WHEN_FEW)]
        trials += [
            await self._try(attempt, function, *many) for function in (loading.in_a_second_select, loading.by_hand)
        ]
        if any(trial.passed != trial.keeps_the_budget for trial in trials):
            self._tell_what_is_wrong(attempt, trials)
        for trial in trials:
            self._expect_assertion(attempt, trial)

    async def _try(self, attempt: Attempt, function: loading.Loading, user_id: UUID, n: int) -> Trial:
        trial = Trial(function, n)
        given = _watched(attempt, trial)

        async def test_budget() -> None:
            try:
                trial.said = attempt.answer(given, attempt.engine, user_id)
                if not inspect.isawaitable(trial.said):
                    raise Wrong(
                        "not async", "`test_budget` is a plain function; the database is awaited here.",
                        "Write `async def`.",
                    )  # fmt: skip
                trial.said = await trial.said
            except BaseException as error:
                if not _says_no(error) and (trial.keeps_the_budget or not isinstance(error, Exception)):
                    raise
                trial.passed, trial.error = False, error

        await attempt.call(function=test_budget)
        attempt.look_for_held_connections()
        return trial

    def _expect_assertion(self, attempt: Attempt, trial: Trial) -> None:
        assertion = trial.error is None or _says_no(trial.error)
        error = kind_of(trial.error)
        attempt.expect(assertion, "not an assertion", sent=trial.statements, n=trial.n, error=error)

    def _tell_what_is_wrong(self, attempt: Attempt, trials: list[Trial]) -> None:
        attempt.expect(any(trial.calls for trial in trials), "never called")
        attempt.expect(any(trial.sent for trial in trials), "no database")
        most = max(trials, key=lambda trial: trial.sent / trial.n)
        if all(trial.passed for trial in trials):
            said = next((trial.said for trial in trials if trial.said is not None), None)
            attempt.expect(said is None, "returned, not asserted", kind=article(said))
            self._expect_enough_rows(attempt, trials)
            raise attempt.wrong("never fails", sent=most.statements, n=most.n)
        alarms = [trial for trial in trials if trial.keeps_the_budget and not trial.passed]
        if alarms:
            self._tell_of_false_alarm(attempt, alarms, trials)
        self._expect_enough_rows(attempt, trials)
        self._tell_what_was_let_through(attempt, [t for t in trials if t.passed and not t.keeps_the_budget])

    def _expect_enough_rows(self, attempt: Attempt, trials: list[Trial]) -> None:
        let_through = [trial for trial in trials if trial.passed and not trial.keeps_the_budget]
        enough = any(max(trial.seen, default=0) >= trial.n for trial in let_through)
        most = max(let_through, key=lambda trial: trial.n)
        attempt.expect(enough, "small data", seen=max(most.seen, default=0), n=most.n)

    def _tell_of_false_alarm(self, attempt: Attempt, alarms: list[Trial], trials: list[Trial]) -> None:
        first = alarms[0]
        numbers = {"sent": first.statements, "n": first.n, "message": _message(first.error)}
        attempt.expect(any(trial.passed for trial in trials), "always fails", **numbers)
        most = max(trial.n for trial in trials)
        attempt.expect(any(alarm.n < most for alarm in alarms), "fails for many", **numbers)
        raise attempt.wrong("false alarm", **numbers)

    def _tell_what_was_let_through(self, attempt: Attempt, let_through: list[Trial]) -> None:
        names: dict[Callable[..., Any], str] = {
            loading.one_by_one: "limit too high",
            loading.one_by_one_below: "second level",
            loading.at_once_while_few: "limit too high",
            loading.in_small_batches: "batches",
        }
        first = min(let_through, key=lambda trial: list(names).index(trial.function))
        raise attempt.wrong(names[first.function], sent=first.statements, n=first.n)


def _watched(attempt: Attempt, trial: Trial) -> loading.Loading:
    """The function of a trial, noting what its calls send. Who asks for its source is shown the function's own."""

    @functools.wraps(trial.function)
    async def list_conversations(*arguments: Any, **named: Any) -> loading.Conversations:
        trial.calls += 1
        before = attempt.log.count
        try:
            conversations = await trial.function(*arguments, **named)
        finally:
            trial.sent = max(trial.sent, attempt.log.count - before)
        trial.seen.append(len(conversations))
        return conversations

    list_conversations.__name__ = list_conversations.__qualname__ = "list_conversations"
    return list_conversations


def _says_no(error: BaseException) -> bool:
    """What ``assert`` raises, and ``pytest.fail``, which derives from BaseException."""
    return isinstance(error, AssertionError) or kind_of(error) == "Failed"


def _message(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return f"`{lines[0][:160]}`" if lines else "nothing; `assert condition, message` lets it say more"


async def _stage(attempt: Attempt, n: int) -> tuple[UUID, int]:
    """A user with ``n`` conversations of one to three messages."""
    user_id = await add_user(attempt)
    await add_threads(attempt, user_id, [1 + place % 3 * (n < 100) for place in range(n)], tied=False)
    return user_id, n
