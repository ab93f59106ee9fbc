"""3.3: a value computed in Python, and somebody else at the same row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import SystemRandom, choice, randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text

from course_lib.judging.asking import DEADLOCK, calling_it, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import ADVISORY, Intruder, at_once, holds_advisory_lock, listening, sessions_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user, other_rows

TIERS = ("free", "pro", "team")
LIMIT = 100_000_000
Price = Callable[[str, int, int], int]


class Charge(Exercise):
    """A change that the server cannot compute, so that it takes a lock, a check or a second try."""

    id = "3.3"
    title = "The lost update"
    answer = "charge"
    minutes = 12
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Two calls may read the same old row, and then the second to write erases the first. Who could be made to "
        "wait, or to notice?",
        "Three cures: lock the row when you read it (`with_for_update`); write only if the row is still as it was "
        "read, and start over if not; or a stricter isolation level, and start over after its error.",
        "`await session.get(User, user_id, with_for_update=True)` waits for whoever holds the row, and then reads it "
        "as it is now.",
    )
    why = (
        "Under READ COMMITTED, reading a row says nothing about the moment of writing it. FOR UPDATE makes the second "
        "one wait before it reads. Comparing or a stricter level let both read, and make the second start over."
    )
    follow_up = (
        "Computing the price takes a call to another service, a third of a second. Which of the three cures do you "
        "choose?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`charge` returned None for a user who exists. "
        "| Did you forget `return`, or is a 0 taken for nobody?",
        "not a number": "`charge` returned {kind}, and `tokens_used` as it is afterwards was asked for, an int. "
        "| `user.tokens_used` of the changed user.",
        "not committed": "`charge` returned {said}, and other connections see `tokens_used` as it was before. "
        "| What makes it last?",
        "wrong amount": "`tokens_used` went from {before} to {after} for a user of tier {tier}, and that is not what "
        "`price` asks for. "
        "| `tokens_used + price(tier, tokens_used, n)`",
        "wrong return": "It returned {said}, and `tokens_used` is {after}. | The value that was stored last counts.",
        "others charged": "Other users were changed too. | The user's id belongs into the WHERE.",
        "unknown user": "For an id that nobody has, it {did}. | None was asked for, and no error.",
        "lost update": "While it ran, another session took `tokens_used` from {before} to {other}; it last asked "
        "`price` about {asked}, and in the end `tokens_used` is {after}. "
        "| What it computed from was old. Read under a lock that lasts until the commit, or check when you write.",
        "stale price": "While it ran, another session took `tokens_used` from {before} to {other}; it stored {after}, "
        "with a price that belongs to the row as it was. "
        "| Adding on the server is not enough: the price depends on the row too.",
        "not its own": "It booked, another session booked {more} more right after it, and it returned {said}, which "
        "holds both. "
        "| `tokens_used` after this change: keep the number that you stored, and do not read it again.",
        "gave up": "Another session changed the same user in between, {times} time(s), and then it raised {error}. "
        "| Wait for the row, or start over with a fresh transaction, as often as it takes.",
        "nothing booked": "While another session changed the same user, it returned {said}, and nothing was booked. "
        "| Was the row skipped, or the check not repeated?",
        "one of two lost": "Two calls at once took `tokens_used` from {before} to {after}, and one after the other "
        "they would not have. "
        "| Was the row read before it was locked?",
        "deadlock": "Of two calls at once the server stopped one with {error}, SQLSTATE 40P01. "
        "| Each had a lock that kept the other from writing. Ask at once for the one you need: FOR UPDATE.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        n, price = 100 + randbelow(900), _price()
        user_id = await _add_user(attempt)
        others = await other_rows(attempt, "users", "id", user_id)
        one_xmin = "UPDATE users SET tier = CASE id WHEN :id THEN :tier ELSE tier END"  # every row's: it names nobody
        for tier in ("free", "team"):
            await attempt.sql(one_xmin, tier=tier, id=user_id)
            await self._charges(attempt, user_id, tier, n, price)
        attempt.expect(await other_rows(attempt, "users", "id", user_id) == others, "others charged")
        await self._charges(attempt, await add_user(attempt, limit=LIMIT), "free", n, price)  # nothing used so far
        await self._charges(attempt, user_id, "team", n, lambda tier, used, n: 0 * n)
        with calling_it(attempt, "unknown user", did="raised an error"):
            said = await attempt.call(sessions_of(attempt), uuid4(), n, price)
        attempt.expect(said is None, "unknown user", did=f"returned {article(said)}")
        await self._returns_its_own(attempt, n)
        await self._waits_or_starts_over(attempt, n)
        await self._is_alone_with_the_row(attempt, n)
        await self._twice_at_once(attempt, n)
        await expect_errors_to_rise(attempt, call=lambda: attempt.call(sessions_of(attempt), user_id, n, price))

    async def _charges(self, attempt: Attempt, user_id: UUID, tier: str, n: int, price: Price) -> None:
        before = await _used(attempt, user_id)
        said = await attempt.call(sessions_of(attempt), user_id, n, price)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, int) and not isinstance(said, bool), "not a number", kind=article(said))
        after = await _used(attempt, user_id)
        cost = price(tier, before, n)
        attempt.expect(after != before or not cost, "not committed", said=said)
        right = after == before + cost
        attempt.expect(right, "wrong amount", before=before, after=after, tier=tier)
        attempt.expect(said == after, "wrong return", said=said, after=after)

    async def _waits_or_starts_over(self, attempt: Attempt, n: int) -> None:
        """Another process charges the same user, and commits when the learner's session stands at the row.

        If the learner's session holds an advisory lock then, the other process would have waited for it: it has not
        charged yet.
        """
        user_id, price, tier = await _add_user(attempt), _price(), choice(TIERS)
        await attempt.sql("UPDATE users SET tier = :tier WHERE id = :id", tier=tier, id=user_id)
        before = await _used(attempt, user_id)
        amount, other = price(tier, before, n), before + 10_000
        while price(tier, other, n) == amount:
            other += 1 + randbelow(1_000)
        asked = _Asked(price)
        with calling_it(attempt, "gave up", times=1):
            said, other = await self._while_another_charges(attempt, user_id, n, asked, before, other)
        after = await _used(attempt, user_id)
        attempt.expect(after != other, "nothing booked", said=said)
        numbers = {"before": before, "other": other, "after": after, "asked": asked.last}
        right = after == other + price(tier, other, n)
        attempt.expect(right or after != other + amount, "stale price", **numbers)
        attempt.expect(right, "lost update", **numbers)
        attempt.expect(said == after, "wrong return", said=said, after=after)

    async def _is_alone_with_the_row(self, attempt: Attempt, n: int) -> None:
        """While ``price`` computes, another process charges the same user, if nothing keeps it out."""
        user_id, price = await _add_user(attempt), _price()
        before = other = await _used(attempt, user_id)
        asked = _Asked(price)

        def interrupted(tier: str, tokens_used: int, n: int) -> int:
            nonlocal other
            amount = asked(tier, tokens_used, n)
            more = tokens_used + amount + 10_000 + intruder.changes
            if not intruder.at_its_end and not intruder.value(ADVISORY):
                other = more if intruder.change_if_free("users", user_id, "tokens_used = %s", more) else other
            return amount

        with Intruder(attempt) as intruder:
            try:
                said = await attempt.call(sessions_of(attempt), user_id, n, interrupted)
            except Wrong as wrong:
                raise _gave_up(attempt, wrong, intruder.changes) from wrong
        after = await _used(attempt, user_id)
        attempt.expect(after != other, "nothing booked", said=said)
        right = after == other + price("free", other, n)
        attempt.expect(right, "lost update", before=before, other=other, after=after, asked=asked.last)
        attempt.expect(said == after, "wrong return", said=said, after=after)

    async def _returns_its_own(self, attempt: Attempt, n: int) -> None:
        """Another process charges the same user as soon as the call has committed, if the call goes on after that."""
        user_id, price, more = await _add_user(attempt), _price(), 10_000
        before = await _used(attempt, user_id)
        begun = 0

        def come_in_between(_: object) -> None:
            nonlocal begun
            begun += 1
            if begun > 1 and intruder.value("SELECT tokens_used FROM users WHERE id = %s", user_id) != before:
                intruder.change_if_free("users", user_id, "tokens_used = tokens_used + %s", more)

        with Intruder(attempt, times=1) as intruder, listening(attempt, "begin", come_in_between):
            said = await attempt.call(sessions_of(attempt), user_id, n, price)
        after, own = await _used(attempt, user_id), before + price("free", before, n)
        added = more * intruder.changes
        attempt.expect(not added or said != own + added, "not its own", more=added, said=said)
        attempt.expect(after == own + added, "wrong amount", before=before, after=after, tier="free")
        attempt.expect(said == own, "wrong return", said=said, after=after)

    async def _while_another_charges(
        self, attempt: Attempt, user_id: UUID, n: int, price: Price, before: int, value: int
    ) -> tuple[Any, int]:
        """What the call returned, and ``tokens_used`` as the other session left it."""
        async with attempt.judge_session() as other:
            statement = text("UPDATE users SET tokens_used = :value WHERE id = :id")
            await other.execute(statement, {"value": value, "id": user_id})
            running = asyncio.ensure_future(attempt.call(sessions_of(attempt), user_id, n, price))
            await until_blocked(attempt, running, 1)
            if await holds_advisory_lock(attempt):
                await other.rollback()
                return await running, before
            await other.commit()
            return await running, value

    async def _twice_at_once(self, attempt: Attempt, n: int) -> None:
        """Two calls, while the judge's session keeps everybody from writing and nobody from reading the row."""
        user_id, price = await _add_user(attempt), _price()
        before = await _used(attempt, user_id)
        while price("free", before, n) == price("free", before + price("free", before, n), n):
            price = _price()
        async with attempt.judge_session() as other:
            await other.execute(text("SELECT 1 FROM users WHERE id = :id FOR SHARE"), {"id": user_id})
            with (
                calling_it(attempt, "gave up", times=1),
                calling_it(attempt, "deadlock", saying=DEADLOCK),
            ):
                call = [user_id, n, price]
                running = asyncio.ensure_future(at_once(attempt, call, call))
                await until_blocked(attempt, running, 2)
                await other.rollback()
                said = await running
        after = await _used(attempt, user_id)
        first = before + price("free", before, n)
        second = first + price("free", first, n)
        attempt.expect(after == second, "one of two lost", before=before, after=after)
        attempt.expect(said in ([first, second], [second, first]), "wrong return", said=said, after=after)


class _Asked:
    """``price``, and the ``tokens_used`` that it was asked for last."""

    def __init__(self, price: Price) -> None:
        self._price = price
        self.last: int | None = None

    def __call__(self, tier: str, tokens_used: int, n: int) -> int:
        self.last = tokens_used
        return self._price(tier, tokens_used, n)


def _gave_up(attempt: Attempt, wrong: Wrong, times: int) -> Wrong:
    """What an error says when another session was in the way so many times."""
    if wrong.mistake != "raised" or not times:
        return wrong
    return attempt.wrong("gave up", error=kind_of(wrong.__cause__), times=times)


def _price() -> Price:
    """A price that depends on all three arguments, and on the row in a way that only this function knows."""
    rates = dict(zip(TIERS, SystemRandom().sample(range(2, 9), len(TIERS)), strict=True))
    step = 701 + randbelow(300)

    def price(tier: str, tokens_used: int, n: int) -> int:
        if tier not in TIERS or not isinstance(tokens_used, int):
            raise TypeError("price takes the values of a row: a tier such as 'free', and two numbers")
        return n * rates[tier] + tokens_used % step

    return price


async def _add_user(attempt: Attempt) -> UUID:
    return await add_user(attempt, limit=LIMIT, used=10_000 + randbelow(5_000))


async def _used(attempt: Attempt, user_id: UUID) -> int:
    used: int = await attempt.value("SELECT tokens_used FROM users WHERE id = :id", id=user_id)
    return used
