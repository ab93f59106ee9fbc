"""Answers to 1.4, spend tokens."""

from __future__ import annotations

import asyncio

from sqlalchemy import case, literal_column, select, text, update
from sqlalchemy.exc import IntegrityError

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("1.4")


def booking(user_id, n):
    fits = User.tokens_used + n <= User.token_limit
    return update(User).where(User.id == user_id, fits).values(tokens_used=User.tokens_used + n)


@ANSWERS.right
async def rowcount_in_a_begin_block(session, user_id, n):
    async with session.begin():
        result = await session.execute(booking(user_id, n))
    return result.rowcount > 0


@ANSWERS.right
async def raw_sql(session, user_id, n):
    sql = """
        UPDATE users SET tokens_used = tokens_used + :n
        WHERE id = :id AND token_limit - tokens_used >= :n RETURNING tokens_used
    """
    row = (await session.execute(text(sql), {"id": user_id, "n": n})).first()
    await session.commit()
    return bool(row)


@ANSWERS.right
async def locked_by_a_subquery(session, user_id, n):
    locked = select(User.id).where(User.id == user_id, User.token_limit >= User.tokens_used + n).with_for_update()
    statement = update(User).where(User.id == locked.scalar_subquery()).values(tokens_used=User.tokens_used + n)
    result = await session.execute(statement, execution_options={"synchronize_session": False})
    await session.commit()
    return result.rowcount == 1


@ANSWERS.right
async def told_by_the_constraint(session, user_id, n):
    statement = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + n)
    try:
        result = await session.execute(statement)
        await session.commit()
    except IntegrityError:
        await session.rollback()
        return False
    return result.rowcount == 1


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id, n):
    await session.execute(booking(user_id, n))
    await session.commit()


@ANSWERS.wrong("not a bool")
async def returns_rowcount(session, user_id, n):
    result = await session.execute(booking(user_id, n))
    await session.commit()
    return result.rowcount


@ANSWERS.wrong("not a bool")
async def returns_the_id(session, user_id, n):
    user = await session.scalar(booking(user_id, n).returning(User.id))
    await session.commit()
    return user or False


@ANSWERS.wrong("refused too early")
async def strictly_less(session, user_id, n):
    statement = update(User).where(User.id == user_id, User.tokens_used + n < User.token_limit)
    result = await session.execute(statement.values(tokens_used=User.tokens_used + n))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("not committed")
async def forgot_commit(session, user_id, n):
    return (await session.execute(booking(user_id, n))).rowcount == 1


@ANSWERS.wrong("wrong amount")
async def sets_instead_of_adding(session, user_id, n):
    statement = update(User).where(User.id == user_id, User.tokens_used + n <= User.token_limit)
    result = await session.execute(statement.values(tokens_used=n))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("wrong amount")
async def subtracts(session, user_id, n):
    statement = update(User).where(User.id == user_id, User.tokens_used + n <= User.token_limit)
    result = await session.execute(statement.values(tokens_used=User.tokens_used - n))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("others charged")
async def everybody_pays(session, user_id, n):
    statement = update(User).where(User.tokens_used + n <= User.token_limit)
    result = await session.execute(statement.values(tokens_used=User.tokens_used + n))
    await session.commit()
    return result.rowcount > 0


@ANSWERS.wrong("false yes")
async def always_true(session, user_id, n):
    await session.execute(booking(user_id, n))
    await session.commit()
    return True


@ANSWERS.wrong("false yes")
async def rowcount_at_least_nothing(session, user_id, n):
    result = await session.execute(booking(user_id, n))
    await session.commit()
    return result.rowcount >= 0


@ANSWERS.wrong("left to the constraint")
async def no_condition(session, user_id, n):
    statement = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + n)
    result = await session.execute(statement)
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("changed although refused")
async def takes_what_is_left(session, user_id, n):
    if (await session.execute(booking(user_id, n))).rowcount:
        await session.commit()
        return True
    await session.execute(update(User).where(User.id == user_id).values(tokens_used=User.token_limit))
    await session.commit()
    return False


@ANSWERS.wrong("changed although refused")
async def written_either_way(session, user_id, n):
    more = case((User.tokens_used + n <= User.token_limit, n), else_=0)
    statement = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + more)
    booked = await session.scalar(statement.returning(literal_column("new.tokens_used > old.tokens_used")))
    await session.commit()
    return bool(booked)


@ANSWERS.wrong("unknown user")
async def none_has_no_tokens(session, user_id, n):
    user = await session.get(User, user_id, with_for_update=True)
    if user.tokens_used + n > user.token_limit:
        return False
    user.tokens_used += n
    await session.commit()
    return True


@ANSWERS.wrong("unknown user")
async def asks_who_is_over(session, user_id, n):
    over = await session.scalar(select(User).where(User.id == user_id, User.tokens_used + n > User.token_limit))
    if over:
        return False
    await session.execute(update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + n))
    await session.commit()
    return True


@ANSWERS.wrong("lost update")
async def read_decide_write(session, user_id, n):
    user = await session.get(User, user_id)
    if user is None or user.tokens_used + n > user.token_limit:
        return False
    user.tokens_used += n
    await session.commit()
    return True


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("lost update")
async def locked_in_this_process_only(session, user_id, n):
    async with LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        user = (await session.scalars(select(User).where(User.id == user_id))).one_or_none()
        if user is None or n > user.token_limit - user.tokens_used:
            return False
        await session.execute(update(User).where(User.id == user_id).values(tokens_used=user.tokens_used + n))
        await session.commit()
        return True


@ANSWERS.wrong("decided too early")
async def decide_then_add_atomically(session, user_id, n):
    user = await session.get(User, user_id)
    if user is None or user.tokens_used + n > user.token_limit:
        return False
    await session.execute(update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + n))
    await session.commit()
    return True


@ANSWERS.wrong("decided too early")
async def repeatable_read(session, user_id, n):
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    result = await session.execute(booking(user_id, n))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("deadlock")
async def a_lock_that_two_may_hold(session, user_id, n):
    fits = User.token_limit >= User.tokens_used + n
    shared = select(User.id).where(User.id == user_id, fits).with_for_update(read=True)
    statement = update(User).where(User.id == shared.scalar_subquery()).values(tokens_used=User.tokens_used + n)
    result = await session.execute(statement, execution_options={"synchronize_session": False})
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("two statements")
async def locked_row(session, user_id, n):
    user = await session.scalar(select(User).where(User.id == user_id).with_for_update())
    if user is None or user.tokens_used + n > user.token_limit:
        return False
    user.tokens_used += n
    await session.commit()
    return True


@ANSWERS.wrong("two statements")
async def looks_for_the_user_first(session, user_id, n):
    if await session.get(User, user_id) is None:
        return False
    result = await session.execute(booking(user_id, n))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("swallowed")
async def any_error_is_a_no(session, user_id, n):
    try:
        result = await session.execute(booking(user_id, n))
        await session.commit()
    except Exception:
        await session.rollback()
        return False
    return result.rowcount == 1
