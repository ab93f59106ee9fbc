"""3.4: two rows, two directions, and an order for the locks."""

from __future__ import annotations

import asyncio
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from course_lib.exercises.lesson_03.scenes.token_holders import DEADLOCKS, Balances, add_users, balances, together
from course_lib.judging.asking import CHECK, DEADLOCK, calling_it, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import Intruder, at_once, kept_outside, listening, sessions_of, store_if_free
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import new_email

SHARED = "SELECT 1 FROM users WHERE id = :id FOR SHARE"
NOT_BOTH = "SELECT md5(string_agg(u::text, '' ORDER BY id)) FROM users AS u WHERE id NOT IN (:giver, :taker)"
LOOK = "SELECT token_limit FROM users WHERE id IN (%s, %s)"
SIGN_UP = "INSERT INTO users (email, name) VALUES (%s, 'Somebody New')"
TIMES_IN_BETWEEN, COMMITS = 120, 10


class TransferTokens(Exercise):
    """A change of two rows under locks that everybody takes in the same order."""

    id = "3.4"
    title = "Both ways at once"
    answer = "transfer_tokens"
    minutes = 15
    points = 3
    level = "mid"
    hints: ClassVar = (
        "Ada gives to Bruno while Bruno gives to Ada. Each call changes its giver's row first. Who waits for whom?",
        "If every transfer locks its two rows in the same order, whatever its direction, the second one waits at the "
        "first row and holds nothing. By what can two users always be ordered?",
        "`select(User).where(User.id.in_([from_id, to_id])).order_by(User.id).with_for_update()` locks both and reads "
        "them as they are now. Check and change after that.",
    )
    why = (
        "A deadlock needs a circle, and locks taken in one order everywhere cannot form one. Both rows are read under "
        "their locks, so the check still holds when the change is made, and no purchase in between is overwritten."
    )
    follow_up = (
        "A batch job now changes a thousand users in one transaction. How does it keep out of the transfers' way?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`transfer_tokens` returned None. | Did you forget `return`?",
        "not a bool": "`transfer_tokens` returned {kind}, and True or False was asked for. | Compare, and return that.",
        "refused too early": "With {left} unused tokens it refused to transfer {n}. "
        "| Unused is `token_limit - tokens_used`, and giving all of it away is allowed.",
        "not committed": "It said True for {n} tokens, and no other connection sees a change. | What makes it last?",
        "wrong amount": "It was to transfer {n} tokens: the giver's `token_limit` moved by {given}, the other's by "
        "{taken}. "
        "| What one loses the other gets.",
        "wrong column": "The transfer of {n} tokens changed `tokens_used` too. | Only `token_limit` moves.",
        "others changed": "Other users were changed too. | Two ids, two rows.",
        "false yes": "It said True, and there was {case}. | False was asked for.",
        "changed although refused": "With {case} it said False, and the `token_limit` of both together moved by "
        "{moved}. "
        "| Refused means untouched: check before you change, or roll back.",
        "raised instead": "With {case} it raised {error}. "
        "| False was asked for: look first, or catch it and roll back.",
        "seen half-way": "While the transfer waited for the taker's row, other connections saw the giver's "
        "`token_limit` moved by {given} and the taker's not at all. "
        "| Both changes belong to one transaction, with one commit.",
        "tokens lost": "While a transfer of {n} ran, other sessions gave the two {bonus} tokens, and the "
        "`token_limit` of both together moved by {moved}. "
        "| What was written back was old. Lock the rows before you read them, or let the server add.",
        "decided too early": "While another session spent tokens of the giver, so that too few were left, it {did}. "
        "| The number it decided on was old. Lock before you read, or decide in the UPDATE.",
        "broke off": "While another session changed one of the two users, it raised {error}. "
        "| Wait for the row, or start over with a fresh transaction.",
        "gave up": "Other sessions bought a token or signed up in between, {times} time(s), and then it raised "
        "{error}. "
        "| COMMIT can fail like a statement. Lock the rows, or start over as often as it takes.",
        "deadlock": "Two transfers in opposite directions at once: the server stopped one with {error}, SQLSTATE "
        "40P01. "
        "| Each held what the other waited for. Lock the two rows in the same order in both.",
        "gave up at a deadlock": "Its transfers in opposite directions can deadlock, as was seen; of another one the "
        "server stopped {times} tries with SQLSTATE 40P01, and then it raised {error}. "
        "| Lock the two rows in the same order in both, and there is no deadlock; or start over as often as it takes.",
        "refused in a race": "While other sessions were at the same two users it said {said}, and there were more "
        "than enough tokens. "
        "| Was an error, or a row that is locked, taken for a refusal?",
        "kept in this process": "While one transfer waited for a row, the other had not come to the database at all. "
        "| What holds it back is known to this Python process only, and the product runs in several. Let rows or "
        "advisory locks decide.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        n, left = 100 + randbelow(900), 10 + randbelow(80)
        giver, taker = await add_users(attempt, n + left, 5_000)
        others = await attempt.value(NOT_BOTH, giver=giver, taker=taker)
        await self._transfers(attempt, giver, taker, n, left + n)
        attempt.expect(await attempt.value(NOT_BOTH, giver=giver, taker=taker) == others, "others changed")
        await self._refuses(attempt, giver, taker, left + 1, "too little left")
        await self._transfers(attempt, giver, taker, left, left)
        await self._refuses(attempt, giver, taker, 1, "nothing left")
        first_and_last = UUID(int=randbelow(2**64)), UUID(int=2**128 - 1 - randbelow(2**64))  # in the order of ids
        for nobody in first_and_last:
            await self._refuses(attempt, taker, nobody, 5, "no such taker")
            await self._refuses(attempt, nobody, taker, 5, "no such giver")
        await self._refuses(attempt, taker, taker, 5, "one user on both sides")
        await self._keeps_what_another_adds(attempt)
        await self._keeps_what_comes_in_between(attempt)
        await self._starts_over_as_often_as_it_takes(attempt)
        await self._sees_what_another_spends(attempt)
        await self._goes_both_ways(attempt)
        await expect_errors_to_rise(attempt, call=lambda: attempt.call(sessions_of(attempt), giver, taker, 1))

    async def _transfers(self, attempt: Attempt, giver: UUID, taker: UUID, n: int, left: int) -> None:
        before = await balances(attempt, giver, taker)
        said = _yes_or_no(attempt, await attempt.call(sessions_of(attempt), giver, taker, n))
        after = await balances(attempt, giver, taker)
        attempt.expect(said, "refused too early", left=left, n=n)
        attempt.expect(after != before, "not committed", n=n)
        same = all(after[id][1] == before[id][1] for id in before)
        attempt.expect(same, "wrong column", n=n)
        given, taken = (after[id][0] - before[id][0] for id in (giver, taker))
        attempt.expect((given, taken) == (-n, n), "wrong amount", n=n, given=given, taken=taken)

    async def _refuses(self, attempt: Attempt, giver: UUID, taker: UUID, n: int, case: str) -> None:
        before = await balances(attempt, giver, taker)
        with calling_it(attempt, "raised instead", case=case):
            said = _yes_or_no(attempt, await attempt.call(sessions_of(attempt), giver, taker, n))
        after = await balances(attempt, giver, taker)
        attempt.expect(not said, "false yes", case=case)
        moved = together(after) - together(before)
        attempt.expect(after == before, "changed although refused", case=case, moved=moved)

    async def _keeps_what_another_adds(self, attempt: Attempt) -> None:
        n, bonus = 100 + randbelow(100), 1_000 + randbelow(1_000)
        giver, taker = await add_users(attempt, n + 500, 500)
        before = await balances(attempt, giver, taker)
        change = "UPDATE users SET token_limit = token_limit + :by WHERE id = :id"
        with calling_it(attempt, "broke off"):
            said = await self._while_another(attempt, change, {"by": bonus, "id": taker}, [giver, taker, n], before)
        after = await balances(attempt, giver, taker)
        moved = together(after) - together(before)
        attempt.expect(said, "refused in a race", said=said)
        right = after[giver][0] == before[giver][0] - n and moved == bonus
        attempt.expect(right, "tokens lost", n=n, bonus=bonus, moved=moved)

    async def _keeps_what_comes_in_between(self, attempt: Attempt) -> None:
        """Another process changes the taker between two transactions of one call, if it makes two."""
        n, bonus = 100 + randbelow(100), 1_000 + randbelow(1_000)
        giver, taker = await add_users(attempt, n + 500, 500)
        before = await balances(attempt, giver, taker)
        transactions, added = 0, 0

        def come_in_between(_: object) -> None:
            nonlocal transactions, added
            transactions += 1
            more = before[taker][0] + bonus
            if transactions == 2 and store_if_free(attempt, "users", taker, "token_limit", more):
                added = bonus

        with listening(attempt, "begin", come_in_between), calling_it(attempt, "broke off"):
            await attempt.call(sessions_of(attempt), giver, taker, n)
        after = await balances(attempt, giver, taker)
        moved = together(after) - together(before)
        right = after[giver][0] == before[giver][0] - n and moved == added
        attempt.expect(right, "tokens lost", n=n, bonus=added, moved=moved)

    async def _starts_over_as_often_as_it_takes(self, attempt: Attempt) -> None:
        """The taker buys a token before each statement, if their row is free, and somebody signs up at each COMMIT.

        A transaction at SERIALIZABLE that has looked for both users does not survive that: the one who signs up has
        looked at them too, and stands on the page of the index that was read.
        """
        n = 100 + randbelow(100)
        giver, taker = await add_users(attempt, n + 500, 500)
        before = await balances(attempt, giver, taker)

        def buy(*_: object) -> None:
            buyer.change_if_free("users", taker, "token_limit = token_limit + 1")

        def sign_up(_: object) -> None:
            newcomer.serializable((LOOK, [giver, taker]), (SIGN_UP, [new_email()]))

        with (
            Intruder(attempt, times=TIMES_IN_BETWEEN) as buyer, Intruder(attempt, times=COMMITS) as newcomer,
            listening(attempt, "before_cursor_execute", buy), listening(attempt, "commit", sign_up),
        ):  # fmt: skip
            try:
                said = _yes_or_no(attempt, await attempt.call(sessions_of(attempt), giver, taker, n))
            except Wrong as wrong:
                raise _broke_off(attempt, wrong, buyer.changes + newcomer.changes) from wrong
        after = await balances(attempt, giver, taker)
        moved = together(after) - together(before)
        attempt.expect(said, "refused in a race", said=said)
        right = after[giver][0] == before[giver][0] - n and moved == buyer.changes
        attempt.expect(right, "tokens lost", n=n, bonus=buyer.changes, moved=moved)

    async def _sees_what_another_spends(self, attempt: Attempt) -> None:
        n, left = 100 + randbelow(100), 300 + randbelow(100)
        giver, taker = await add_users(attempt, left, 500)
        before = await balances(attempt, giver, taker)
        change = "UPDATE users SET tokens_used = tokens_used + :by WHERE id = :id"
        values = {"by": left - n + 1, "id": giver}
        with (
            calling_it(attempt, "broke off"),
            calling_it(attempt, "decided too early", IntegrityError, saying=CHECK, did="broke a rule of the table"),
        ):
            said = await self._while_another(attempt, change, values, [giver, taker, n], before)
        after = await balances(attempt, giver, taker)
        attempt.expect(not said, "decided too early", did="said True")
        moved = together(after) - together(before)
        untouched = all(after[id][0] == before[id][0] for id in before)
        attempt.expect(untouched, "changed although refused", case="too little left", moved=moved)

    async def _while_another(
        self, attempt: Attempt, change: str, values: dict[str, Any], call: list[Any], before: Balances
    ) -> bool:
        """What the call says. Another session holds one of the rows, changed, until the learner's session is there."""
        async with attempt.judge_session() as other:
            await other.execute(text(change), values)
            running = asyncio.ensure_future(attempt.call(sessions_of(attempt), *call))
            stood = await until_blocked(attempt, running, 1)
            half_way = await balances(attempt, *call[:2]) if stood else before
            await other.commit()
            said = await running
        given = half_way[call[0]][0] - before[call[0]][0]
        attempt.expect(half_way == before, "seen half-way", given=given)
        return _yes_or_no(attempt, said)

    async def _goes_both_ways(self, attempt: Attempt) -> None:
        """Opposite transfers at once. Both rows are held until each call stands at the first lock it asks for.

        Then one row is let go, and the other only when both stand again: who takes the rows in the order of its
        arguments holds one of them by then, and the circle is closed, however fast or slow the machine.
        """
        n, back = 100 + randbelow(100), 300 + randbelow(100)
        one, two = await add_users(attempt, 9_000, 9_000)
        before = await balances(attempt, one, two)
        async with attempt.judge_session() as first, attempt.judge_session() as second:
            await first.execute(text(SHARED), {"id": one})
            await second.execute(text(SHARED), {"id": two})
            running = asyncio.ensure_future(at_once(attempt, [one, two, n], [two, one, back]))
            stood = await until_blocked(attempt, running, 2)
            outside = not stood and kept_outside(attempt, running)
            await first.rollback()
            await until_blocked(attempt, running, 2 if stood else 1)
            await second.rollback()
            with (
                calling_it(attempt, "broke off"),
                calling_it(attempt, "deadlock", saying=DEADLOCK),
            ):
                said = await running
        after = await balances(attempt, one, two)
        moved = together(after) - together(before)
        attempt.expect(said == [True, True], "refused in a race", said=" and ".join(map(repr, said)))
        right = moved == 0 and after[one][0] - before[one][0] == back - n
        attempt.expect(right, "tokens lost", n=n, bonus=0, moved=moved)
        attempt.expect(not outside, "kept in this process")
        if any(statement.sqlstate == DEADLOCK for statement in attempt.log.statements):
            await self._starts_over_after_deadlocks(attempt)

    async def _starts_over_after_deadlocks(self, attempt: Attempt) -> None:
        """For those who can deadlock: the server says so many times, without the second that each would take."""
        giver, taker = await add_users(attempt, 500, 500)
        await attempt.sql(DEADLOCKS)
        try:
            said = await attempt.call(sessions_of(attempt), giver, taker, 100)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            times = await attempt.value("SELECT last_value FROM deadlocks")
            raise attempt.wrong("gave up at a deadlock", times=times, error=kind_of(wrong.__cause__)) from wrong
        attempt.expect(_yes_or_no(attempt, said), "refused in a race", said=said)


def _broke_off(attempt: Attempt, wrong: Wrong, times: int) -> Wrong:
    """What an error says when other sessions were at the users so many times meanwhile."""
    if wrong.mistake != "raised":
        return wrong
    return attempt.wrong("gave up", error=kind_of(wrong.__cause__), times=times)


def _yes_or_no(attempt: Attempt, said: Any) -> bool:
    attempt.expect(said is not None, "nothing returned")
    attempt.expect(isinstance(said, bool), "not a bool", kind=article(said))
    return bool(said)
