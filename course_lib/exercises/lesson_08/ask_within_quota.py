"""8.7: tokens of a window, reserved before the model is asked; who has none left learns when to come again."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from functools import partial
from secrets import randbelow
from typing import Any, ClassVar

from fastapi import FastAPI
from sqlalchemy import text

from course_lib.exercises.lesson_08.scenes.asking import asked_by, caller
from course_lib.exercises.lesson_08.scenes.quotas import QUOTAS, TABLE, Account
from course_lib.exercises.lesson_08.scenes.refused import refusing_commits
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, app_with, in_service, side_by_side
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.metered import MeteredModel, ModelDown, ModelOverloaded, Once
from course_lib.judging.quoting import kind_of, one_line
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user

CALLS, ROOM = 4, 2
PLENTY = 1_000_000
LEFT = timedelta(seconds=1000, microseconds=500_000)
A_MOMENT = timedelta(microseconds=1)
SHARE = "SELECT 1 FROM quotas WHERE user_id = :user FOR SHARE"  # others can read, and not write
SLACK = timedelta(seconds=1)
PROCESSES = ("/one", "/two")


class AskWithinQuota(Exercise):
    """Reserve, ask, settle, behind a route; and a 429 that says when."""

    id = "8.7"
    title = "A quota with 429"
    answer = "quota_routes"
    minutes = 20
    points = 3
    level = "senior"
    seconds = SECONDS
    hints: ClassVar = (
        "Before the model has answered, only `most` is known. What is added and committed before it is asked keeps "
        "everybody who asks at the same moment below the limit.",
        "Whether the window is over decides three things at once: what counts as used, whether it fits, and what "
        "`resets_at` becomes. `sa.case((over, …), else_=…)` puts the decision into the UPDATE itself, so that nobody "
        "comes between the look and the writing. `.returning(quotas.c.resets_at)` says which window it was.",
        '`HTTPException(429, …, headers={"Retry-After": …})`, with `func.ceil(func.extract("epoch", …))` of what is '
        "left. Settling and giving back are the same UPDATE by a difference, in a `finally`, where `resets_at` is "
        "still the one that was returned.",
    )
    why = (
        "The comparison, the addition and the beginning of a window are one UPDATE, so the row's lock decides who was "
        "first, and it is held for one statement. The window that paid is remembered by its end: what is given back "
        "later does not land in another one. And a client that is told when to come again need not try: without "
        "Retry-After each of them asks on and on, which costs more than the answer."
    )
    follow_up = (
        "All windows end on the hour, and at that moment everybody who was refused comes back at once. What would you "
        "change, in the quota and in the header?"
    )
    mistakes: ClassVar = {
        "not answered": "A question for which there was room, with {left} tokens left, was answered with {said}. "
        "| Status 200 and `{{\"answer\": reply}}`. All that is left may be reserved, and what was used in a "
        "window that is over does not count.",
        "not refused": "With {left} tokens left, a question that may cost {most} {did}. "
        "| Status 429, without a question to the model and without a token added.",
        "retry after": "The window ended in {left:.1f} seconds, and Retry-After said {said}. "
        "| Whole seconds, never too early: what is left is rounded up.",
        "connection held": "While the model worked, {count} connection(s) were held. "
        "| What ends the transaction before `await ask_model(…)`?",
        "wrong count": "{when}, `tokens_used` went from {before} to {after}. "
        "| `most` is added and committed before the model is asked, and in the end what it cost is counted, by a "
        "difference that the server adds; a question without an answer costs nothing.",
        "window": "The first question of a new window left `resets_at` {seconds:.0f} seconds from now. "
        "| With the first question after its end a window begins that ends `window` from now.",
        "new window": "While the model worked, a new window began with {before} tokens used, and when {ending} there "
        "were {after}. "
        "| What was reserved in a window is settled in that one, or nowhere.",
        "told too early": "The database refused the COMMIT of what a question had cost, and the client was told "
        "{status}. | It is committed when the client gets its 200: a task that nobody waits for comes after that.",
        "wrong failure": "The model raised {error}, and the client was told {status}. | Status 502.",
        "at once": "{n} questions came at once, there was room for {room}, and {told}. "
        "| Each looked before the others had written? Compare and add in one statement, or lock the row when you read "
        "it, and only until `most` is reserved.",
        "others charged": "A row of another user was changed too. | The user's id belongs into every WHERE.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(TABLE)
        stage = _Stage(attempt, await _account(attempt))

        async def scene(served: Serving) -> None:
            stage.served = served
            other = await _account(attempt)
            before = await other.row()
            await self._answered(stage)
            await self._refused(stage)
            await self._window_over(stage)
            await self._fails(stage)
            await self._refused_at_commit(stage)
            await self._new_window(stage)
            await self._at_once(stage)
            attempt.expect(await other.row() == before, "others charged")

        await in_service(attempt, stage.app, scene)

    async def _answered(self, stage: _Stage) -> None:
        """Exactly enough is left."""
        attempt, account, most = stage.attempt, stage.account, stage.most
        for cost, reply in ((1 + randbelow(most - 1), awkward_text()), (most, awkward_text()), (0, "")):
            before = 1000 + randbelow(1000)
            await account.set(before + most, before, LEFT)
            stage.model = MeteredModel(attempt, account.used, reply, cost)
            await self._expect_answer(stage)
            self._look_at_model(stage, before)
            counts = {
                "when": f"When a question had cost {cost} tokens",
                "before": before,
                "after": await account.used(),
            }
            attempt.expect(counts["after"] == before + cost, "wrong count", **counts)

    async def _expect_answer(self, stage: _Stage) -> None:
        question = awkward_text()
        reply = await stage.ask(question)
        await stage.over()
        right = (reply.status, reply.json) == (200, {"answer": stage.model.reply})
        said = f"status {reply.status}" if reply.status != 200 else one_line(reply.text)
        stage.attempt.expect(right, "not answered", left=stage.most, said=said)
        asked = stage.model.asked == [question]
        stage.attempt.expect(asked, "not answered", left=stage.most, said="the reply to another question")

    def _look_at_model(self, stage: _Stage, before: int) -> None:
        """What was held and reserved while it worked."""
        model = stage.model
        stage.attempt.expect(model.held == 0, "connection held", count=model.held)
        counts = {"when": "When the model was at work", "before": before, "after": model.seen}
        stage.attempt.expect(model.seen == before + stage.most, "wrong count", **counts)

    async def _refused(self, stage: _Stage) -> None:
        """One token is missing."""
        attempt, account, most = stage.attempt, stage.account, stage.most
        before = 1000 + randbelow(1000)
        await account.set(before + most - 1, before, LEFT)
        stage.model = MeteredModel(attempt, account.used, awkward_text(), 1)
        latest = await account.left()
        reply = await stage.ask()
        least = await account.left()
        numbers = {"left": most - 1, "most": most}
        attempt.expect(not stage.model.asked, "not refused", did="got to the model", **numbers)
        attempt.expect(reply.status == 429, "not refused", did=f"was answered with {reply.status}", **numbers)
        counts = {"when": "When a question was refused", "before": before, "after": await account.used()}
        attempt.expect(counts["after"] == before, "wrong count", **counts)
        said = reply.headers.get("retry-after", "")
        right = said.isdecimal() and math.ceil(least) <= int(said) <= math.ceil(latest) + 1
        attempt.expect(right, "retry after", left=latest, said=said or "nothing")

    async def _window_over(self, stage: _Stage) -> None:
        """All of the limit was used, in a window that is over."""
        attempt, account, most = stage.attempt, stage.account, stage.most
        for ago in (LEFT, A_MOMENT):  # when the router was made, the second one was not over
            await account.set(most, most, -ago)
            stage.model = MeteredModel(attempt, account.used, awkward_text(), 1 + randbelow(most - 1))
            first = await account.now()
            await self._expect_answer(stage)
            last = await account.now()
            self._look_at_model(stage, 0)
            used, resets_at = await account.row()
            right = first - SLACK <= resets_at - stage.window <= last + SLACK
            attempt.expect(right, "window", seconds=(resets_at - last).total_seconds())
            counts = {"when": "With the first question of a new window", "before": 0, "after": used}
            attempt.expect(used == stage.model.cost, "wrong count", **counts)

    async def _fails(self, stage: _Stage) -> None:
        """While another process spends, so that a number written back does not pass for a difference."""
        attempt, account = stage.attempt, stage.account
        before, more = 1000 + randbelow(1000), 10_000 + randbelow(10_000)
        for fails in (False, True):
            await account.set(PLENTY, before, LEFT)
            stage.model = MeteredModel(attempt, account.used, awkward_text(), 1)
            stage.model.meanwhile = partial(account.book, more)
            await (self._expect_failure(stage, ModelDown("no answer")) if fails else self._expect_answer(stage))
            end = "raised an error" if fails else "worked on an answer that cost 1 token"
            counts = {"when": f"When the model {end} and another process spent {more}", "before": before}
            after = await account.used()
            attempt.expect(after == before + more + (not fails), "wrong count", after=after, **counts)

    async def _expect_failure(self, stage: _Stage, error: Exception) -> None:
        stage.model.fails = error
        reply = await stage.ask(anyway=True)
        await stage.over()
        if reply.error not in (None, error):
            raise stage.attempt.raised("POST /questions", reply.error)
        stage.attempt.expect(reply.status == 502, "wrong failure", error=kind_of(error), status=reply.status)

    async def _refused_at_commit(self, stage: _Stage) -> None:
        """What is counted in the end is refused: who has said 200 by then has promised too much."""
        attempt = stage.attempt
        await stage.account.set(PLENTY, 1000, LEFT)
        stage.model = MeteredModel(attempt, stage.account.used, awkward_text(), 1)
        async with refusing_commits(attempt, "UPDATE", "quotas", "NEW.tokens_used < OLD.tokens_used"):
            reply = await stage.ask(anyway=True)
            await stage.over()
        attempt.expect(reply.status >= 400, "told too early", status=reply.status)

    async def _new_window(self, stage: _Stage) -> None:
        """Another process begins it while the model works."""
        attempt, account, before = stage.attempt, stage.account, 10_000 + randbelow(1000)
        for fails in (False, True):
            await account.set(PLENTY, before, LEFT)
            stage.model = MeteredModel(attempt, account.used, awkward_text(), 1)
            stage.model.meanwhile = partial(account.renew, before)
            await (self._expect_failure(stage, ModelOverloaded("later")) if fails else self._expect_answer(stage))
            told = {"before": before, "ending": "it had raised an error" if fails else "it had answered"}
            after = await account.used()
            attempt.expect(after == before, "new window", after=after, **told)

    async def _at_once(self, stage: _Stage) -> None:
        """The first questions of a new window. Nobody can write before all of them stand at the row."""
        attempt, account, most = stage.attempt, stage.account, stage.most
        await account.set(ROOM * most + most - 1, ROOM * most + most - 1, -LEFT)
        stage.model = model = MeteredModel(attempt, account.used, awkward_text(), 1 + randbelow(most // 2), crowd=CALLS)
        replies = await stage.ask_at_once()
        told = ""
        if model.missing:
            told = f"{model.missing} of them neither got to the model nor were refused while another one was there"
        elif len(model.asked) != ROOM:
            told = f"{len(model.asked)} of them got to the model"
        elif sorted(reply.status for reply in replies) != [200] * ROOM + [429] * (CALLS - ROOM):
            told = f"the clients got {', '.join(sorted(reply.outcome for reply in replies))}"
        attempt.expect(not told, "at once", n=CALLS, room=ROOM, told=told)
        counts = {"when": f"When {ROOM} questions at once cost {model.cost} each", "before": 0}
        used = await account.used()
        attempt.expect(used == ROOM * model.cost, "wrong count", after=used, **counts)


class _Stage:
    """The answer's app, twice, as two processes have it; the model that is asked just now; and the user's row."""

    served: Serving
    model: MeteredModel

    def __init__(self, attempt: Attempt, account: Account) -> None:
        self.attempt, self.account = attempt, account
        self.most = 500 + randbelow(500)
        self.window = timedelta(seconds=2000 + randbelow(5000))

    def app(self) -> FastAPI:
        app, attempt = FastAPI(), self.attempt
        for place in PROCESSES:
            named = (sessions_of(attempt), caller, QUOTAS, self._ask_model, self.most, self.window)
            app.mount(place, app_with(attempt, attempt.answer(*named)))
        return app

    async def _ask_model(self, question: Any) -> tuple[str, int]:
        return await self.model(question)

    async def ask(self, question: str = "how much?", process: str = PROCESSES[0], anyway: bool = False) -> Reply:
        ask = self.served.ask_anyway if anyway else self.served.ask
        headers = asked_by(self.account.user)
        return await ask("POST", f"{process}/questions", json={"question": question}, headers=headers)

    async def over(self) -> None:
        """Wait for what the app still does behind its responses: that it comes too late is looked at by itself."""
        await self.served.idle()
        await asyncio.gather(*self.served.left_behind(), return_exceptions=True)

    async def ask_at_once(self) -> list[Reply]:
        """The replies to as many questions as the model's crowd.

        Nobody can write before all of them stand at the row; nor later, before those stand there that were answered.
        """

        async def one(number: int) -> Reply:
            try:
                return await self.ask(process=PROCESSES[number % len(PROCESSES)], anyway=True)
            finally:
                self.model.one_is_over()

        user = {"user": self.account.user}
        async with self.attempt.judge_session() as first, self.attempt.judge_session() as second:
            await first.execute(text(SHARE), user)
            self.model.meanwhile = lock = Once(partial(second.execute, text(SHARE), user))
            running = side_by_side(map(one, range(CALLS)))
            await until_blocked(self.attempt, running, CALLS)
            await first.rollback()
            await lock.done_or(running)
            await until_blocked(self.attempt, running, ROOM)
            await second.rollback()
            return await running


async def _account(attempt: Attempt) -> Account:
    """Of a new user, in a window that is over."""
    account = Account(attempt, await add_user(attempt))
    await account.set(PLENTY, 7, -LEFT)
    return account
