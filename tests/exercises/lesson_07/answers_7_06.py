"""7.6: reserve, call, settle."""

import asyncio
import contextlib
from functools import partial

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("7.6")
LOCK = asyncio.Lock()


async def reserve(session, user_id, most):
    """Whether it fitted; nothing is committed."""
    fits = User.tokens_used + most <= User.token_limit
    spent = update(User).where(User.id == user_id, fits).values(tokens_used=User.tokens_used + most)
    return await session.scalar(spent.returning(User.id)) is not None


async def change(sessions, user_id, tokens):
    async with sessions.begin() as session:
        mine = update(User).where(User.id == user_id)
        await session.execute(mine.values(tokens_used=User.tokens_used + tokens))


@ANSWERS.right
async def in_one_statement_each(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
        return reply
    finally:
        await change(sessions, user_id, used - most)


@ANSWERS.right
async def by_locked_rows(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None or user.token_limit - user.tokens_used < most:
            return None
        user.tokens_used += most
    try:
        reply, used = await ask_model(question)
    except BaseException:
        async with sessions.begin() as session:
            user = await session.get(User, user_id, with_for_update=True)
            user.tokens_used -= most
        raise
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is not None:
            user.tokens_used -= most - used
    return reply


@ANSWERS.right
async def the_constraint_says_no(sessions, ask_model, user_id, question, most):
    try:
        async with sessions.begin() as session:
            mine = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + most)
            if (await session.execute(mine)).rowcount == 0:
                return None
    except IntegrityError as error:
        if "ck_users_tokens" not in str(error.orig):
            raise
        return None
    try:
        reply, used = await ask_model(question)
    except (Exception, asyncio.CancelledError):
        await asyncio.shield(change(sessions, user_id, -most))
        raise
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.right
async def starts_over_when_another_was_faster(sessions, ask_model, user_id, question, most):
    while True:
        async with sessions() as session:
            row = (await session.execute(select(User.tokens_used, User.token_limit).filter_by(id=user_id))).first()
            if row is None or row.tokens_used + most > row.token_limit:
                return None
            still = update(User).where(User.id == user_id, User.tokens_used == row.tokens_used)
            done = await session.execute(still.values(tokens_used=row.tokens_used + most))
            await session.commit()
            if done.rowcount:
                break
    cost = 0
    try:
        reply, cost = await ask_model(question)
    finally:
        await change(sessions, user_id, cost - most)
    return reply


@ANSWERS.right
async def by_serializable_transactions(sessions, ask_model, user_id, question, most):
    async def booked(tokens):
        while True:
            try:
                async with sessions.begin() as session:
                    await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                    user = await session.get(User, user_id)
                    if user is None or user.tokens_used + tokens > user.token_limit:
                        return False
                    user.tokens_used += tokens
                return True
            except DBAPIError as error:
                if error.orig.sqlstate != "40001":
                    raise

    if not await booked(most):
        return None
    used = 0
    try:
        reply, used = await ask_model(question)
        return reply
    finally:
        await booked(used - most)


@ANSWERS.right
async def under_an_advisory_lock(sessions, ask_model, user_id, question, most):
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:id AS text), 7))")
    async with sessions.begin() as session:
        await session.execute(lock, {"id": str(user_id)})
        user = await session.get(User, user_id)
        if not user or user.tokens_used + most > user.token_limit:
            return None
        # the lock is for those who reserve; who settles does not take it, so the server adds
        user.tokens_used = User.tokens_used + most
    try:
        reply, used = await ask_model(question)
    except BaseException:
        await change(sessions, user_id, -most)
        raise
    await change(sessions, user_id, used - most)
    return reply


# wrong ones


@ANSWERS.wrong("not asked")
async def keeps_one_token_back(sessions, ask_model, user_id, question, most):
    async with sessions() as session:
        user = await session.get(User, user_id)
        if user is None or user.tokens_used + most >= user.token_limit:
            return None
    return await in_one_statement_each(sessions, ask_model, user_id, question, most)


@ANSWERS.wrong("above the limit")
async def lets_the_constraint_raise(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        mine = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + most)
        if (await session.execute(mine)).rowcount == 0:
            return None
    reply, used = await ask_model(question)
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("above the limit")
async def as_much_as_is_left(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None:
            return None
        most = min(most, user.token_limit - user.tokens_used)
        user.tokens_used += most
    reply, used = await ask_model(question)
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("booked in vain")
async def marks_the_account_full(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        fits = user is not None and user.tokens_used + most <= user.token_limit
        if user:
            user.tokens_used = min(user.tokens_used + most, user.token_limit)
    if not fits:
        return None
    reply, used = await ask_model(question)
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("unknown user")
async def takes_everybody_for_known(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user.tokens_used + most > user.token_limit:
            return None
        user.tokens_used += most
    reply, used = await ask_model(question)
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("wrong question")
async def asks_in_messages(sessions, ask_model, user_id, question, most):
    messages = partial(ask_model, [{"role": "user", "content": question}])
    return await in_one_statement_each(sessions, lambda _: messages(), user_id, question, most)


@ANSWERS.wrong("connection held")
async def in_one_transaction(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        reply, used = await ask_model(question)
        user.tokens_used += used
        return reply


@ANSWERS.wrong("not reserved")
async def charges_afterwards(sessions, ask_model, user_id, question, most):
    async with sessions() as session:
        user = await session.get(User, user_id)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
    reply, used = await ask_model(question)
    await change(sessions, user_id, used)
    return reply


@ANSWERS.wrong("not reserved")
async def forgets_to_commit_the_reservation(sessions, ask_model, user_id, question, most):
    async with sessions() as session:
        if not await reserve(session, user_id, most):
            return None
    reply, used = await ask_model(question)
    await change(sessions, user_id, used)
    return reply


@ANSWERS.wrong("nothing returned")
async def takes_an_empty_reply_for_none(sessions, ask_model, user_id, question, most):
    return await in_one_statement_each(sessions, ask_model, user_id, question, most) or None


@ANSWERS.wrong("wrong reply")
async def returns_the_pair(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    answer = await ask_model(question)
    await change(sessions, user_id, answer[1] - most)
    return answer


@ANSWERS.wrong("not settled")
async def keeps_all_that_was_reserved(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    return (await ask_model(question))[0]


@ANSWERS.wrong("not settled")
async def adds_the_price_to_the_reservation(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    reply, used = await ask_model(question)
    await change(sessions, user_id, min(used, most))
    return reply


@ANSWERS.wrong("still at work")
async def settles_in_the_background(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    reply, used = await ask_model(question)
    asyncio.create_task(change(sessions, user_id, used - most))  # noqa: RUF006
    return reply


@ANSWERS.wrong("overwrote")
async def writes_back_what_it_had_read(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        before = user.tokens_used
        user.tokens_used += most
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        async with sessions.begin() as session:
            await session.execute(update(User).where(User.id == user_id).values(tokens_used=before + used))
    return reply


@ANSWERS.wrong("overwrote")
async def writes_back_when_it_fails(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id, with_for_update=True)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        before = user.tokens_used
        user.tokens_used += most
    try:
        reply, used = await ask_model(question)
    except BaseException:
        async with sessions.begin() as session:
            await session.execute(update(User).where(User.id == user_id).values(tokens_used=before))
        raise
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("account gone")
async def settles_with_whom_it_knew(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        async with sessions.begin() as session:
            user = await session.get(User, user_id, with_for_update=True)
            user.tokens_used += used - most
    return reply


@ANSWERS.wrong("account gone")
async def returns_nothing_without_an_account(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        async with sessions.begin() as session:
            mine = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + used - most)
            still = await session.scalar(mine.returning(User.id))
    return reply if still else None


@ANSWERS.wrong("failed at once")
async def looks_first_and_adds_then(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        mine = update(User).where(User.id == user_id)
        await session.execute(mine.values(tokens_used=User.tokens_used + most))
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("failed at once")
async def would_rather_fail_than_wait(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        mine = select(User).where(User.id == user_id).with_for_update(nowait=True)
        user = await session.scalar(mine)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        user.tokens_used += most
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("too many at once")
async def adds_in_python(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        user = await session.get(User, user_id)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        user.tokens_used += most
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("too few at once")
async def takes_a_locked_row_for_a_full_one(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        mine = select(User).where(User.id == user_id).with_for_update(skip_locked=True)
        user = await session.scalar(mine)
        if user is None or user.tokens_used + most > user.token_limit:
            return None
        user.tokens_used += most
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("too few at once")
async def does_not_try_again(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        row = (await session.execute(select(User.tokens_used, User.token_limit).filter_by(id=user_id))).first()
        if row is None or row.tokens_used + most > row.token_limit:
            return None
        still = update(User).where(User.id == user_id, User.tokens_used == row.tokens_used)
        if (await session.execute(still.values(tokens_used=row.tokens_used + most))).rowcount == 0:
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("one after another")
async def under_a_lock_of_this_process(sessions, ask_model, user_id, question, most):
    async with LOCK:
        return await in_one_statement_each(sessions, ask_model, user_id, question, most)


@ANSWERS.wrong("lost at once")
async def settles_in_python(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
    finally:
        try:
            async with sessions.begin() as session:
                if user := await session.get(User, user_id):
                    user.tokens_used += used - most
        except StaleDataError:
            pass
    return reply


@ANSWERS.wrong("not given back")
async def gives_back_after_errors_only(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    try:
        reply, used = await ask_model(question)
    except Exception:
        await change(sessions, user_id, -most)
        raise
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("not given back")
async def gives_back_after_no_error(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    reply, used = await ask_model(question)
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("error swallowed")
async def says_nothing_of_an_error(sessions, ask_model, user_id, question, most):
    try:
        return await in_one_statement_each(sessions, ask_model, user_id, question, most)
    except RuntimeError:
        return None


@ANSWERS.wrong("error swallowed")
async def raises_another_error(sessions, ask_model, user_id, question, most):
    try:
        return await in_one_statement_each(sessions, ask_model, user_id, question, most)
    except RuntimeError as error:
        raise ValueError("no answer") from error


@ANSWERS.wrong("error swallowed")
async def is_not_to_be_cancelled(sessions, ask_model, user_id, question, most):
    try:
        return await in_one_statement_each(sessions, ask_model, user_id, question, most)
    except asyncio.CancelledError:
        return None


@ANSWERS.wrong("others charged")
async def settles_with_everybody(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
        return reply
    finally:
        async with sessions.begin() as session:
            least = func.greatest(0, User.tokens_used + used - most)
            await session.execute(update(User).values(tokens_used=least))


@ANSWERS.wrong("swallowed")
async def takes_any_error_of_the_server_for_no(sessions, ask_model, user_id, question, most):
    try:
        async with sessions.begin() as session:
            if not await reserve(session, user_id, most):
                return None
    except DBAPIError:
        return None
    used = 0
    try:
        reply, used = await ask_model(question)
        return reply
    finally:
        await change(sessions, user_id, used - most)


@ANSWERS.wrong("not told")
async def settles_if_it_can(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    used = 0
    try:
        reply, used = await ask_model(question)
        return reply
    finally:
        with contextlib.suppress(DBAPIError):
            await change(sessions, user_id, used - most)


@ANSWERS.wrong("lost at once")
async def gives_back_what_it_has_read(sessions, ask_model, user_id, question, most):
    async with sessions.begin() as session:
        if not await reserve(session, user_id, most):
            return None
    try:
        reply, used = await ask_model(question)
    except BaseException:
        async with sessions.begin() as session:
            user = await session.get(User, user_id)
            user.tokens_used -= most
        raise
    await change(sessions, user_id, used - most)
    return reply


@ANSWERS.wrong("gave up")
async def two_tries(sessions, ask_model, user_id, question, most):
    async def booked(tokens):
        for _ in range(2):
            async with sessions.begin() as session:
                row = (await session.execute(select(User.tokens_used, User.token_limit).filter_by(id=user_id))).first()
                if row is None or row.tokens_used + tokens > row.token_limit:
                    return False
                still = update(User).where(User.id == user_id, User.tokens_used == row.tokens_used)
                done = await session.execute(still.values(tokens_used=row.tokens_used + tokens))
            if done.rowcount:
                return True
        return False

    for _ in range(2):
        if await booked(most):
            break
    else:
        return None
    used = 0
    try:
        reply, used = await ask_model(question)
        return reply
    finally:
        await change(sessions, user_id, used - most)
