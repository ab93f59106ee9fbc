"""Answers to 3.4, both ways at once."""

from __future__ import annotations

import asyncio

from sqlalchemy import case, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("3.4")

unused = User.token_limit - User.tokens_used


def taking(user_id, n):
    return update(User).where(User.id == user_id, unused >= n).values(token_limit=User.token_limit - n)


def giving(user_id, n):
    return update(User).where(User.id == user_id).values(token_limit=User.token_limit + n)


async def changed(session, statement):
    result = await session.execute(statement, execution_options={"synchronize_session": False})
    return result.rowcount == 1


async def locked(session, *user_ids):
    """The users, locked one after the other in the order given."""
    return [await session.get(User, user_id, with_for_update=True) for user_id in user_ids]


def move(giver, taker, n):
    if giver is None or taker is None or giver is taker or giver.token_limit - giver.tokens_used < n:
        return False
    giver.token_limit -= n
    taker.token_limit += n
    return True


@ANSWERS.right
async def one_after_the_other_in_order(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        users = {user_id: (await locked(session, user_id))[0] for user_id in sorted({from_id, to_id})}
        return move(users[from_id], users[to_id], n)


@ANSWERS.right
async def greater_id_first(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        first, second = await locked(session, *sorted([from_id, to_id], reverse=True))
        return move(first, second, n) if from_id > to_id else move(second, first, n)


@ANSWERS.right
async def locks_then_adds_on_the_server(sessions, from_id, to_id, n):
    if from_id == to_id:
        return False
    async with sessions() as session:
        sql = "SELECT id FROM users WHERE id IN (:a, :b) ORDER BY id FOR NO KEY UPDATE"
        rows = (await session.execute(text(sql), {"a": from_id, "b": to_id})).all()
        if len(rows) == 2 and await changed(session, taking(from_id, n)):
            await session.execute(giving(to_id, n))
            await session.commit()
            return True
        return False


@ANSWERS.right
async def one_update_of_both(sessions, from_id, to_id, n):
    if from_id == to_id:
        return False
    change = case((User.id == from_id, -n), else_=n)
    statement = update(User).where(User.id.in_([from_id, to_id])).values(token_limit=User.token_limit + change)
    try:
        async with sessions.begin() as session:
            result = await session.execute(statement, execution_options={"synchronize_session": False})
            if result.rowcount != 2:
                await session.rollback()
                return False
        return True
    except IntegrityError:  # the table does not let token_limit fall below tokens_used
        return False


@ANSWERS.right
async def one_advisory_lock_for_all_transfers(sessions, from_id, to_id, n):
    async with sessions() as session:
        await session.execute(select(func.pg_advisory_xact_lock(34)))
        if from_id != to_id and await changed(session, taking(from_id, n)) and await changed(session, giving(to_id, n)):
            await session.commit()
            return True
        return False


@ANSWERS.right
async def writes_in_the_order_of_the_ids(sessions, from_id, to_id, n):
    statements = {from_id: taking(from_id, n), to_id: giving(to_id, n)}
    async with sessions() as session:
        done = [await changed(session, statements[user_id]) for user_id in sorted(statements)]
        if done == [True, True]:
            await session.commit()
        return done == [True, True]


@ANSWERS.right
async def looks_first_in_a_transaction_of_its_own(sessions, from_id, to_id, n):
    async with sessions() as session:
        if from_id == to_id or await session.get(User, from_id) is None or await session.get(User, to_id) is None:
            return False
    return await one_after_the_other_in_order(sessions, from_id, to_id, n)


@ANSWERS.right
async def starts_over_after_a_deadlock(sessions, from_id, to_id, n):
    while True:
        try:
            async with sessions.begin() as session:
                return move(*await locked(session, from_id, to_id), n)
        except DBAPIError as error:
            if error.orig.sqlstate != "40P01":
                raise


@ANSWERS.right
async def serializable_again(sessions, from_id, to_id, n):
    for _ in range(1000):
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                done = move(await session.get(User, from_id), await session.get(User, to_id), n)
                await session.commit()
                return done
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "40P01"):
                raise
    raise RuntimeError("too much going on")


@ANSWERS.right
async def rather_asks_again_than_waits(sessions, from_id, to_id, n):
    while True:
        try:
            async with sessions.begin() as session:
                users = [await session.get(User, id, with_for_update={"nowait": True}) for id in (from_id, to_id)]
                return move(*users, n)
        except DBAPIError as error:
            if error.orig.sqlstate != "55P03":
                raise
            await asyncio.sleep(0.01 if from_id < to_id else 0.017)


@ANSWERS.wrong("nothing returned")
async def forgot_return(sessions, from_id, to_id, n):
    await one_after_the_other_in_order(sessions, from_id, to_id, n)


@ANSWERS.wrong("not a bool")
async def returns_rowcount(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        result = await session.execute(taking(from_id, n))
        if result.rowcount:
            result = await session.execute(giving(to_id, n))
        return result.rowcount


@ANSWERS.wrong("refused too early")
async def keeps_one_token(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        users = {user.id: user for user in await locked(session, *sorted([from_id, to_id])) if user}
        if len(users) < 2 or users[from_id].token_limit - users[from_id].tokens_used <= n:
            return False
        return move(users[from_id], users[to_id], n)


@ANSWERS.wrong("not committed")
async def forgot_commit(sessions, from_id, to_id, n):
    async with sessions() as session:
        return move(*await locked(session, from_id, to_id), n)


@ANSWERS.wrong("wrong amount")
async def only_takes(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        return await changed(session, taking(from_id, n))


@ANSWERS.wrong("wrong column")
async def spends_for_the_giver(sessions, from_id, to_id, n):
    statement = update(User).where(User.id == from_id, unused >= n).values(tokens_used=User.tokens_used + n)
    async with sessions.begin() as session:
        return await changed(session, statement) and await changed(session, giving(to_id, n))


@ANSWERS.wrong("others changed")
async def gives_to_everybody(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        if not await changed(session, taking(from_id, n)):
            return False
        await session.execute(update(User).where(User.id != from_id).values(token_limit=User.token_limit + n))
        return True


@ANSWERS.wrong("raised instead")
async def left_to_the_constraint(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.id == from_id).values(token_limit=User.token_limit - n))
        await session.execute(giving(to_id, n))
    return True


@ANSWERS.wrong("false yes")
async def did_not_look_for_the_taker(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        if not await changed(session, taking(from_id, n)):
            return False
        await session.execute(giving(to_id, n))
    return True


@ANSWERS.wrong("false yes")
async def to_oneself_is_fine(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        users = {user_id: (await locked(session, user_id))[0] for user_id in sorted({from_id, to_id})}
        giver, taker = users[from_id], users[to_id]
        if giver is None or taker is None or giver.token_limit - giver.tokens_used < n:
            return False
        giver.token_limit, taker.token_limit = giver.token_limit - n, taker.token_limit + n
        return True


@ANSWERS.wrong("changed although refused")
async def takes_before_it_looks(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        return await changed(session, taking(from_id, n)) and await changed(session, giving(to_id, n))


@ANSWERS.wrong("seen half-way")
async def two_transactions_and_a_way_back(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        if from_id == to_id or not await changed(session, taking(from_id, n)):
            return False
    async with sessions.begin() as session:
        if await changed(session, giving(to_id, n)):
            return True
    async with sessions.begin() as session:
        await session.execute(giving(from_id, n))
    return False


@ANSWERS.wrong("tokens lost")
async def locks_the_giver_only(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        taker = await session.get(User, to_id)
        (giver,) = await locked(session, from_id)
        return move(giver, taker, n)


@ANSWERS.wrong("tokens lost")
async def looked_before_it_locked(sessions, from_id, to_id, n):
    if from_id == to_id:
        return False
    async with sessions.begin() as session:
        giver, taker = await session.get(User, from_id), await session.get(User, to_id)
        if giver is None or taker is None:
            return False
        # the session knows both users already, and keeps the values it read first
        both = select(User).where(User.id.in_([from_id, to_id])).order_by(User.id).with_for_update()
        await session.scalars(both)
        return move(giver, taker, n)


@ANSWERS.wrong("tokens lost")
async def lets_go_of_the_locks(sessions, from_id, to_id, n):
    async with sessions() as session:
        users = {user_id: (await locked(session, user_id))[0] for user_id in sorted({from_id, to_id})}
        await session.commit()
        if move(users[from_id], users[to_id], n):
            await session.commit()
            return True
        return False


@ANSWERS.wrong("decided too early")
async def decides_then_adds_on_the_server(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        users = {user.id: user for user in await session.scalars(select(User).where(User.id.in_([from_id, to_id])))}
        if len(users) < 2 or users[from_id].token_limit - users[from_id].tokens_used < n:
            return False
        changes = {from_id: -n, to_id: n}
        for user_id in sorted(changes):
            await session.execute(
                update(User).where(User.id == user_id).values(token_limit=User.token_limit + changes[user_id]),
                execution_options={"synchronize_session": False},
            )
    return True


@ANSWERS.wrong("broke off")
async def repeatable_read_once(sessions, from_id, to_id, n):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        done = move(await session.get(User, from_id), await session.get(User, to_id), n)
        await session.commit()
        return done


@ANSWERS.wrong("refused in a race")
async def a_locked_row_is_a_no(sessions, from_id, to_id, n):
    if from_id == to_id:
        return False
    async with sessions.begin() as session:
        both = select(User).where(User.id.in_([from_id, to_id])).order_by(User.id).with_for_update(skip_locked=True)
        users = {user.id: user for user in await session.scalars(both)}
        return len(users) == 2 and move(users[from_id], users[to_id], n)


@ANSWERS.wrong("deadlock")
async def giver_first(sessions, from_id, to_id, n):
    if from_id == to_id:
        return False
    async with sessions() as session:
        if await changed(session, taking(from_id, n)) and await changed(session, giving(to_id, n)):
            await session.commit()
            return True
        return False


@ANSWERS.wrong("deadlock")
async def shares_the_locks(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        both = select(User).where(User.id.in_([from_id, to_id])).order_by(User.id).with_for_update(read=True)
        users = {user.id: user for user in await session.scalars(both)}
        return len(users) == 2 and move(users[from_id], users[to_id], n)


@ANSWERS.wrong("refused in a race")
async def any_error_is_a_no(sessions, from_id, to_id, n):
    try:
        return await giver_first(sessions, from_id, to_id, n)
    except DBAPIError:
        return False


SLOTS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("kept in this process")
async def one_at_a_time_in_this_process(sessions, from_id, to_id, n):
    async with SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        return await giver_first(sessions, from_id, to_id, n)


async def both_at(session, level, from_id, to_id, n):
    await session.connection(execution_options={"isolation_level": level})
    giver, taker = await session.get(User, from_id), await session.get(User, to_id)
    if from_id == to_id or giver is None or taker is None or giver.token_limit - giver.tokens_used < n:
        return False
    giver.token_limit -= n
    taker.token_limit += n
    return True


@ANSWERS.wrong("gave up")
async def ten_tries(sessions, from_id, to_id, n):
    for _ in range(10):
        try:
            async with sessions.begin() as session:
                return await both_at(session, "REPEATABLE READ", from_id, to_id, n)
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "40P01"):
                raise
    raise RuntimeError("too much going on")


@ANSWERS.wrong("gave up")
async def the_commit_outside_of_the_try(sessions, from_id, to_id, n):
    async with sessions() as session:
        while True:
            try:
                done = await both_at(session, "SERIALIZABLE", from_id, to_id, n)
                await session.flush()
                break
            except DBAPIError as error:
                await session.rollback()
                if error.orig.sqlstate not in ("40001", "40P01"):
                    raise
        await session.commit()
        return done


async def repeated(tries, sessions, from_id, to_id, n):
    while True:
        try:
            async with sessions.begin() as session:
                return move(*await locked(session, from_id, to_id), n)
        except DBAPIError as error:
            tries -= 1
            if not tries or error.orig.sqlstate != "40P01":
                raise


@ANSWERS.right
async def giver_first_as_often_as_it_takes(sessions, from_id, to_id, n):
    return await repeated(-1, sessions, from_id, to_id, n)


@ANSWERS.wrong("gave up at a deadlock")
async def giver_first_and_three_tries(sessions, from_id, to_id, n):
    return await repeated(3, sessions, from_id, to_id, n)


@ANSWERS.wrong("broke off")
async def a_twentieth_of_a_second(sessions, from_id, to_id, n):
    async with sessions.begin() as session:
        await session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        both = select(User).where(User.id.in_([from_id, to_id])).order_by(User.id).with_for_update()
        users = {user.id: user for user in await session.scalars(both)}
        return len(users) == 2 and move(users[from_id], users[to_id], n)
