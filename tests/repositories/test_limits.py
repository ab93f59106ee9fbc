"""Limits: nobody gets above them, a failed call gives back, and so does a dead process, once."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.errors import CourseError
from course_lib.models import Job, User
from course_lib.repositories import NotFound
from course_lib.repositories import limits as limiting
from course_lib.repositories.limits import (
    KIND,
    LEASE,
    LimitReached,
    Reservation,
    give_back,
    give_back_overdue,
    release,
    reserve,
    settle,
    tokens_left,
)

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def pia(sessions: Sessions) -> User:
    """A user with a limit of 1,000 tokens, who has used none."""
    async with sessions.begin() as session:
        session.add(user := User(email="pia@example.org", name="Pia Holm", token_limit=1000))
    return user


async def reserved(sessions: Sessions, user: User, tokens: int) -> Reservation:
    async with sessions.begin() as session:
        return await reserve(session, user.id, tokens)


async def account(sessions: Sessions, user: User) -> tuple[int, int]:
    """Tokens used, and reservations."""
    async with sessions() as session:
        used = await session.scalar(select(User.tokens_used).where(User.id == user.id))
        mine = select(func.count()).where(Job.kind == KIND, Job.payload["user_id"].astext == str(user.id))
        return used or 0, await session.scalar(mine) or 0


async def let_die(sessions: Sessions, *reservations: Reservation) -> None:
    """As if the process that made them had been dead for longer than the lease."""
    async with sessions.begin() as session:
        due = update(Job).where(Job.id.in_([reservation.id for reservation in reservations]))
        await session.execute(due.values(run_after=func.now() - timedelta(seconds=1)))


async def test_fifty_at_once_get_what_is_there_and_no_more(sessions: Sessions, pia: User) -> None:
    answers = await asyncio.gather(*(reserved(sessions, pia, 90) for _ in range(50)), return_exceptions=True)
    granted = [answer for answer in answers if isinstance(answer, Reservation)]
    refused = [answer for answer in answers if isinstance(answer, LimitReached)]
    assert (len(granted), len(refused)) == (11, 39)
    assert {(error.wanted, error.left) for error in refused} == {(90, 10)}
    assert await account(sessions, pia) == (990, 11)
    assert len({reservation.id for reservation in granted}) == 11


async def test_fifty_calls_that_end_in_every_way_leave_what_they_cost(sessions: Sessions, pia: User) -> None:
    costs: list[int] = []
    granted = itertools.count()

    async def call(number: int) -> None:
        try:
            reservation = await reserved(sessions, pia, 100)
        except LimitReached:
            return
        async with sessions() as session:
            assert await tokens_left(session, pia.id) >= 0
        async with sessions.begin() as session:
            if next(granted) % 2:
                await release(session, reservation)
            else:
                costs.append(number % 7)
                await settle(session, reservation, number % 7)

    await asyncio.gather(*(call(number) for number in range(50)))
    assert len(costs) >= 5, "the limit has room for ten, and every other of them is settled"
    assert await account(sessions, pia) == (sum(costs), 0)


@pytest.mark.parametrize(("used", "counted"), [(0, 0), (40, 40), (100, 100), (250, 250), (1300, 1000)])
async def test_a_call_costs_what_it_used_even_above_its_reservation_and_never_above_the_limit(
    used: int, counted: int, sessions: Sessions, pia: User
) -> None:
    reservation = await reserved(sessions, pia, 100)
    async with sessions.begin() as session:
        await settle(session, reservation, used)
    assert await account(sessions, pia) == (counted, 0)


async def test_releasing_twice_gives_back_once(sessions: Sessions, pia: User) -> None:
    kept, failed = await reserved(sessions, pia, 100), await reserved(sessions, pia, 50)
    for _ in range(2):
        async with sessions.begin() as session:
            await release(session, failed)
    assert await account(sessions, pia) == (kept.tokens, 1)


async def test_what_a_dead_process_reserved_is_given_back_when_the_user_wants_it(sessions: Sessions, pia: User) -> None:
    dead, alive = await reserved(sessions, pia, 600), await reserved(sessions, pia, 300)
    with pytest.raises(LimitReached):
        await reserved(sessions, pia, 500)
    await let_die(sessions, dead)
    await reserved(sessions, pia, 500)
    assert await account(sessions, pia) == (alive.tokens + 500, 2)


async def test_fifty_who_find_the_same_dead_reservations_give_them_back_once(sessions: Sessions, pia: User) -> None:
    dead = [await reserved(sessions, pia, 100) for _ in range(5)]
    await reserved(sessions, pia, 500)
    await let_die(sessions, *dead)
    answers = await asyncio.gather(*(reserved(sessions, pia, 50) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(answer, Reservation) for answer in answers) == 10
    assert await account(sessions, pia) == (1000, 11)


async def test_a_worker_and_a_call_that_was_only_slow_settle_it_once(sessions: Sessions, pia: User) -> None:
    slow = [await reserved(sessions, pia, 40) for _ in range(20)]
    await let_die(sessions, *slow)

    async def work(reservation: Reservation) -> None:
        async with sessions.begin() as session:
            await give_back(session, pia.id, reservation.id)

    async def finish(reservation: Reservation) -> None:
        async with sessions.begin() as session:
            await settle(session, reservation, 7)

    await asyncio.gather(*(step(reservation) for reservation in slow for step in (work, finish)))
    assert await account(sessions, pia) == (20 * 7, 0)


async def test_another_users_reservations_stay(sessions: Sessions, pia: User, user: User) -> None:
    before, _ = await account(sessions, user)
    await let_die(sessions, await reserved(sessions, user, 10))
    async with sessions.begin() as session:
        assert await give_back_overdue(session, pia.id) == 0
        session.add(Job(kind="embed", payload={"user_id": str(pia.id), "tokens": 5}, run_after=func.now()))
    async with sessions.begin() as session:
        assert await give_back_overdue(session, pia.id) == 0
    assert await account(sessions, user) == (before + 10, 1)


async def test_a_reservation_is_not_due_while_its_call_may_run(sessions: Sessions, pia: User) -> None:
    reservation = await reserved(sessions, pia, 10)
    async with sessions() as session:
        job = await session.get_one(Job, reservation.id)
        assert job.status == "queued" and job.run_after - job.created_at == LEASE


async def test_a_month_that_begins_anew_under_a_running_call_is_no_error(sessions: Sessions, pia: User) -> None:
    reservation = await reserved(sessions, pia, 100)
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.id == pia.id).values(tokens_used=0))
    async with sessions.begin() as session:
        await settle(session, reservation, 30)
    assert await account(sessions, pia) == (0, 0), "fewer than it used, and no failure that loses an answer"


async def test_nothing_is_reserved_by_a_transaction_that_is_rolled_back(sessions: Sessions, pia: User) -> None:
    async with sessions() as session:
        await reserve(session, pia.id, 100)
        await session.rollback()
    assert await account(sessions, pia) == (0, 0)


async def test_a_deleted_user_can_be_settled_and_leaves_no_reservation(sessions: Sessions, pia: User) -> None:
    first, second = await reserved(sessions, pia, 100), await reserved(sessions, pia, 100)
    async with sessions.begin() as session:
        await session.execute(delete(User).where(User.id == pia.id))
    async with sessions.begin() as session:
        await settle(session, first, 50)
        await give_back(session, pia.id, second.id)
    assert await account(sessions, pia) == (0, 0)
    with pytest.raises(NotFound):
        await reserved(sessions, pia, 1)


@pytest.mark.parametrize("tokens", [0, -1, 2**31, 2**70])
async def test_what_is_no_number_of_tokens_is_refused(tokens: int, sessions: Sessions, pia: User) -> None:
    with pytest.raises(CourseError, match="cannot be reserved"):
        await reserved(sessions, pia, tokens)


async def test_the_largest_number_is_refused_by_the_limit_and_not_by_an_overflow(sessions: Sessions, pia: User) -> None:
    await reserved(sessions, pia, 1)
    with pytest.raises(LimitReached) as caught:
        await reserved(sessions, pia, limiting.MOST)
    assert caught.value.left == 999
