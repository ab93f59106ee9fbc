"""Limits on tokens: what a call may cost is reserved before it, and what it did cost is settled after it.

>>> async with sessions.begin() as session:
...     reservation = await reserve(session, user.id, 3_000)
>>> answer = await ask_model(prompt)  # no session, no connection
>>> async with sessions.begin() as session:
...     await settle(session, reservation, answer.usage.total_tokens)

Reserved tokens count as used, so however many ask at once, together they stay below the limit. A reservation is a job
for later: "give these tokens back". Who settles deletes the job; where the process has died, it falls due. So one
delete decides, once, what becomes of the tokens, and no other table is needed.

All of it locks the user's row first and the reservation second. Two that lock in one order cannot wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.errors import CourseError
from course_lib.models import Job, User
from course_lib.repositories.generic import NotFound

KIND = "give_back_tokens"
"""Of the jobs that are reservations."""

LEASE = timedelta(minutes=15)
"""After so long a reservation is taken for a dead process's. A call that takes longer is charged all the same."""

MOST = 2**31 - 1
"""Of PostgreSQL's integer."""

_TOKENS = Job.payload["tokens"].as_integer()


class LimitReached(Exception):
    """The user has not so many tokens left."""

    def __init__(self, wanted: int, left: int) -> None:
        super().__init__(f"{wanted} tokens are wanted, and {left} are left")
        self.wanted, self.left = wanted, left


@dataclass(frozen=True)
class Reservation:
    """So many of the user's tokens are set aside."""

    id: UUID
    user_id: UUID
    tokens: int


async def reserve(session: AsyncSession, user_id: UUID, tokens: int) -> Reservation:
    """Set ``tokens`` aside, first giving back what dead processes left reserved.

    Commit it before the call: until then nobody else sees it, and everybody else waits.

    Raises:
        LimitReached: fewer are left.
        NotFound: there is no such user.
        CourseError: it is no number of tokens.
    """
    if not 0 < tokens <= MOST:
        raise CourseError(f"{tokens} tokens cannot be reserved.", "From 1 to 2147483647 can.")
    await give_back_overdue(session, user_id)
    fits = User.tokens_used <= User.token_limit - tokens
    spent = update(User).where(User.id == user_id, fits).values(tokens_used=User.tokens_used + tokens)
    if await session.scalar(spent.returning(User.id)) is None:
        raise LimitReached(tokens, await tokens_left(session, user_id))
    job = insert(Job).values(
        kind=KIND,
        payload={"user_id": str(user_id), "tokens": tokens},
        run_after=func.now() + LEASE,
    )
    reserved = await session.scalar(job.returning(Job.id))
    assert reserved is not None
    return Reservation(reserved, user_id, tokens)


async def check_tokens(session: AsyncSession, user_id: UUID, tokens: int) -> None:
    """Whether ``reserve`` would refuse, asked before what leads to it is paid for. Nothing is set aside.

    Only where the tokens are too few is anything locked: what dead processes left reserved is given back first.

    Raises:
        LimitReached: fewer are left.
        NotFound: there is no such user.
    """
    if await tokens_left(session, user_id) >= tokens:
        return
    await give_back_overdue(session, user_id)
    if (left := await tokens_left(session, user_id)) < tokens:
        raise LimitReached(tokens, left)


async def settle(session: AsyncSession, reservation: Reservation, used: int) -> None:
    """Charge what the call did cost in place of what was reserved. Once: a second time would charge again.

    What it cost above the reservation is charged up to the limit: the answer is there, and is not thrown away for the
    rest of its price. A call that took so long that its reservation was given back is charged in the same way.
    """
    await lock_account(session, reservation.user_id)
    held = await _take(session, reservation.id)
    await _charge(session, reservation.user_id, used - (held or 0))


async def release(session: AsyncSession, reservation: Reservation) -> None:
    """Give all of it back: the call failed. Doing it again changes nothing."""
    await give_back(session, reservation.user_id, reservation.id)


async def give_back(session: AsyncSession, user_id: UUID, job_id: UUID) -> None:
    """``release`` for a worker, which has a job of ``KIND`` that is due, and its ``payload["user_id"]``."""
    await lock_account(session, user_id)
    if (held := await _take(session, job_id)) is not None:
        await _charge(session, user_id, -held)


async def give_back_overdue(session: AsyncSession, user_id: UUID) -> int:
    """Give back what was reserved for the user longer ago than ``LEASE``. Returns how many tokens."""
    await lock_account(session, user_id)
    due = delete(Job).where(
        Job.kind == KIND,
        Job.status == "queued",  # the index of what is due has these only
        Job.run_after <= func.now(),
        Job.payload["user_id"].astext == str(user_id),
    )
    tokens: int = sum(await session.scalars(due.returning(_TOKENS)))
    if tokens:
        await _charge(session, user_id, -tokens)
    return tokens


async def forget_reservations(session: AsyncSession, user_id: UUID) -> None:
    """Delete what is reserved for a user whose account was deleted: it names the user, and is nobody's to give back."""
    await session.execute(delete(Job).where(Job.kind == KIND, Job.payload["user_id"].astext == str(user_id)))


async def tokens_left(session: AsyncSession, user_id: UUID) -> int:
    """What the user has neither used nor reserved.

    Raises:
        NotFound: there is no such user.
    """
    left: int | None = await session.scalar(select(User.token_limit - User.tokens_used).where(User.id == user_id))
    if left is None:
        raise NotFound(User, user_id)
    return left


async def lock_account(session: AsyncSession, user_id: UUID) -> bool:
    """Let no other transaction change the user's tokens, or delete the user, until this one ends.

    False when there is no such user.
    """
    account = select(User.id).where(User.id == user_id).with_for_update(key_share=True)
    return await session.scalar(account) is not None


async def _take(session: AsyncSession, job_id: UUID) -> int | None:
    """Delete the reservation. Its tokens; None when it is gone already."""
    job = delete(Job).where(Job.id == job_id, Job.kind == KIND)
    return await session.scalar(job.returning(_TOKENS))


async def _charge(session: AsyncSession, user_id: UUID, tokens: int) -> None:
    """Count ``tokens`` as used, a negative number as given back: never below 0, never above the limit."""
    within = func.greatest(0, func.least(User.token_limit, User.tokens_used + tokens))
    await session.execute(update(User).where(User.id == user_id).values(tokens_used=within))
