"""Answers to 9.3, a race as a test: each function's body is a cell."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("9.3")


@ANSWERS.right
def a_barrier_that_may_break():
    async def test_race(sessions, spend, user_id):
        barrier = asyncio.Barrier(2)

        async def price(used):
            try:
                await asyncio.wait_for(barrier.wait(), 0.6)
            except (TimeoutError, asyncio.BrokenBarrierError):
                await barrier.abort()
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(spend(sessions, user_id, price), spend(sessions, user_id, price))
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 20


@ANSWERS.right
def just_a_long_sleep():
    class TestSpending:
        async def used(self, engine, user_id):
            async with engine.connect() as connection:
                return await connection.scalar(select(User.tokens_used).where(User.id == user_id))

        async def test_race(self, engine, sessions, spend, user_id):
            async def price(used):
                await asyncio.sleep(0.5)
                return 7

            before = await self.used(engine, user_id)
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(spend(sessions, user_id, price))
            if await self.used(engine, user_id) - before != 14:
                pytest.fail("an update was lost")

    async def test_race(engine, sessions, spend, user_id):
        await TestSpending().test_race(engine, sessions, spend, user_id)


@ANSWERS.right
def three_at_once():
    async def test_race(sessions, spend, user_id):
        arrived = 0
        everybody = asyncio.Event()

        async def price(used):
            nonlocal arrived
            arrived += 1
            if arrived >= 3:
                everybody.set()
            try:
                await asyncio.wait_for(everybody.wait(), 0.8)
            except TimeoutError:
                everybody.set()
            return 1

        async with sessions() as session:
            before = await session.scalar(select(User.tokens_used).where(User.id == user_id))
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(3)))
        async with sessions() as session:
            after = await session.scalar(select(User.tokens_used).where(User.id == user_id))
        assert after - before == 3, f"{after - before} of 3"


@ANSWERS.right
def another_call_from_within_price():
    async def test_race(sessions, spend, user_id):
        second = None

        async def nothing_more(used):
            return 5

        async def price(used):
            nonlocal second
            if second is None:
                second = asyncio.ensure_future(spend(sessions, user_id, nothing_more))
                await asyncio.wait({second}, timeout=0.6)
            return 3

        async with sessions() as session:
            before = await session.scalar(select(User.tokens_used).where(User.id == user_id))
        await spend(sessions, user_id, price)
        await second
        async with sessions() as session:
            assert await session.scalar(select(User.tokens_used).where(User.id == user_id)) == before + 8


@ANSWERS.right
def another_session_in_between():
    async def test_race(engine, sessions, spend, user_id):
        booked = 0

        async def price(used):
            nonlocal booked
            async with engine.begin() as connection:
                await connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
                try:
                    async with connection.begin_nested():
                        await connection.execute(
                            text("UPDATE users SET tokens_used = tokens_used + 7 WHERE id = :id AND :n = 0"),
                            {"id": user_id, "n": booked},
                        )
                    booked = booked or 7
                except Exception as error:  # the row is locked
                    print(type(error).__name__)
            return 1

        async with AsyncSession(engine) as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await spend(sessions, user_id, price)
        async with AsyncSession(engine) as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + booked + 1


@ANSWERS.wrong("by luck")
def a_short_sleep():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0.03)
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 20


@ANSWERS.wrong("by luck")
def twenty_times_a_gather():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0)
            return 1

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        for _ in range(20):
            await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 40


@ANSWERS.wrong("by luck")
def goes_on_soon_after_the_second_has_begun():
    async def test_race(sessions, spend, user_id):
        reading, go = asyncio.Event(), asyncio.Event()

        async def slow(used):
            reading.set()
            await go.wait()
            return 10

        async def quick(used):
            return 20

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        first = asyncio.create_task(spend(sessions, user_id, slow))
        await reading.wait()
        second = asyncio.create_task(spend(sessions, user_id, quick))
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, second)
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 30


@ANSWERS.wrong("waits for ever")
def a_barrier_without_an_end():
    async def test_race(sessions, spend, user_id):
        barrier = asyncio.Barrier(2)

        async def price(used):
            await barrier.wait()
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 20


@ANSWERS.wrong("one at a time")
def one_after_the_other():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await spend(sessions, user_id, price)
        await spend(sessions, user_id, price)
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 20


@ANSWERS.wrong("never called")
def looks_at_the_user_only():
    async def test_race(sessions, spend, user_id):
        async with sessions() as session:
            assert await session.get_one(User, user_id)


@ANSWERS.wrong("lives")
def nobody_raised():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0.3)
            return 10

        results = await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)), return_exceptions=True)
        assert not any(isinstance(result, Exception) for result in results)


@ANSWERS.wrong("lives")
def at_least_one():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0.3)
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used > before


@ANSWERS.wrong("lives")
def what_they_returned():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0.3)
            return 10

        first, second = await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        assert first != second or first == second


@ANSWERS.wrong("always fails")
def the_other_way_round():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0.3)
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before


@ANSWERS.wrong("false alarm")
def price_is_asked_twice_and_no_more():
    async def test_race(sessions, spend, user_id):
        asked = []

        async def price(used):
            asked.append(used)
            await asyncio.sleep(0.3)
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        assert len(asked) == 2
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 20


@ANSWERS.wrong("false alarm")
def both_have_to_arrive():
    async def test_race(sessions, spend, user_id):
        arrived = []
        together = []

        async def price(used):
            arrived.append(used)
            await asyncio.sleep(0.3)
            together.append(len(arrived))
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        assert together[0] == 1
        async with sessions() as session:
            assert (await session.get_one(User, user_id)).tokens_used == before + 20


@ANSWERS.wrong("not an assertion")
def raises_what_it_likes():
    async def test_race(sessions, spend, user_id):
        async def price(used):
            await asyncio.sleep(0.3)
            return 10

        async with sessions() as session:
            before = (await session.get_one(User, user_id)).tokens_used
        await asyncio.gather(*(spend(sessions, user_id, price) for _ in range(2)))
        async with sessions() as session:
            if (await session.get_one(User, user_id)).tokens_used != before + 20:
                raise RuntimeError("lost")


@ANSWERS.wrong("raised")
def a_price_that_is_not_awaitable():
    async def test_race(sessions, spend, user_id):
        await asyncio.gather(*(spend(sessions, user_id, lambda used: 10) for _ in range(2)))
