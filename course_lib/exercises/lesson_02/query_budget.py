"""2.8: the learner's test is tried on functions that keep the budget and on functions that do not."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID

from course_lib.exercises.lesson_02.scenes import loading_conversations as loading
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.staging import add_user

CONVERSATIONS = """
    WITH begun AS (
        INSERT INTO conversations (user_id, title, created_at, updated_at)
        SELECT :mine, 'Question ' || place, now() - place * interval '1 day', now() - place * interval '1 hour'
        FROM generate_series(1, :n) AS place
        RETURNING id
    )
    INSERT INTO messages (conversation_id, seq, role, content)
    SELECT id, seq, 'user', md5(random()::text)
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM begun),
         generate_series(1, 3 * (place % 4 = 0)::int) AS seq
"""  # one in four has messages, and has three: rows of no join are as many as conversations


@dataclass
class Trial:
    """The test, run on one function and one user with ``n`` conversations."""

    way: loading.Way
    n: int
    beside: bool = False  # another engine of the process is at work meanwhile
    passed: bool = True
    said: Any = None
    error: BaseException | None = None
    sent: list[int] = field(default_factory=list)  # statements, by each call of the function
    sessions: list[Any] = field(default_factory=list)  # that were given to it
    seen: list[int] = field(default_factory=list)  # how many conversations each call returned

    @property
    def keeps_the_budget(self) -> bool:
        return self.way.keeps_the_budget(self.n)

    @property
    def most(self) -> int:
        return max(self.sent, default=0)

    @property
    def statements(self) -> str:
        return f"{self.most} statement" + ("" if self.most == 1 else "s")


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
        "other engines": "`test_budget` failed for a function that sent {sent} through `engine` for {n} conversations, "
        "which is within the budget, and one through another engine. "
        "| `QueryLog(engine)` sees what passes through that engine alone, `QueryLog()` what passes through any.",
        "let through": "`test_budget` passed for a function that {how}: {sent} for {n} conversations. "
        "| Every statement on the engine counts, whatever it asks and whoever sends it; one above the budget fails.",
        "warmed up": "`test_budget` called a function {calls} times with the same session and passed: "
        "once it sent {sent} for {n} conversations, and {last} in the last call. "
        "| A session does not load again what it holds: count a call in a new session.",
        "small data": "`test_budget` passed for a function that sends too many statements: the test asked it for "
        "{seen} conversations, and the user has {n}. "
        "| A loop hides in small data. Ask for the conversations of the user you are given.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        few, some, many = 4 + randbelow(3), loading.FEW + 2, 500
        small, middle, large = [await _stage(attempt, n) for n in (few, some, many)]
        trials = [await self._try(attempt, way, middle, some) for way in loading.WAYS]
        trials.append(await self._try(attempt, loading.SELECTED, middle, some, beside=True))
        for way in (loading.JOINED, loading.ONE_BY_ONE, loading.BELOW, loading.ONE_TOO_MANY):
            trials.append(await self._try(attempt, way, small, few))
        trials.append(await self._try(attempt, loading.ONE_TOO_MANY, large, many))
        await attempt.sql(CONVERSATIONS, mine=large, n=many + 1)
        trials.append(await self._try(attempt, loading.SELECTED, large, 2 * many + 1))
        if any(trial.passed != trial.keeps_the_budget for trial in trials):
            self._tell_what_is_wrong(attempt, trials)
        for trial in trials:
            self._expect_assertion(attempt, trial)

    async def _try(self, attempt: Attempt, way: loading.Way, user_id: UUID, n: int, beside: bool = False) -> Trial:
        trial = Trial(way, n, beside)
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
        attempt.expect(any(trial.sent for trial in trials), "never called")
        attempt.expect(any(trial.most for trial in trials), "no database")
        most = max(trials, key=lambda trial: trial.most / trial.n)
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
        attempt.expect(not all(alarm.beside for alarm in alarms), "other engines", **numbers)
        most = max(trial.n for trial in trials)
        attempt.expect(any(alarm.n < most for alarm in alarms), "fails for many", **numbers)
        raise attempt.wrong("false alarm", **numbers)

    def _tell_what_was_let_through(self, attempt: Attempt, let_through: list[Trial]) -> None:
        first = let_through[0]
        warm = next((trial for trial in let_through if _is_warm(trial)), None)
        if warm is not None:
            numbers = {"sent": warm.statements, "n": warm.n, "calls": len(warm.sent), "last": warm.sent[-1]}
            raise attempt.wrong("warmed up", **numbers)
        raise attempt.wrong("let through", how=first.way.how, sent=first.statements, n=first.n)


def _is_warm(trial: Trial) -> bool:
    """True when the last call sent less, in a session that had been given to the function before."""
    *before, last = trial.sessions or [None]
    return trial.sent[-1] < trial.most and any(session is last for session in before)


def _watched(attempt: Attempt, trial: Trial) -> loading.Loading:
    """The function of a trial, noting what its calls send. Who asks for its source is shown the function's own."""

    @functools.wraps(trial.way.load)
    async def list_conversations(*arguments: Any, **named: Any) -> loading.Conversations:
        before = attempt.log.count
        trial.sessions.append(named.get("session", next(iter(arguments), None)))
        try:
            if trial.beside:
                await attempt.sql("SELECT count(*) FROM users")
            conversations = await trial.way.load(*arguments, **named)
        finally:
            trial.sent.append(attempt.log.count - before)
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


async def _stage(attempt: Attempt, n: int) -> UUID:
    """A user with ``n`` conversations."""
    user_id = await add_user(attempt)
    await attempt.sql(CONVERSATIONS, mine=user_id, n=n)
    return user_id
