"""A payment provider on stage, and a user who buys."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from secrets import choice, randbelow, token_hex
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.races import Intruder
from course_lib.judging.staging import add_user, new_email

CENTS = {"free": 3, "pro": 2, "team": 1}
MORE = 7  # tokens that another process adds to the limit each time
WRITES = re.compile(r"\bUPDATE\s+(ONLY\s+)?(public\.)?\"?users\b", re.IGNORECASE)


class CardDeclined(RuntimeError):
    """The bank does not pay."""


@dataclass(frozen=True)
class Charge:
    """A payment that was taken."""

    email: Any
    cents: Any
    receipt: str


class Till:
    """The payment provider: knows a payment by its key, and takes it once.

    Attributes:
        charges: what was taken, in its order.
        refunds: the receipts whose money was given back.
        meanwhile: what another process does while a payment is under way.
        under_way: what else happens then.
        seen: the limit that everybody saw when the last payment was taken.
    """

    def __init__(self, attempt: Attempt, user_id: UUID) -> None:
        self.charges: list[Charge] = []
        self.refunds: list[Any] = []
        self.declines = False
        self.seen: int | None = None
        self.meanwhile: Callable[[], object] | None = None
        self.under_way: Callable[[], Awaitable[None]] | None = None
        self._known: dict[Any, str] = {}
        self._attempt, self._user_id = attempt, user_id

    async def charge(self, email: str, cents: int, key: str) -> str:
        """Take the money; with a key that is known, say again what was said the first time."""
        if self.declines:
            raise CardDeclined("the bank does not pay")
        if key not in self._known:
            self.seen = await limit_of(self._attempt, self._user_id)
            self._known[key] = f"receipt-{token_hex(6)}"
            self.charges.append(Charge(email, cents, self._known[key]))
        if self.under_way:
            await self.under_way()
        if self.meanwhile:
            self.meanwhile()
        return self._known[key]

    async def refund(self, receipt: str) -> None:
        """Give the money back."""
        self.refunds.append(receipt)


@dataclass
class Overtaking:
    """Another process that raises the user's limit, unless a lock keeps it out."""

    other: Intruder
    user_id: UUID

    def strike(self) -> None:
        """Raise it once more."""
        self.other.change_if_free("users", self.user_id, "token_limit = token_limit + %s", MORE)

    def at_a_statement(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        if WRITES.search(statement):
            self.strike()


@dataclass
class Sale:
    """A user who buys, and the provider that is asked for the money."""

    user_id: UUID
    email: str
    tier: str
    thousands: int
    till: Till = field(repr=False)

    @property
    def tokens(self) -> int:
        return 1000 * self.thousands

    @property
    def cents(self) -> int:
        return CENTS[self.tier] * self.thousands


async def new_sale(attempt: Attempt, tier: str = "", limit: int = 0) -> Sale:
    """A user of some tier with some limit, unless they are given, and what is bought."""
    email = new_email()
    user_id = await add_user(attempt, email, limit or 10_000 + randbelow(5_000))
    tier = tier or choice(list(CENTS))
    await attempt.sql("UPDATE users SET tier = :tier WHERE id = :id", tier=tier, id=user_id)
    return Sale(user_id, email, tier, 2 + randbelow(90), Till(attempt, user_id))


async def limit_of(attempt: Attempt, user_id: UUID) -> int:
    """The user's ``token_limit`` as everybody sees it now."""
    limit: int = await attempt.value("SELECT token_limit FROM users WHERE id = :id", id=user_id)
    return limit
