"""M4: a transaction that is tried again, with a payment inside."""

from __future__ import annotations

import asyncio
import inspect
from secrets import randbelow
from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.exercises.interview.scenes.payments import (
    CENTS,
    MORE,
    CardDeclined,
    Overtaking,
    Sale,
    limit_of,
    new_sale,
)
from course_lib.judging.asking import until_blocked, while_another_writes
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import Intruder, listening
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import other_rows

LARGEST = 2**31 - 1  # that the column takes
PERSISTENT = 12  # times; who tries again a few times gives up before


class TokensSold(Drill):
    """A rollback takes back what the database did, and nothing else."""

    id = "M4"
    title = "Charged twice"
    answer = "buy_tokens"
    minutes = 15
    points = 2
    level = "mid"
    topics: ClassVar = ("transactions", "idempotency", "concurrency")
    faults: ClassVar = ("charged twice", "paid for nothing", "not refunded")
    hints: ClassVar = (
        "When the server ends a transaction with 40001, all that the transaction did is undone. What did the function "
        "do that the server cannot undo?",
        "Either the payment leaves the part that is repeated, or the provider can tell that it is the same payment: by "
        "the key. How long does a key live in this code, and how long should it?",
        "Then walk through the ways out of the loop: the third conflict, and an error of another kind. At each of them "
        "ask who has the money and who has the tokens; `payments.refund(receipt)` is the one way back.",
    )
    why = (
        "Whatever is inside a retried block happens as often as the block runs, and a rollback reaches only what the "
        "server did. One key for the purchase, made before the first try, makes the provider's side repeatable, too; "
        "charging once before the loop does the same here. And since the payment cannot be part of the transaction, "
        "each way out without tokens has to give the money back and say that it failed: a loop that simply ends "
        "reports a success."
    )
    follow_up = (
        "`payments.charge` raises a timeout: nobody knows whether the money was taken. And what if the process is "
        "killed between the payment and the commit?"
    )
    mistakes: ClassVar = {
        "not once": "For a purchase {what} the card was charged {count} times. "
        "| Once for each call, so a key belongs to one call and to no other.",
        "wrong payment": "The card of a user of tier {tier} was charged {cents} cents for {thousands} thousand tokens, "
        "or it was another user's. | The price and the e-mail of the user who buys.",
        "not stored": "The card was charged, no error came, and `token_limit` went from {before} to {after}. "
        "| So many thousand tokens more, and committed.",
        "wrong return": "`buy_tokens` returned {said} that is not the receipt. | What `charge` returned.",
        "others changed": "Other users were changed. | The user's id belongs into the WHERE.",
        "charged twice": "Another process changed the user meanwhile, and in the end the card was charged {count} "
        "times. | That is what was reported. Which of the things in the repeated block can a rollback not take back?",
        "gave up": "Another process changed the user once, and then it raised {error}. "
        "| The money is there: storing is tried again, and this time nobody is in the way.",
        "lost update": "Another process added {more} tokens meanwhile, and they are gone. "
        "| What was computed from a row that was read earlier is old, at READ COMMITTED without an error.",
        "two at once": "For two purchases of one user at the same time the card was charged {count} time(s), and "
        "`token_limit` went from {before} to {after}. | Two calls are two purchases, even if both read the same row.",
        "before paid": "When the card was charged, others saw the new `token_limit` already. "
        "| A card may be declined. The tokens come after the money.",
        "paid for nothing": "Another process changed the user {times} times in a row, `buy_tokens` {did}, and the "
        "customer has paid {cents} cents for no tokens. "
        "| What happens when the last try has failed: who gives the money back, and who hears of it?",
        "not refunded": "The database refused the new limit with another error than a conflict, `buy_tokens` {did}, "
        "and the money was not given back. | A refund belongs to every way out without tokens.",
        "user gone": "Another process deleted the user while the card was charged, `buy_tokens` {did}, and the money "
        "was not given back. | An UPDATE that meets no row is no error. Who looks how many it met?",
        "cancelled": "The request was cancelled after the payment, nothing was stored, and the money was not given "
        "back. | CancelledError is no `Exception`. Which of your ways out does it pass by?",
        "refunded": "The tokens are stored, and the money was given back. | A refund is for who got nothing.",
        "refunded twice": "`refund` was called {count} times for one payment, or with something that is no receipt. "
        "| Once, with what `charge` returned.",
        "error swallowed": "{what}, and `buy_tokens` returned {said}. | Who bought has to hear that it failed.",
        "another error": "The card was declined with {failed}, and the caller was given {error}. "
        "| The caller knows the provider's errors. Let them go on as they are.",
        "given for nothing": "The card was declined, and `token_limit` is higher than before. | No money, no tokens.",
    }

    async def judge(self, attempt: Attempt) -> None:
        for tier in CENTS:
            await self._sells(attempt, tier)
        await self._is_overtaken(attempt)
        await self._waits_for_another(attempt)
        await self._sells_two_at_once(attempt)
        await self._is_overtaken_again_and_again(attempt)
        await self._is_refused(attempt)
        await self._loses_its_user(attempt)
        await self._is_cancelled(attempt)
        await self._is_declined(attempt)
        sale = await new_sale(attempt, "pro")
        await expect_errors_to_rise(attempt, call=lambda: self._call(attempt, sale))

    async def _sells(self, attempt: Attempt, tier: str) -> None:
        """Twice the same, one after the other."""
        sale = await new_sale(attempt, tier)
        others = await other_rows(attempt, "users", "id", sale.user_id)
        for what in ("with nobody in the way", "like the one before, a moment later"):
            before = await limit_of(attempt, sale.user_id)
            sale.till.charges.clear()
            sale.till.seen = None
            said = await self._call(attempt, sale)
            attempt.expect(sale.till.seen in (before, None), "before paid")
            await self._look_at(attempt, sale, said, before, what)
        attempt.expect(await other_rows(attempt, "users", "id", sale.user_id) == others, "others changed")

    async def _look_at(self, attempt: Attempt, sale: Sale, said: Any, before: int, what: str) -> None:
        """It came to its end without an error, while nobody else wrote."""
        charges, after = sale.till.charges, await limit_of(attempt, sale.user_id)
        attempt.expect(len(charges) == 1, "not once", what=what, count=len(charges))
        right = (charges[0].email, charges[0].cents) == (sale.email, sale.cents)
        paid = {"tier": sale.tier, "cents": charges[0].cents, "thousands": sale.thousands}
        attempt.expect(right, "wrong payment", **paid)
        attempt.expect(not sale.till.refunds or after == before, "refunded")
        attempt.expect(after == before + sale.tokens, "not stored", before=before, after=after)
        attempt.expect(said == charges[0].receipt, "wrong return", said=article(said))

    async def _is_overtaken(self, attempt: Attempt) -> None:
        """Once, while the card is charged; the row is locked where it could not be."""
        sale = await new_sale(attempt)
        before = await limit_of(attempt, sale.user_id)
        with Intruder(attempt, times=1) as other:
            overtaking = Overtaking(other, sale.user_id)
            sale.till.meanwhile = overtaking.strike
            with listening(attempt, "before_cursor_execute", overtaking.at_a_statement):
                said, error = await self._outcome(attempt, sale)
        await self._survives_one(attempt, sale, said, error, before, MORE * other.changes)

    async def _waits_for_another(self, attempt: Attempt) -> None:
        """Another process has changed the row and commits when the call stands at it."""
        sale = await new_sale(attempt)
        before = await limit_of(attempt, sale.user_id)
        change = "UPDATE users SET token_limit = token_limit + :more WHERE id = :id"
        values = {"more": MORE, "id": sale.user_id}
        said, error = await while_another_writes(attempt, change, values, lambda: self._outcome(attempt, sale))
        await self._survives_one(attempt, sale, said, error, before, MORE)

    async def _survives_one(
        self, attempt: Attempt, sale: Sale, said: Any, error: Wrong | None, before: int, more: int
    ) -> None:
        """Nothing is lost where another process added ``more`` tokens meanwhile."""
        attempt.expect(len(sale.till.charges) <= 1, "charged twice", count=len(sale.till.charges))
        if error is not None:
            raise attempt.wrong("gave up", error=kind_of(error.__cause__)) from error
        after = await limit_of(attempt, sale.user_id)
        attempt.expect(not more or after != before + sale.tokens, "lost update", more=more)
        await self._look_at(attempt, sale, said, before + more, "while another process changed the user")

    async def _sells_two_at_once(self, attempt: Attempt) -> None:
        """The second purchase begins while the card is charged for the first, and goes as far as it can."""
        sale = await new_sale(attempt)
        before = await limit_of(attempt, sale.user_id)
        calls: list[asyncio.Future[Any]] = []

        async def begin() -> None:
            if len(calls) == 1:
                calls.append(asyncio.ensure_future(self._answer(attempt, sale)))
                await until_blocked(attempt, calls[1], 1)

        async def both() -> list[Any]:
            calls.append(asyncio.ensure_future(self._answer(attempt, sale)))
            await asyncio.wait(calls[:1])
            await asyncio.wait(calls)
            return [call.result() for call in calls]

        both.__name__ = self.answer  # the name that a message gives
        sale.till.under_way = begin
        receipts = await attempt.call(function=both)
        after, charges = await limit_of(attempt, sale.user_id), sale.till.charges
        right = len(charges) == 2 and after == before + 2 * sale.tokens
        attempt.expect(right, "two at once", count=len(charges), before=before, after=after)
        paid = sorted(charge.receipt for charge in charges)
        attempt.expect(sorted(map(str, receipts)) == paid, "wrong return", said=article(receipts[0]))

    async def _is_overtaken_again_and_again(self, attempt: Attempt) -> None:
        sale = await new_sale(attempt)
        before = await limit_of(attempt, sale.user_id)
        with Intruder(attempt, times=PERSISTENT, seconds=1.0) as other:
            overtaking = Overtaking(other, sale.user_id)
            sale.till.meanwhile = overtaking.strike
            with listening(attempt, "before_cursor_execute", overtaking.at_a_statement):
                said, error = await self._outcome(attempt, sale)
        before += MORE * other.changes
        attempt.expect(len(sale.till.charges) <= 1, "charged twice", count=len(sale.till.charges))
        if await limit_of(attempt, sale.user_id) != before:
            if error is not None:
                raise error
            await self._look_at(attempt, sale, said, before, "while another process changed the user")
            return
        did = f"raised {kind_of(error.__cause__)}" if error else f"returned {article(said)}"
        self._gives_back(attempt, sale, "paid for nothing", times=other.changes, did=did, cents=sale.cents)
        what = f"Another process changed the user {other.changes} times in a row"
        attempt.expect(error is not None, "error swallowed", what=what, said=article(said))

    async def _is_refused(self, attempt: Attempt) -> None:
        """The new limit is more than the column takes."""
        sale = await new_sale(attempt, limit=LARGEST - randbelow(500))
        said, error = await self._outcome(attempt, sale)
        did = f"raised {kind_of(error.__cause__)}" if error else f"returned {article(said)}"
        self._gives_back(attempt, sale, "not refunded", did=did)
        what = "The database refused the new limit"
        attempt.expect(error is not None, "error swallowed", what=what, said=article(said))

    async def _loses_its_user(self, attempt: Attempt) -> None:
        """Another process deletes the user while the card is charged; a lock on the row keeps it out."""
        sale, deleted = await new_sale(attempt), False
        before = await limit_of(attempt, sale.user_id)
        with Intruder(attempt) as other:

            def delete() -> None:
                nonlocal deleted
                deleted = deleted or other.delete_if_free("users", sale.user_id)

            sale.till.meanwhile = delete
            said, error = await self._outcome(attempt, sale)
        if not deleted:
            if error is not None:
                raise error
            await self._look_at(attempt, sale, said, before, "while another process wanted to delete the user")
            return
        did = f"raised {kind_of(error.__cause__)}" if error else f"returned {article(said)}"
        self._gives_back(attempt, sale, "user gone", did=did)
        what = "The user was deleted while the card was charged"
        attempt.expect(error is not None, "error swallowed", what=what, said=article(said))

    async def _is_cancelled(self, attempt: Attempt) -> None:
        """At the first statement after the payment. Afterwards the user has the tokens or the money.

        Or both: an ``async with sessions.begin()`` that is cancelled at its end raises at once, and SQLAlchemy goes on
        committing in a task of its own. Who gives the money back then cannot know that.
        """
        sale = await new_sale(attempt)
        before = await limit_of(attempt, sale.user_id)
        calls: list[asyncio.Future[Any]] = []
        cancelled = False

        async def scene() -> None:
            calls.append(asyncio.ensure_future(self._answer(attempt, sale)))
            await asyncio.gather(*calls, return_exceptions=True)

        def cancel(*_: Any) -> None:
            nonlocal cancelled
            if sale.till.charges and not cancelled:
                cancelled = calls[0].cancel()

        scene.__name__ = self.answer  # the name that a message gives
        with listening(attempt, "before_cursor_execute", cancel):
            await attempt.call(function=scene)
        await attempt.tasks_over()
        if await limit_of(attempt, sale.user_id) == before:
            self._gives_back(attempt, sale, "cancelled")
            what, quiet = "The request was cancelled after the payment", not calls[0].cancelled()
            silent = quiet and calls[0].exception() is None
            attempt.expect(not silent, "error swallowed", what=what, said=article(silent and calls[0].result()))

    def _gives_back(self, attempt: Attempt, sale: Sale, mistake: str, **numbers: object) -> None:
        paid = [charge.receipt for charge in sale.till.charges]
        attempt.expect(bool(sale.till.refunds) or not paid, mistake, **numbers)
        attempt.expect(sale.till.refunds == paid, "refunded twice", count=len(sale.till.refunds))

    async def _is_declined(self, attempt: Attempt) -> None:
        sale = await new_sale(attempt)
        before = await limit_of(attempt, sale.user_id)
        sale.till.declines = True
        said, error = await self._outcome(attempt, sale)
        attempt.expect(await limit_of(attempt, sale.user_id) == before, "given for nothing")
        what = "The card was declined"
        if error is None:
            raise attempt.wrong("error swallowed", what=what, said=article(said))
        own = isinstance(error.__cause__, CardDeclined)
        attempt.expect(own, "another error", failed=CardDeclined.__name__, error=kind_of(error.__cause__))

    async def _outcome(self, attempt: Attempt, sale: Sale) -> tuple[Any, Wrong | None]:
        """What it returned, or what it raised."""
        try:
            return await self._call(attempt, sale), None
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            return None, wrong

    async def _call(self, attempt: Attempt, sale: Sale) -> Any:
        return await attempt.call(_serializable(attempt), sale.till, sale.user_id, sale.thousands)

    async def _answer(self, attempt: Attempt, sale: Sale) -> Any:
        """The same, where several calls are under way."""
        answered = attempt.answer(_serializable(attempt), sale.till, sale.user_id, sale.thousands)
        return await answered if inspect.isawaitable(answered) else answered


def _serializable(attempt: Attempt) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(attempt.engine.execution_options(isolation_level="SERIALIZABLE"))
