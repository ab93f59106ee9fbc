"""Answers to 3.3, the lost update."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("3.3")


async def read_and_write(session, user_id, n, price, *, lock=False):
    """The change without any care, unless the row is locked."""
    user = await session.get(User, user_id, with_for_update=lock or None)
    if user is None:
        return None
    user.tokens_used += price(user.tier, user.tokens_used, n)
    await session.commit()
    return user.tokens_used


@ANSWERS.right
async def locked_and_updated_on_the_server(sessions, user_id, n, price):
    async with sessions() as session:
        statement = select(User.tier, User.tokens_used).where(User.id == user_id).with_for_update()
        row = (await session.execute(statement)).one_or_none()
        if row is None:
            return None
        change = update(User).where(User.id == user_id).returning(User.tokens_used)
        used = await session.scalar(change.values(tokens_used=User.tokens_used + price(*row, n)))
        await session.commit()
        return used


@ANSWERS.right
async def checks_when_it_writes(sessions, user_id, n, price):
    while True:
        async with sessions.begin() as session:
            user = await session.get(User, user_id)
            if user is None:
                return None
            used = user.tokens_used + price(user.tier, user.tokens_used, n)
            same = (User.id == user_id, User.tokens_used == user.tokens_used)
            statement = update(User).where(*same).values(tokens_used=used)
            result = await session.execute(statement, execution_options={"synchronize_session": False})
            if result.rowcount == 1:
                return used


@ANSWERS.right
async def checks_the_version_of_the_row(sessions, user_id, n, price):
    for _ in range(1000):
        async with sessions.begin() as session:
            sql = "SELECT tier, tokens_used, CAST(xmin AS text) FROM users WHERE id = :id"
            row = (await session.execute(text(sql), {"id": user_id})).one_or_none()
            if row is None:
                return None
            used = row.tokens_used + price(row.tier, row.tokens_used, n)
            sql = "UPDATE users SET tokens_used = :used WHERE id = :id AND CAST(xmin AS text) = :xmin"
            result = await session.execute(text(sql), {"used": used, "id": user_id, "xmin": row.xmin})
            if result.rowcount:
                return used
    raise RuntimeError("too much going on")


async def at_level(level, sessions, user_id, n, price):
    for _ in range(1000):
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": level})
                return await read_and_write(session, user_id, n, price)
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "40P01"):
                raise
    raise RuntimeError("too much going on")


@ANSWERS.right
async def repeatable_read_again(sessions, user_id, n, price):
    return await at_level("REPEATABLE READ", sessions, user_id, n, price)


@ANSWERS.right
async def serializable_again(sessions, user_id, n, price):
    return await at_level("SERIALIZABLE", sessions, user_id, n, price)


@ANSWERS.right
async def advisory_lock(sessions, user_id, n, price):
    async with sessions() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(user_id), 0))))
        return await read_and_write(session, user_id, n, price)


@ANSWERS.right
async def rather_asks_again_than_waits(sessions, user_id, n, price):
    while True:
        try:
            async with sessions() as session:
                user = await session.scalar(select(User).where(User.id == user_id).with_for_update(nowait=True))
                return await read_and_write(session, user_id, n, price) if user else None
        except DBAPIError as error:
            if error.orig.sqlstate != "55P03":
                raise
            await asyncio.sleep(0.01)


@ANSWERS.right
async def locks_by_writing_first(sessions, user_id, n, price):
    async with sessions.begin() as session:
        statement = update(User).where(User.id == user_id).values(name=User.name)
        row = (await session.execute(statement.returning(User.tier, User.tokens_used))).one_or_none()
        if row is None:
            return None
        used = row.tokens_used + price(row.tier, row.tokens_used, n)
        await session.execute(update(User).where(User.id == user_id).values(tokens_used=used))
        return used


@ANSWERS.wrong("raised")
async def everybody_of_that_version(sessions, user_id, n, price):
    async with sessions.begin() as session:
        sql = "SELECT tier, tokens_used, CAST(xmin AS text) FROM users WHERE id = :id"
        row = (await session.execute(text(sql), {"id": user_id})).one_or_none()
        if row is None:
            return None
        used = row.tokens_used + price(row.tier, row.tokens_used, n)
        sql = "UPDATE users SET tokens_used = :used WHERE CAST(xmin AS text) = :xmin"
        await session.execute(text(sql), {"used": used, "xmin": row.xmin})
        return used


@ANSWERS.wrong("nothing returned")
async def forgot_return(sessions, user_id, n, price):
    async with sessions() as session:
        await read_and_write(session, user_id, n, price, lock=True)


@ANSWERS.wrong("not a number")
async def returns_the_user(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is not None:
            user.tokens_used += price(user.tier, user.tokens_used, n)
        return user


@ANSWERS.wrong("not committed")
async def forgot_commit(sessions, user_id, n, price):
    async with sessions() as session:
        user = await session.get(User, user_id, with_for_update=True)
        user.tokens_used += price(user.tier, user.tokens_used, n)
        return user.tokens_used


@ANSWERS.wrong("wrong amount")
async def books_n(sessions, user_id, n, price):
    statement = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + n)
    async with sessions.begin() as session:
        return await session.scalar(statement.returning(User.tokens_used))


@ANSWERS.wrong("wrong return")
async def returns_what_it_cost(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None:
            return None
        cost = price(user.tier, user.tokens_used, n)
        user.tokens_used += cost
        return cost


@ANSWERS.wrong("others charged")
async def everybody_pays(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None:
            return None
        used = user.tokens_used + price(user.tier, user.tokens_used, n)
        await session.execute(update(User).where(User.token_limit >= used).values(tokens_used=used))
        return used


@ANSWERS.wrong("unknown user")
async def nobody_has_no_tier(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        user.tokens_used += price(user.tier, user.tokens_used, n)
    return user.tokens_used


@ANSWERS.wrong("lost update")
async def looked_before_it_locked(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id)
        if user is None:
            return None
        # the session knows this user already, and keeps the values it read first
        await session.scalar(select(User).where(User.id == user_id).with_for_update())
        user.tokens_used += price(user.tier, user.tokens_used, n)
    return user.tokens_used


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("lost update")
async def locked_in_this_process_only(sessions, user_id, n, price):
    async with LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()), sessions() as session:
        return await read_and_write(session, user_id, n, price)


@ANSWERS.wrong("lost update")
async def lets_go_of_the_lock(sessions, user_id, n, price):
    async with sessions() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None:
            return None
        await session.commit()
        return await read_and_write(session, user_id, n, price)


@ANSWERS.wrong("lost update")
async def starts_over_without_care(sessions, user_id, n, price):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        try:
            return await read_and_write(session, user_id, n, price)
        except DBAPIError:
            await session.rollback()  # the next transaction is READ COMMITTED again
            return await read_and_write(session, user_id, n, price)


@ANSWERS.wrong("stale price")
async def adds_an_old_price(sessions, user_id, n, price):
    async with sessions.begin() as session:
        row = (await session.execute(select(User.tier, User.tokens_used).where(User.id == user_id))).one_or_none()
        if row is None:
            return None
        statement = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + price(*row, n))
        return await session.scalar(statement.returning(User.tokens_used))


@ANSWERS.wrong("gave up")
async def serializable_once(sessions, user_id, n, price):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        return await read_and_write(session, user_id, n, price)


@ANSWERS.wrong("gave up")
async def checks_ten_times(sessions, user_id, n, price):
    for _ in range(10):
        used = await checks_once(sessions, user_id, n, price)
        if used is not None:
            return used
        async with sessions() as session:
            if await session.get(User, user_id) is None:
                return None
    raise RuntimeError("too much going on")


@ANSWERS.wrong("nothing booked")
async def checks_once(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id)
        if user is None:
            return None
        used = user.tokens_used + price(user.tier, user.tokens_used, n)
        statement = update(User).where(User.id == user_id, User.tokens_used == user.tokens_used)
        return await session.scalar(statement.values(tokens_used=used).returning(User.tokens_used))


@ANSWERS.wrong("nothing booked")
async def skips_a_locked_row(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.scalar(select(User).where(User.id == user_id).with_for_update(skip_locked=True))
        if user is None:
            return None
        user.tokens_used += price(user.tier, user.tokens_used, n)
    return user.tokens_used


@ANSWERS.wrong("gave up")
async def tries_the_commit_again(sessions, user_id, n, price):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        user = await session.get(User, user_id)
        if user is None:
            return None
        user.tokens_used += price(user.tier, user.tokens_used, n)
        used = user.tokens_used
        for _ in range(3):
            with suppress(DBAPIError):
                await session.commit()
                break
        return used


@ANSWERS.wrong("one of two lost")
async def advisory_lock_after_reading(sessions, user_id, n, price):
    async with sessions() as session:
        user = await session.get(User, user_id)
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(user_id), 0))))
        if user is None:
            return None
        user.tokens_used += price(user.tier, user.tokens_used, n)
        await session.commit()
        return user.tokens_used


@ANSWERS.wrong("deadlock")
async def shares_the_lock(sessions, user_id, n, price):
    async with sessions() as session:
        user = await session.get(User, user_id, with_for_update={"read": True})
        if user is None:
            return None
        user.tokens_used += price(user.tier, user.tokens_used, n)
        await session.commit()
        return user.tokens_used


@ANSWERS.wrong("nothing returned")
async def nothing_used_is_nobody(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None or not user.tokens_used:
            return None
        user.tokens_used += price(user.tier, user.tokens_used, n)
    return user.tokens_used


@ANSWERS.wrong("nothing returned")
async def a_price_of_nothing_is_nobody(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        cost = user and price(user.tier, user.tokens_used, n)
        if not cost:
            return None
        user.tokens_used += cost
    return user.tokens_used


@ANSWERS.wrong("not its own")
async def reads_it_again(sessions, user_id, n, price):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None:
            return None
        user.tokens_used += price(user.tier, user.tokens_used, n)
    async with sessions() as session:
        return await session.scalar(select(User.tokens_used).where(User.id == user_id))


@ANSWERS.wrong("gave up")
async def a_twentieth_of_a_second(sessions, user_id, n, price):
    async with sessions() as session:
        await session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        return await read_and_write(session, user_id, n, price, lock=True)


@ANSWERS.wrong("gave up")
async def a_twentieth_of_a_second_by_a_function(sessions, user_id, n, price):
    async with sessions() as session:
        await session.execute(select(func.set_config("lock_timeout", "50", True)))
        return await read_and_write(session, user_id, n, price, lock=True)


@ANSWERS.right
async def half_a_minute(sessions, user_id, n, price):
    async with sessions() as session:
        await session.execute(text("SET LOCAL lock_timeout = '30s'"))
        return await read_and_write(session, user_id, n, price, lock=True)
