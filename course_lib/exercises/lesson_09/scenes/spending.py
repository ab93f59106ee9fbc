"""Booking a price that is asked for between reading and writing: three ways that lose nothing, and four that do."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import randbelow
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.judging.testing.plugin import CaseHere
from course_lib.models import User

Sessions = async_sessionmaker[AsyncSession]
Price = Callable[[int], Awaitable[int]]
Spend = Callable[[Sessions, UUID, Price], Awaitable[int]]

HOW = {
    "no lock": "reads without a lock",
    "lock after reading": "locks the row after it has read it",
    "lock let go": "lets go of the lock before it asks for the price",
    "gave up": "checks when it writes, and gives up where the row has changed",
}
"""What each mutant does, in words."""
LATEST = 0.1
"""Seconds until a call is at its row, as the statement says."""
USED = select(User.tokens_used)


async def _for_update(sessions: Sessions, user_id: UUID, price: Price) -> int:
    async with sessions.begin() as session:
        used = (await session.scalars(USED.where(User.id == user_id).with_for_update())).one()
        value = used + await price(used)
        await session.execute(update(User).where(User.id == user_id).values(tokens_used=value))
    return value


async def _optimistic(sessions: Sessions, user_id: UUID, price: Price) -> int:
    while True:
        async with sessions.begin() as session:
            used = (await session.scalars(USED.where(User.id == user_id))).one()
        value = used + await price(used)
        if await _swapped(sessions, user_id, used, value):
            return value


async def _swapped(sessions: Sessions, user_id: UUID, before: int, after: int) -> bool:
    async with sessions.begin() as session:
        unchanged = update(User).where(User.id == user_id, User.tokens_used == before)
        return await session.scalar(unchanged.values(tokens_used=after).returning(User.id)) is not None


async def _repeatable_read(sessions: Sessions, user_id: UUID, price: Price) -> int:
    while True:
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                used = (await session.scalars(USED.where(User.id == user_id))).one()
                value = used + await price(used)
                await session.execute(update(User).where(User.id == user_id).values(tokens_used=value))
                await session.commit()
                return value
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "40001":
                raise


async def _no_lock(sessions: Sessions, user_id: UUID, price: Price) -> int:
    async with sessions.begin() as session:
        used = (await session.scalars(USED.where(User.id == user_id))).one()
        value = used + await price(used)
        await session.execute(update(User).where(User.id == user_id).values(tokens_used=value))
    return value


async def _lock_after_reading(sessions: Sessions, user_id: UUID, price: Price) -> int:
    async with sessions.begin() as session:
        user = await session.get_one(User, user_id)
        value = user.tokens_used + await price(user.tokens_used)
        await session.execute(select(User.id).where(User.id == user_id).with_for_update())
        user.tokens_used = value
    return value


async def _lock_let_go(sessions: Sessions, user_id: UUID, price: Price) -> int:
    async with sessions.begin() as session:
        used = (await session.scalars(USED.where(User.id == user_id).with_for_update())).one()
    value = used + await price(used)
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.id == user_id).values(tokens_used=value))
    return value


async def _gave_up(sessions: Sessions, user_id: UUID, price: Price) -> int:
    async with sessions.begin() as session:
        used = (await session.scalars(USED.where(User.id == user_id))).one()
    value = used + await price(used)
    await _swapped(sessions, user_id, used, value)
    return value


SPENDING: dict[str, Spend] = {
    "for update": _for_update, "optimistic": _optimistic, "repeatable read": _repeatable_read,
    "no lock": _no_lock, "lock after reading": _lock_after_reading, "lock let go": _lock_let_go, "gave up": _gave_up,
}  # fmt: skip
"""By the name of the case."""


@pytest_asyncio.fixture(loop_scope="session")
async def user_id(sessions: Sessions) -> UUID:
    """A user who has used some tokens."""
    user = User(email=f"{uuid4()}@example.org", name="Ada", tokens_used=1_000 + randbelow(1_000))
    async with sessions.begin() as session:
        session.add(user)
    return user.id


class Call:
    """One call of ``spend``, as far as it has come."""

    def __init__(self) -> None:
        self.reached, self.priced, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def asked(self, price: Price, used: int) -> int:
        self.reached.set()
        value = await price(used)
        self.priced.set()
        return value

    def end(self) -> None:
        for event in (self.reached, self.priced, self.ended):
            event.set()


async def _after(other: Call) -> None:
    """As late as the statement allows: after the other call, unless that one is kept in its price for long enough."""
    await other.reached.wait()
    with suppress(TimeoutError):
        await asyncio.wait_for(other.priced.wait(), LATEST)
    if other.priced.is_set():
        await other.ended.wait()


@pytest.fixture
def spend(_case: CaseHere) -> Spend:
    way, late = SPENDING[_case.name], itertools.cycle(_case.options.get("late", [0]))
    inside: list[Call] = []

    async def spend(sessions: Sessions, user_id: UUID, price: Price) -> int:
        """Book what ``price`` says of the tokens used so far; returns how many that are then."""
        others, call = list(inside), Call()
        inside.append(call)
        _case.note(inside=len(inside))
        start = time.monotonic()

        async def asked(used: int) -> int:
            if not call.reached.is_set():
                _case.note(reached=time.monotonic() - start)
            return await call.asked(price, used)

        try:
            await asyncio.sleep(next(late))
            if others and _case.options.get("follows"):
                await _after(others[0])
            return await way(sessions, user_id, asked)
        finally:
            inside.remove(call)
            call.end()

    return spend
