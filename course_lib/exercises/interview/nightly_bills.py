"""S6: an invoice that is written while the user's row is locked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from course_lib.judging.asking import NOT_AVAILABLE, together, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import article, kind_of, message_of
from course_lib.judging.races import kept_outside, sessions_of
from course_lib.judging.staging import add_user, new_email
from course_lib.judging.trouble import sqlstate_of

WAIT = "SET LOCAL lock_timeout = '40ms'"  # only who waits for a lock is timed, however slow the machine
BEGIN_CONVERSATION = "INSERT INTO conversations (user_id, title) VALUES (:id, 'At night')"
SPEND = "UPDATE users SET tokens_used = tokens_used + :count, updated_at = now() WHERE id = :id"
OTHERS = """
    SELECT md5(string_agg(u::text, '' ORDER BY id)) FROM users AS u
    WHERE id <> ALL (CAST(string_to_array(:ids, ',') AS uuid[]))
"""


class BillingDown(RuntimeError):
    """The provider of invoices did not take this one."""


@dataclass(frozen=True)
class Customer:
    """A user on stage, and how many tokens they have used that are on no invoice."""

    id: UUID
    email: str
    used: int


class Provider:
    """Takes invoices.

    Attributes:
        taken: the e-mail and the tokens of each invoice that it took.
        meanwhile: awaited while it works on the first one.
        refuses: the place of the invoice that it refuses, counted from 1; 0 for none.
        refused: the e-mail of that one.
    """

    def __init__(self, meanwhile: Callable[[str], Awaitable[None]] | None = None, refuses: int = 0) -> None:
        self.taken: list[tuple[Any, Any]] = []
        self.refused: Any = None
        self.begun = asyncio.Event()
        self._meanwhile, self._refuses = meanwhile, refuses
        self._asked = 0

    async def __call__(self, email: Any, tokens: Any) -> None:
        self._asked += 1
        if self._asked == self._refuses:
            self.refused = email
            raise BillingDown("the invoice was not taken")
        first = not self.begun.is_set()
        self.begun.set()
        if first and self._meanwhile:
            await self._meanwhile(email)
        self.taken.append((email, tokens))

    def of(self, customer: Customer) -> list[Any]:
        """What this customer was billed, by each invoice."""
        return [tokens for email, tokens in self.taken if email == customer.email]


class NightlyBills(Drill):
    """FOR UPDATE on a parent keeps out its children, and a commit at the end forgets what was done outside."""

    id = "S6"
    title = "Posting stalls at night"
    answer = "bill"
    minutes = 15
    points = 3
    level = "senior"
    topics: ClassVar = ("concurrency", "transactions", "operations")
    faults: ClassVar = ("stalled", "invoiced again")
    hints: ClassVar = (
        "Which lock does the INSERT of a row take on the row that its foreign key points to, and with which of the "
        "four row locks does it get along?",
        "The lock has a purpose: which two things would go wrong without it? A weaker one may serve both, since "
        "nobody here changes a key.",
        "`with_for_update(key_share=True)` is FOR NO KEY UPDATE. Then the other question: an invoice is outside of the "
        "transaction. What does a rollback take back when the third invoice of a run is refused?",
    )
    why = (
        "FOR UPDATE says: this row may go away, or get another key. So a new child, which needs the key to stay, waits "
        "(FOR KEY SHARE), and the invoice takes seconds. FOR NO KEY UPDATE is what an UPDATE of other columns takes: "
        "it keeps other bills and other spending out, and lets children in. And an invoice cannot be rolled back, so "
        "what is known of it is committed before the next one is sent."
    )
    follow_up = (
        "The process is killed between the invoice and its COMMIT. What must the provider offer, so that the next run "
        "is safe?"
    )
    mistakes: ClassVar = {
        "stalled": "While the invoice of one user was under way, {who} began a conversation, and the INSERT had to "
        "wait for a lock. | That is what was reported. Which lock do new rows need on the row of their user?",
        "others wait": "While the invoice of one user was under way, a user that is not being billed spent tokens, "
        "and had to wait for a lock. | What is locked: a row, or more than that?",
        "invoiced again": "A run was stopped by an invoice that the provider refused, and the next run sent {count} "
        "invoice(s) again that the provider had taken. | What became of the rows of users who had been billed before?",
        "invoiced twice": "Two runs at the same moment sent {count} invoices for the same tokens of a user. "
        "| What keeps the second from reading what the first is about to bill?",
        "failed at once": "Two runs came at the same moment, and one of them raised {error}. "
        "| Who comes second waits, or leaves the user to the other run.",
        "in this process": "Of two runs at the same moment, the second waited for something that is no lock of the "
        "database. | The job runs on two machines, and Python's locks are known to one.",
        "wrong invoice": "A user had used {used} tokens, and the provider was sent {count} invoice(s): {sent}. "
        "| One invoice, of what stood in `tokens_used`.",
        "unknown address": "An invoice was sent to {email!r}, which is the e-mail of nobody who is billed. "
        "| `send_invoice(email, tokens)`, with the user's own.",
        "not invoiced": "Of {count} users with tokens to bill, {missing} got no invoice. | One for each of them.",
        "empty invoice": "An invoice was sent to a user who had used no tokens. | There is nothing to bill.",
        "tokens lost": "A user spent {spent} tokens while the invoice was under way, and {lost} tokens are neither on "
        "an invoice nor in `tokens_used`. | What is subtracted: what was billed, or whatever is there by then?",
        "tokens kept": "{kept} tokens are on an invoice and in `tokens_used`, too. "
        "| What was billed is taken off, whatever has been spent meanwhile.",
        "refused and gone": "The provider refused an invoice, and {gone} of its {used} tokens are no longer in "
        "`tokens_used`. | Without an invoice they are still to be billed.",
        "error swallowed": "The provider refused an invoice, and `bill` returned {said}. "
        "| The caller has to know that not all is billed.",
        "another error": "The provider refused an invoice with {failed}, and the caller was given {error}. "
        "| Let it go on as it is.",
        "wrong count": "`bill` returned {said}, and {billed} tokens were invoiced. "
        "| How many it has billed, as an int.",
        "strangers": "Users who were not in the list have changed. | Only those whose ids are given.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await self._one_night(attempt)
        await self._refused(attempt)
        await self._two_runs(attempt)

    async def _one_night(self, attempt: Attempt) -> None:
        first, nothing, last = [await _add(attempt, used) for used in (_some(), 0, _some())]
        billed, stranger = [first, last], await _add(attempt, _some())
        listed = [first, nothing, last]
        others = await _others(attempt, *listed, stranger)
        spent, seen = _some(), _Seen()
        provider = Provider(partial(seen.look, attempt, billed, stranger, spent))
        said = await self._bill(attempt, provider, *listed)
        await asyncio.gather(*seen.spending)
        attempt.expect(not seen.stalled, "stalled", who=seen.stalled)
        attempt.expect(not seen.others_wait, "others wait")
        attempt.expect(not provider.of(nothing), "empty invoice")
        self._look_at_invoices(attempt, provider, billed)
        rest = await _tokens(attempt, *listed)
        for customer in billed:
            left = rest[customer.id] - spent * (customer is seen.customer)
            attempt.expect(left >= 0, "tokens lost", spent=spent, lost=-left)
            attempt.expect(left <= 0, "tokens kept", kept=left)
        right = type(said) is int and said == first.used + last.used
        attempt.expect(right, "wrong count", said=said, billed=first.used + last.used)
        attempt.expect(await _others(attempt, *listed, stranger) == others, "strangers")

    def _look_at_invoices(self, attempt: Attempt, provider: Provider, billed: Sequence[Customer]) -> None:
        known = {customer.email for customer in billed}
        strange = next((email for email, _ in provider.taken if email not in known), None)
        attempt.expect(strange is None, "unknown address", email=strange)
        missing = sum(not provider.of(customer) for customer in billed)
        attempt.expect(missing == 0, "not invoiced", count=len(billed), missing=missing)
        for customer in billed:
            invoices = provider.of(customer)
            numbers = {"used": customer.used, "count": len(invoices), "sent": invoices}
            attempt.expect(invoices == [customer.used], "wrong invoice", **numbers)

    async def _refused(self, attempt: Attempt) -> None:
        customers = [await _add(attempt, _some()) for _ in range(3)]
        provider, said, error = Provider(refuses=2), None, None
        try:
            said = await self._bill(attempt, provider, *customers)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            error = wrong.__cause__
        attempt.expect(error is not None, "error swallowed", said=article(said))
        told = isinstance(error, BillingDown) or (isinstance(error, ExceptionGroup) and error.subgroup(BillingDown))
        attempt.expect(bool(told), "another error", failed=BillingDown.__name__, error=article(error))
        rest = await _tokens(attempt, *customers)
        for customer in customers:
            if customer.email == provider.refused:
                gone = customer.used - rest[customer.id]
                attempt.expect(gone == 0, "refused and gone", used=customer.used, gone=gone)
        await self._bill(attempt, provider, *customers)
        again = sum(len(provider.of(customer)) > 1 for customer in customers)
        attempt.expect(again == 0, "invoiced again", count=again)
        self._look_at_invoices(attempt, provider, customers)

    async def _two_runs(self, attempt: Attempt) -> None:
        customer, gate = await _add(attempt, _some()), asyncio.Event()
        outside = False

        async def wait(_: Any) -> None:
            await gate.wait()

        provider = Provider(wait)

        async def one() -> Any:
            answered = attempt.answer(sessions_of(attempt), provider, [customer.id])
            return await answered if inspect.isawaitable(answered) else answered

        async def both() -> list[Any]:
            nonlocal outside
            first = asyncio.ensure_future(one())
            await first_of(first, provider.begun)
            second = asyncio.ensure_future(one())
            if not await until_blocked(attempt, second, 1):
                outside = kept_outside(attempt, second)
            gate.set()
            return [*await asyncio.gather(first, second, return_exceptions=True)]

        outcomes = (await together(attempt, [both]))[0]
        invoices = provider.of(customer)
        attempt.expect(not outside, "in this process")
        attempt.expect(len(invoices) <= 1, "invoiced twice", count=len(invoices))
        error = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        attempt.expect(error is None, "failed at once", error=f"{kind_of(error)}: {message_of(error)}" if error else "")
        self._look_at_invoices(attempt, provider, [customer])
        left = (await _tokens(attempt, customer))[customer.id]
        attempt.expect(left == 0, "tokens kept", kept=left)

    async def _bill(self, attempt: Attempt, provider: Provider, *customers: Customer) -> Any:
        return await attempt.call(sessions_of(attempt), provider, [customer.id for customer in customers])


@dataclass
class _Seen:
    """What others could do while the first invoice was under way."""

    customer: Customer | None = None
    stalled: str = ""
    others_wait: bool = False
    spending: list[asyncio.Future[Any]] = field(default_factory=list)

    async def look(self, attempt: Attempt, billed: Sequence[Customer], stranger: Customer, spent: int, to: Any) -> None:
        self.customer = next((customer for customer in billed if customer.email == to), None)
        if self.customer is None:
            return
        other = next(customer for customer in billed if customer is not self.customer)
        for who, customer in (("the same user", self.customer), ("another user of the list", other)):
            if not await _is_free(attempt, BEGIN_CONVERSATION, id=customer.id):
                self.stalled = self.stalled or who
        self.others_wait = not await _is_free(attempt, SPEND, id=stranger.id, count=1)
        self.spending.append(asyncio.ensure_future(_write(attempt, SPEND, id=self.customer.id, count=spent)))
        await until_blocked(attempt, self.spending[0], 1)


def _some() -> int:
    return 100 + randbelow(900)


async def _add(attempt: Attempt, used: int) -> Customer:
    email = new_email()
    return Customer(await add_user(attempt, email, used=used), email, used)


async def _write(attempt: Attempt, *statements: str, **values: Any) -> None:
    async with attempt.judge_session() as session:
        for statement in statements:
            await session.execute(text(statement), values if ":id" in statement else {})
        await session.commit()


async def _is_free(attempt: Attempt, statement: str, **values: Any) -> bool:
    """Run it as somebody else, and say whether no lock stood in the way."""
    try:
        await _write(attempt, WAIT, statement, **values)
    except DBAPIError as error:
        if sqlstate_of(error) != NOT_AVAILABLE:
            raise
        return False
    return True


async def _tokens(attempt: Attempt, *customers: Customer) -> dict[UUID, int]:
    return {c.id: await attempt.value("SELECT tokens_used FROM users WHERE id = :id", id=c.id) for c in customers}


async def _others(attempt: Attempt, *customers: Customer) -> str:
    """A fingerprint of the users that are neither these nor spend while somebody looks."""
    ids = ",".join(str(customer.id) for customer in customers)
    fingerprint: str = await attempt.value(OTHERS, ids=ids)
    return fingerprint
