"""Answers to 3.5, retry what can be retried."""

# ruff: noqa: RET503 (a loop at the end of a function, as learners write it)

from __future__ import annotations

import asyncio
import random

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from tests.exercises.written import Answers

ANSWERS = Answers("3.5")
AGAIN = {"40001", "40P01"}


def state(error):
    return getattr(getattr(error, "orig", None), "sqlstate", None)


async def once(sessions, work):
    async with sessions.begin() as session:
        return await work(session)


@ANSWERS.right
async def until_it_is_done(sessions, work, attempts=5):
    while True:
        session = sessions()
        try:
            result = await work(session)
            await session.commit()
            return result
        except Exception as error:
            attempts -= 1
            await session.rollback()
            if state(error) not in AGAIN or attempts == 0:
                raise
        finally:
            await session.close()


@ANSWERS.right
async def a_short_pause(sessions, work, attempts=5):
    for left in reversed(range(attempts)):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if error.orig.sqlstate not in AGAIN or not left:
                raise
        await asyncio.sleep(random.uniform(0, 0.03))


@ANSWERS.right
async def calls_itself(sessions, work, attempts=5):
    try:
        return await once(sessions, work)
    except DBAPIError as error:
        if state(error) not in AGAIN or attempts <= 1:
            raise
    return await calls_itself(sessions, work, attempts - 1)


@ANSWERS.right
async def one_session_many_transactions(sessions, work, attempts=5):
    last = None
    async with sessions() as session:
        for _ in range(attempts):
            try:
                async with session.begin():
                    return await work(session)
            except DBAPIError as error:
                if error.orig.sqlstate not in AGAIN:
                    raise
                last = error
    raise last


@ANSWERS.right
async def by_the_class_of_the_driver(sessions, work, attempts=5):
    import asyncpg

    again = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if not isinstance(error.driver_exception, again) or number + 1 == attempts:
                raise


@ANSWERS.wrong("another value")
async def forgot_return(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            await once(sessions, work)
            break
        except DBAPIError as error:
            if state(error) not in AGAIN or number + 1 == attempts:
                raise


@ANSWERS.wrong("called again")
async def nothing_is_no_result(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            result = await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN or number + 1 == attempts:
                raise
        else:
            if result:
                return result


@ANSWERS.wrong("not committed")
async def forgot_commit(sessions, work, attempts=5):
    async with sessions() as session:
        return await work(session)


@ANSWERS.wrong("not retried")
async def waits_for_operational_errors(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except OperationalError:
            if number + 1 == attempts:
                raise


@ANSWERS.wrong("deadlock not retried")
async def serialization_failures_only(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) != "40001" or number + 1 == attempts:
                raise


@ANSWERS.wrong("commit not covered")
async def commits_outside_of_the_try(sessions, work, attempts=5):
    for number in range(attempts):
        async with sessions() as session:
            try:
                result = await work(session)
            except DBAPIError as error:
                if state(error) not in AGAIN or number + 1 == attempts:
                    raise
                await session.rollback()
                continue
            await session.commit()
            return result


@ANSWERS.wrong("same transaction")
async def forgot_the_rollback(sessions, work, attempts=5):
    async with sessions() as session:
        for number in range(attempts):
            try:
                result = await work(session)
                await session.commit()
                return result
            except DBAPIError as error:
                if state(error) not in AGAIN or number + 1 == attempts:
                    raise


@ANSWERS.wrong("same transaction")
async def back_to_a_savepoint(sessions, work, attempts=5):
    async with sessions.begin() as session:
        for number in range(attempts):
            try:
                async with session.begin_nested():
                    return await work(session)
            except DBAPIError as error:
                if state(error) not in AGAIN or number + 1 == attempts:
                    raise


@ANSWERS.wrong("not rolled back")
async def commits_in_any_case(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            async with sessions() as session:
                try:
                    return await work(session)
                finally:
                    await session.commit()
        except DBAPIError as error:
            if state(error) not in AGAIN or number + 1 == attempts:
                raise


@ANSWERS.wrong("conflict swallowed")
async def runs_out_of_attempts(sessions, work, attempts=5):
    for _ in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN:
                raise


@ANSWERS.wrong("error swallowed")
async def raises_the_last_one_only(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN:
                return None
            if number + 1 == attempts:
                raise


@ANSWERS.wrong("retried for nothing")
async def any_error_of_the_database(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except SQLAlchemyError:
            if number + 1 == attempts:
                raise


@ANSWERS.wrong("not retried")
async def looks_at_the_text(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            again = "could not serialize" in str(error) or "deadlock" in str(error)
            if not again or number + 1 == attempts:
                raise


@ANSWERS.wrong("another error")
async def in_its_own_words(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN:
                raise RuntimeError("the transaction failed") from error
            if number + 1 == attempts:
                raise


@ANSWERS.wrong("another error")
async def too_many_attempts(sessions, work, attempts=5):
    for _ in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN:
                raise
    raise RuntimeError("too many attempts")


@ANSWERS.wrong("another error")
async def every_error_has_an_orig(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except Exception as error:
            if error.orig.sqlstate not in AGAIN or number + 1 == attempts:
                raise


@ANSWERS.wrong("gave up at the wrong time")
async def once_more_than_allowed(sessions, work, attempts=5):
    for number in range(attempts + 1):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN or number == attempts:
                raise


@ANSWERS.wrong("gave up at the wrong time")
async def always_five(sessions, work, attempts=5):
    return await a_short_pause(sessions, work)


@ANSWERS.wrong("not the last error")
async def raises_the_first(sessions, work, attempts=5):
    first = None
    for _ in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN:
                raise
            first = first or error
    raise first


@ANSWERS.wrong("connections held")
async def calls_itself_inside_of_the_block(sessions, work, attempts=5):
    async with sessions() as session:
        try:
            result = await work(session)
            await session.commit()
            return result
        except DBAPIError as error:
            if state(error) not in AGAIN or attempts <= 1:
                raise
            return await calls_itself_inside_of_the_block(sessions, work, attempts - 1)


@ANSWERS.wrong("long pause")
async def counts_to_three(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            if state(error) not in AGAIN or number + 1 == attempts:
                raise
        await asyncio.sleep(1.2)


@ANSWERS.wrong("retried for nothing")
async def code_or_text(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            again = state(error) in AGAIN or "could not serialize" in str(error)
            if not again or number + 1 == attempts:
                raise


@ANSWERS.wrong("retried for nothing")
async def the_whole_class(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            again = (state(error) or "").startswith("40")
            if not again or number + 1 == attempts:
                raise


@ANSWERS.wrong("retried for nothing")
async def a_lock_too(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            again = state(error) in {*AGAIN, "55P03"}
            if not again or number + 1 == attempts:
                raise


@ANSWERS.wrong("retried for nothing")
async def a_lost_connection_too(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            again = state(error) in AGAIN or error.connection_invalidated
            if not again or number + 1 == attempts:
                raise


@ANSWERS.wrong("retried for nothing")
async def looks_at_the_cause(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except Exception as error:
            again = state(error) in AGAIN or state(error.__cause__) in AGAIN
            if not again or number + 1 == attempts:
                raise


@ANSWERS.wrong("long pause")
async def twice_as_long_each_time(sessions, work, attempts=5):
    for number in range(attempts):
        try:
            return await once(sessions, work)
        except DBAPIError as error:
            again = state(error) in AGAIN
            if not again or number + 1 == attempts:
                raise
        await asyncio.sleep(0.001 * 2**number)
