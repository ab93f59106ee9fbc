"""7.6: tokens are reserved before the model is asked, and settled when it is known what it cost."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text

from course_lib.exercises.lesson_07.scenes.metered import left_of, model_for, others_before_each_write, used_by
from course_lib.judging.asking import calling_it, together, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.metered import MeteredModel, ModelDown, Once
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import article, kind_of, quoted
from course_lib.judging.races import sessions_of
from course_lib.judging.rising import HIDE, SHOW, expect_errors_to_rise
from course_lib.judging.staging import add_user, other_rows

CALLS, ROOM = 4, 2
PLENTY = 1_000_000
SHARE = "SELECT 1 FROM users WHERE id = :id FOR SHARE"  # others can read, and not write
BOOK = "UPDATE users SET tokens_used = tokens_used + :more WHERE id = :id"


class WithinLimit(Exercise):
    """Reserve, call, settle; and give back when there is nothing to settle."""

    id = "7.6"
    title = "Reserve and settle"
    answer = "ask_within_limit"
    minutes = 15
    points = 2
    level = "mid"
    seconds = 12.0
    hints: ClassVar = (
        "Until the model has answered, nobody knows the price. What can be taken from the user before, so that "
        "all who ask at once stay below the limit together?",
        "Three steps, each committed by itself: add `most` where it still fits; ask; take back what was too much. "
        "Who looks first and adds afterwards has let somebody else look in between.",
        "`update(User).where(User.id == user_id, User.tokens_used + most <= User.token_limit)` and "
        "`.returning(User.id)` say whether it fitted. An error is not the only way a call ends early: "
        "`except BaseException`, or `finally`, is there for a cancelled one too.",
    )
    why = (
        "A price that is known only afterwards is paid from what was set aside before, as a hotel does with a card. "
        "The comparison and the addition are one UPDATE, so the row's lock is held for one statement and nobody can "
        "come in between. To settle is to change by a difference, never to write back a number that was read before "
        "the call. Locking the row during the call would be exact as well, and hold a connection for seconds."
    )
    follow_up = (
        "The process is killed while the model works, and nobody settles. How do you tell such a reservation from one "
        "whose call is merely slow, and who gives the tokens back, once?"
    )
    mistakes: ClassVar = {
        "not asked": "With {left} tokens left, a call for {most} did not get to the model. "
        "| All that is left may be reserved, and the limit is the one that stands in the row now.",
        "above the limit": "With {left} tokens left, a call for {most} {did}. "
        "| None is asked for, without a question to the model and without an error.",
        "booked in vain": "A call that was refused took `tokens_used` from {before} to {after}. "
        "| What is refused reserves nothing.",
        "unknown user": "For an id that nobody has, it {did}. | None is asked for, and no question to the model.",
        "wrong question": "The model was given {kind} that is not the question. | The question, as it came.",
        "connection held": "While the model worked, {count} connection(s) were held. "
        "| What ends the first transaction before `await ask_model(…)`?",
        "not reserved": "While the model worked on a call for {most} tokens, others saw `tokens_used` at {seen}, and "
        "before the call it was {before}. "
        "| `most` is added and committed before the model is asked: until then it is nobody's.",
        "nothing returned": "It returned None for a call that the model answered. | Did you forget `return`, or is an "
        "empty reply taken for none?",
        "wrong reply": "It returned {kind} that is not the model's reply. | `reply, used = await ask_model(question)`",
        "not settled": "A call for {most} tokens that cost {used} took `tokens_used` from {before} to {after}. "
        "| In the end what it cost has been added, and nothing else.",
        "overwrote": "While the model worked, another process booked {more} tokens of the same user; in the end "
        "`tokens_used` is {after}, and it was {before} before the call that {cost}. "
        "| Settle by a difference that the server adds: what you have read before the call is old.",
        "account gone": "The account was deleted while the model worked, and then it {did}. "
        "| There is nothing left to settle; the model's reply is there all the same.",
        "failed at once": "Of {n} calls at once, with room for {room}, one raised {error}. "
        "| Both looked at the same number before either of them wrote. Compare and add in one statement, or lock the "
        "row when you read it.",
        "too many at once": "{n} calls came at once, there was room for {room}, and {asked} of them got to the model. "
        "| Each looked before the others had written, and wrote what it had computed from that.",
        "too few at once": "{n} calls came at once, there was room for {room}, and {asked} of them got to the model. "
        "| Who waits for a lock, or has to try again, has not been refused yet.",
        "one after another": "{n} calls came at once, and {missing} of them neither got to the model nor were "
        "refused while another one was there. "
        "| What lets only one in until the model has answered? Only the reserving has to be exclusive.",
        "lost at once": "{n} calls at once that cost {used} tokens each took `tokens_used` from {before} to {after}. "
        "| Two settle at the same moment too: `tokens_used - …` is computed by the server.",
        "not given back": "{ending}, and `tokens_used` went from {before} to {after}. "
        "| Nothing was delivered, so all of `most` is given back, however the call ended.",
        "error swallowed": "{ending}, and the caller was given {said}. "
        "| Give back, and then `raise`: the caller has to know.",
        "not told": "No table could be found when there was something to settle, and the caller was given {said}. "
        "| What was not committed is an error of the database, and the caller has to know of it.",
        "gave up": "Another process changed the row {count} times, each time just before a write, and the call {did}. "
        "| Try again until it has gone through, or let the server compare and add.",
        "others charged": "Rows of other users were changed too. | The user's id belongs into every WHERE.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt, limit=PLENTY, used=1_000 + randbelow(1_000))
        others = await other_rows(attempt, "users", "id", user_id)
        most = 500 + randbelow(500)
        for used, reply in ((1 + randbelow(most - 1), awkward_text()), (most, awkward_text()), (0, "")):
            await self._answered(attempt, user_id, most, used, reply)
        await self._at_the_limit(attempt, user_id, most)
        await self._refused(attempt, uuid4(), most, "unknown user")
        await self._another_books(attempt, user_id, most)
        await self._fails(attempt, user_id, most)
        await self._is_cancelled(attempt, user_id, most)
        attempt.expect(await other_rows(attempt, "users", "id", user_id) == others, "others charged")
        await self._account_goes(attempt, most)
        await self._at_once(attempt, most)
        await self._is_interrupted(attempt, most)
        await self._cannot_settle(attempt, user_id, most)
        await expect_errors_to_rise(attempt, call=partial(_ask, attempt, model_for(attempt, user_id), user_id, most))

    async def _answered(self, attempt: Attempt, user_id: UUID, most: int, used: int, reply: str) -> None:
        before, left = await used_by(attempt, user_id), await left_of(attempt, user_id)
        model = model_for(attempt, user_id, reply, used)
        said = await _ask(attempt, model, user_id, most)
        attempt.expect(bool(model.asked), "not asked", left=left, most=most)
        attempt.expect(model.held == 0, "connection held", count=model.held)
        reserved = model.seen == before + most
        attempt.expect(reserved, "not reserved", most=most, seen=model.seen, before=before)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(said == reply, "wrong reply", kind=article(said))
        after = await used_by(attempt, user_id)
        attempt.expect(after == before + used, "not settled", most=most, used=used, before=before, after=after)

    async def _at_the_limit(self, attempt: Attempt, user_id: UUID, most: int) -> None:
        """One token is missing; then another process raises the limit by that one."""
        limit = await used_by(attempt, user_id) + most - 1
        await attempt.sql("UPDATE users SET token_limit = :limit WHERE id = :id", limit=limit, id=user_id)
        await self._refused(attempt, user_id, most, "above the limit", left=most - 1, most=most)
        await attempt.sql("UPDATE users SET token_limit = token_limit + 1 WHERE id = :id", id=user_id)
        await self._answered(attempt, user_id, most, 1 + randbelow(most), awkward_text())
        await attempt.sql("UPDATE users SET token_limit = tokens_used WHERE id = :id", id=user_id)
        await self._refused(attempt, user_id, 1, "above the limit", left=0, most=1)
        await attempt.sql("UPDATE users SET token_limit = :limit WHERE id = :id", limit=PLENTY, id=user_id)

    async def _refused(self, attempt: Attempt, user_id: UUID, most: int, /, mistake: str, **numbers: int) -> None:
        before = await used_by(attempt, user_id)
        model = model_for(attempt, user_id, "so much is too much")
        try:
            said = await _ask(attempt, model, user_id, most)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            raise attempt.wrong(mistake, did=f"raised {kind_of(wrong.__cause__)}", **numbers) from wrong
        attempt.expect(not model.asked, mistake, did="got to the model", **numbers)
        attempt.expect(said is None, mistake, did=f"returned {article(said)}", **numbers)
        after = await used_by(attempt, user_id)
        attempt.expect(after == before, "booked in vain", before=before, after=after)

    async def _another_books(self, attempt: Attempt, user_id: UUID, most: int) -> None:
        before, more = await used_by(attempt, user_id), 10_000 + randbelow(10_000)
        model = model_for(attempt, user_id, awkward_text(), 1 + randbelow(most - 1))
        model.meanwhile = partial(attempt.sql, BOOK, more=more, id=user_id)
        await _ask(attempt, model, user_id, most)
        after = await used_by(attempt, user_id)
        right = after == before + more + model.cost
        attempt.expect(right, "overwrote", more=more, after=after, before=before, cost=f"cost {model.cost}")

    async def _fails(self, attempt: Attempt, user_id: UUID, most: int) -> None:
        """While another process books, so that a number written back does not pass for a difference."""
        before, more = await used_by(attempt, user_id), 10_000 + randbelow(10_000)
        model = model_for(attempt, user_id)
        model.fails = ModelDown("the provider did not answer")
        model.meanwhile = partial(attempt.sql, BOOK, more=more, id=user_id)
        ending, caught = "The model failed", None
        try:
            said = quoted(await _ask(attempt, model, user_id, most))
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            caught = wrong.__cause__
            said = article(caught)
        attempt.expect(caught is model.fails, "error swallowed", ending=ending, said=said)
        after = await used_by(attempt, user_id)
        attempt.expect(after != before, "overwrote", more=more, after=after, before=before, cost="failed")
        right = after == before + more
        attempt.expect(right, "not given back", ending=ending, before=before, after=after - more)

    async def _is_cancelled(self, attempt: Attempt, user_id: UUID, most: int) -> None:
        before = await used_by(attempt, user_id)
        model = model_for(attempt, user_id)
        model.hangs = True
        ending, said = "The call was cancelled while the model worked", ""

        async def scene() -> None:
            nonlocal said
            running = asyncio.ensure_future(_called(attempt, model, user_id, most))
            await first_of(running, model.silent)
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                error = running.exception()
                said = article(error) if error else quoted(running.result())

        scene.__name__ = self.answer  # the name that a message gives
        await attempt.call(function=scene)
        attempt.look_for_tasks()
        attempt.expect(not said, "error swallowed", ending=ending, said=said)
        after = await used_by(attempt, user_id)
        attempt.expect(after == before, "not given back", ending=ending, before=before, after=after)

    async def _is_interrupted(self, attempt: Attempt, most: int) -> None:
        user_id = await add_user(attempt, limit=PLENTY)
        model = model_for(attempt, user_id, awkward_text(), 1 + randbelow(most - 1))
        with others_before_each_write(attempt, user_id) as intruder:
            try:
                said = await _ask(attempt, model, user_id, most)
            except Wrong as wrong:
                raise attempt.wrong("gave up", count=intruder.changes, did=f"ended: {wrong.sentence}") from wrong
        attempt.expect(said is not None, "gave up", count=intruder.changes, did="returned None")
        told = {"more": intruder.changes, "before": 0, "after": await used_by(attempt, user_id)}
        right = told["after"] == told["more"] + model.cost
        attempt.expect(right, "overwrote", cost=f"cost {model.cost}", **told)

    async def _cannot_settle(self, attempt: Attempt, user_id: UUID, most: int) -> None:
        """From the moment on at which the model works, no table can be found."""
        model = model_for(attempt, user_id, awkward_text(), 1)
        model.meanwhile = partial(attempt.sql, HIDE)
        try:
            said = quoted(await _ask(attempt, model, user_id, most))
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            return
        finally:
            if model.asked:
                await attempt.sql(SHOW)
        raise attempt.wrong("not told", said=said)

    async def _account_goes(self, attempt: Attempt, most: int) -> None:
        user_id = await add_user(attempt, limit=PLENTY)
        model = model_for(attempt, user_id, awkward_text(), most // 2)
        model.meanwhile = partial(attempt.sql, "DELETE FROM users WHERE id = :id", id=user_id)
        with calling_it(attempt, "account gone", did="raised an error"):
            said = await _ask(attempt, model, user_id, most)
        attempt.expect(said == model.reply, "account gone", did=f"returned {article(said)}")

    async def _at_once(self, attempt: Attempt, most: int) -> None:
        """Calls side by side; nobody can write before all of them stand at the user's row, and anybody can read it."""
        before = 50_000 + randbelow(1_000)  # so much that nobody's giving back goes below 0
        user_id = await add_user(attempt, limit=before + ROOM * most + most - 1, used=before)
        model = model_for(attempt, user_id, awkward_text(), 1 + randbelow(most // 2), crowd=CALLS)
        numbers: dict[str, Any] = {"n": CALLS, "room": ROOM}
        async with attempt.judge_session() as other:
            await other.execute(text(SHARE), {"id": user_id})
            with calling_it(attempt, "failed at once", **numbers):
                running = asyncio.ensure_future(_at_once(attempt, model, user_id, most))
                await until_blocked(attempt, running, CALLS)
                await other.rollback()
                said = await running
        asked = len(model.asked)
        attempt.expect(model.missing == 0, "one after another", n=CALLS, missing=model.missing)
        attempt.expect(asked <= ROOM, "too many at once", asked=asked, **numbers)
        attempt.expect(asked == ROOM, "too few at once", asked=asked, **numbers)
        attempt.expect(said.count(model.reply) == ROOM, "wrong reply", kind=article(said[0]))
        await self._settle_at_once(attempt, user_id, model)

    async def _settle_at_once(self, attempt: Attempt, user_id: UUID, before_it: MeteredModel) -> None:
        """Two calls are at the model; from then on nobody can write before both of them stand at the user's row."""
        most = 2 * before_it.cost
        await attempt.sql("UPDATE users SET token_limit = :limit WHERE id = :id", limit=PLENTY, id=user_id)
        for fails in (None, ModelDown("the provider did not answer")):
            before = await used_by(attempt, user_id)
            model = model_for(attempt, user_id, awkward_text(), before_it.cost, crowd=ROOM)
            model.fails = fails
            async with attempt.judge_session() as other:
                lock = Once(partial(other.execute, text(SHARE), {"id": user_id}))
                model.meanwhile = lock
                with calling_it(attempt, "failed at once", n=ROOM, room=ROOM):
                    running = asyncio.ensure_future(_at_once(attempt, model, user_id, most))
                    await lock.done_or(running)
                    await until_blocked(attempt, running, ROOM)
                    await other.rollback()
                    await running
            after, used = await used_by(attempt, user_id), 0 if fails else model.cost
            lost = {"n": ROOM, "used": used, "before": before, "after": after}
            attempt.expect(after == before + ROOM * used, "lost at once", **lost)


async def _called(attempt: Attempt, model: MeteredModel, user_id: UUID, most: int) -> Any:
    said = attempt.answer(sessions_of(attempt), model, user_id, awkward_text(), most)
    return await said if inspect.isawaitable(said) else said


async def _at_once(attempt: Attempt, model: MeteredModel, user_id: UUID, most: int) -> list[Any]:
    """As many calls as the model's crowd."""

    async def one() -> Any:
        try:
            return await _called(attempt, model, user_id, most)
        except ModelDown:  # which is to reach the caller
            return None
        finally:
            model.one_is_over()

    return await together(attempt, [one] * model.crowd)


async def _ask(attempt: Attempt, model: MeteredModel, user_id: UUID, most: int) -> Any:
    """One call alone; the question has to get to the model as it is."""
    question = awkward_text()
    said = await attempt.call(sessions_of(attempt), model, user_id, question, most)
    attempt.look_for_tasks()
    for asked in model.asked:
        attempt.expect(asked == question, "wrong question", kind=article(asked))
    return said
