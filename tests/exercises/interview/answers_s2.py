"""Answers to S2, the limit that shrinks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

from sqlalchemy import select, text, update

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("S2")
MOST = 800
TASKS = set()


class LimitReached(Exception):
    pass


async def book(sessions, user_id, tokens):
    fits = User.tokens_used + tokens <= User.token_limit
    booking = update(User).where(User.id == user_id, fits)
    booking = booking.values(tokens_used=User.tokens_used + tokens).returning(User.id)
    async with sessions.begin() as session:
        return await session.scalar(booking) is not None


async def reserve(sessions, user_id):
    if not await book(sessions, user_id, MOST):
        raise LimitReached


@ANSWERS.right
async def whatever_was_raised(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used, failed = 0, False
    while True:
        try:
            async with aclosing(ask_model(question)) as pieces:
                async for piece, tokens in pieces:
                    used += tokens
                    yield piece
        except BaseException as error:
            if isinstance(error, Exception) and not (used or failed):
                failed = True
                continue
            await book(sessions, user_id, used - MOST)
            raise
        await book(sessions, user_id, used - MOST)
        return


class Reservation:
    def __init__(self):
        self.used = 0


@asynccontextmanager
async def reservation(sessions, user_id):
    """Given back even if the request is cancelled once more meanwhile."""
    await reserve(sessions, user_id)
    tokens = Reservation()
    try:
        yield tokens
    finally:
        await asyncio.shield(asyncio.ensure_future(book(sessions, user_id, tokens.used - MOST)))


@ANSWERS.right
async def a_context_of_its_own(sessions, ask_model, user_id, question):
    async with reservation(sessions, user_id) as reserved:
        for tries_left in (1, 0):
            try:
                async with aclosing(ask_model(question)) as pieces:
                    async for piece, tokens in pieces:
                        reserved.used += tokens
                        yield piece
                break
            except Exception:
                if reserved.used or not tries_left:
                    raise


@ANSWERS.right
async def a_reservation_for_each_try(sessions, ask_model, user_id, question):
    for last_try in (False, True):
        await reserve(sessions, user_id)
        used = 0
        try:
            async with aclosing(ask_model(question)) as pieces:
                async for piece, tokens in pieces:
                    used += tokens
                    yield piece
            return
        except Exception:
            if last_try or used:
                raise
        finally:
            await book(sessions, user_id, used - MOST)


@ANSWERS.right
async def under_a_row_lock(sessions, ask_model, user_id, question):
    """Read and written back, as long as nobody else may write."""

    async def add(tokens):
        async with sessions.begin() as session:
            user = await session.get_one(User, user_id, with_for_update=True)
            if user.tokens_used + tokens > user.token_limit:
                raise LimitReached
            user.tokens_used += tokens

    await add(MOST)
    left, given = MOST, False
    try:
        for last_try in (False, True):
            try:
                async with aclosing(ask_model(question)) as pieces:
                    async for piece, tokens in pieces:
                        left, given = left - tokens, True
                        yield piece
                break
            except Exception:
                if given or last_try:
                    raise
    finally:
        await add(-left)


async def once_settled(sessions, ask_model, user_id, question, settle, reserve=reserve):
    """The solution, with a way to settle of its own."""
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await settle(sessions, user_id, used - MOST)


@ANSWERS.wrong("model goes on")
async def left_to_be_collected(sessions, ask_model, user_id, question):
    """The money is right in every case."""
    stream = once_settled(sessions, ask_model, user_id, question, book)
    async with aclosing(stream):
        async for piece in stream:
            yield piece


@ANSWERS.wrong("model goes on")
async def closed_where_it_failed(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            pieces = ask_model(question)
            try:
                async for piece, tokens in pieces:
                    used += tokens
                    yield piece
                return
            except Exception:
                await pieces.aclose()
                if last_try or used:
                    raise
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("closed")
async def only_for_cancelled_requests(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used, last_try = 0, False
    while True:
        try:
            async for piece, tokens in ask_model(question):
                used += tokens
                yield piece
        except (Exception, asyncio.CancelledError) as error:
            if not (used or last_try or isinstance(error, asyncio.CancelledError)):
                last_try = True
                continue
            await book(sessions, user_id, used - MOST)
            raise
        await book(sessions, user_id, used - MOST)
        return


@ANSWERS.wrong("cancelled")
async def only_for_readers_that_leave(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used, last_try = 0, False
    while True:
        try:
            async for piece, tokens in ask_model(question):
                used += tokens
                yield piece
        except (Exception, GeneratorExit) as error:
            if not (used or last_try or isinstance(error, GeneratorExit)):
                last_try = True
                continue
            await book(sessions, user_id, used - MOST)
            raise
        await book(sessions, user_id, used - MOST)
        return


@ANSWERS.wrong("twice")
async def only_what_was_reported(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    for last_try in (False, True):
        used = 0
        try:
            async for piece, tokens in ask_model(question):
                used += tokens
                yield piece
            return
        except Exception:
            if last_try or used:
                raise
        finally:
            if not asyncio.current_task().cancelling() or last_try is False:
                await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("closed")
async def all_of_it_given_back(sessions, ask_model, user_id, question):
    """Who leaves reads for nothing."""
    await reserve(sessions, user_id)
    used, over = 0, False
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                over = True
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await book(sessions, user_id, used - MOST if over else -MOST)


@ANSWERS.wrong("closed")
async def counted_when_taken(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    yield piece
                    used += tokens
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("failed")
async def failures_cost_all(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used, failed = 0, None
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception as error:
                if last_try or used:
                    failed = error
                    raise
    finally:
        await book(sessions, user_id, 0 if failed and used else used - MOST)


@ANSWERS.wrong("not tried again")
async def one_try_is_simpler(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        async for piece, tokens in ask_model(question):
            used += tokens
            yield piece
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("asked again")
async def again_whatever_was_said(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try:
                    raise
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("error swallowed")
async def returned_in_finally(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for _ in range(2):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if used:
                    return
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("cancelling swallowed")
async def no_fuss_about_a_cancelled_request(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except asyncio.CancelledError:
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("not reserved")
async def booked_in_the_end(sessions, ask_model, user_id, question):
    async def nothing(sessions, user_id):
        pass

    async def all_of_it(sessions, user_id, rest):
        await book(sessions, user_id, rest + MOST)

    stream = once_settled(sessions, ask_model, user_id, question, all_of_it, nothing)
    async for piece in stream:
        yield piece


@ANSWERS.wrong("not reserved")
async def given_back_before_the_second_try(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used, open_ = 0, True
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
                await book(sessions, user_id, -MOST)
                open_ = False
    finally:
        await book(sessions, user_id, used - MOST if open_ else used)


@ANSWERS.wrong("connection held")
async def one_transaction_for_all(sessions, ask_model, user_id, question):
    used = 0
    async with sessions() as session:
        await reserve(sessions, user_id)
        await session.execute(select(User.id).where(User.id == user_id))
        try:
            async for piece, tokens in ask_model(question):
                used += tokens
                yield piece
        finally:
            await session.rollback()
            await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("overwrote")
async def read_and_written_back(sessions, ask_model, user_id, question):
    async def settle(sessions, user_id, rest):
        async with sessions.begin() as session:
            user = await session.get_one(User, user_id)
            user.tokens_used += rest

    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await settle(sessions, user_id, used - MOST)


@ANSWERS.wrong("overwrote")
async def reserved_from_what_was_read(sessions, ask_model, user_id, question):
    async with sessions.begin() as session:
        user = await session.get_one(User, user_id)
        if user.tokens_used + MOST > user.token_limit:
            raise LimitReached
        await session.execute(update(User).where(User.id == user_id).values(tokens_used=user.tokens_used + MOST))
    used = 0
    try:
        async for piece, tokens in ask_model(question):
            used += tokens
            yield piece
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("settled late")
async def in_a_task(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        task = asyncio.create_task(book(sessions, user_id, used - MOST))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)


@ANSWERS.wrong("not settled")
async def nothing_goes_back(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    async for piece, _ in ask_model(question):
        yield piece


@ANSWERS.wrong("above the limit")
async def silence_above_the_limit(sessions, ask_model, user_id, question):
    if not await book(sessions, user_id, MOST):
        return
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("not asked")
async def one_to_spare(sessions, ask_model, user_id, question):
    fits = User.tokens_used + MOST < User.token_limit
    booking = update(User).where(User.id == user_id, fits).values(tokens_used=User.tokens_used + MOST)
    async with sessions.begin() as session:
        if await session.scalar(booking.returning(User.id)) is None:
            raise LimitReached
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("wrong pieces")
async def empty_end(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        async for piece, tokens in ask_model(question):
            used += tokens
            yield piece
        yield ""
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("wrong question")
async def question_in_a_list(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        async for piece, tokens in ask_model([question]):
            used += tokens
            yield piece
    finally:
        await book(sessions, user_id, used - MOST)


@ANSWERS.wrong("not a generator")
async def all_at_once(sessions, ask_model, user_id, question):
    return [piece async for piece, _ in ask_model(question)]


@ANSWERS.wrong("others charged")
async def everybody_pays(sessions, ask_model, user_id, question):
    await reserve(sessions, user_id)
    used = 0
    try:
        for last_try in (False, True):
            try:
                async for piece, tokens in ask_model(question):
                    used += tokens
                    yield piece
                return
            except Exception:
                if last_try or used:
                    raise
    finally:
        async with sessions.begin() as session:
            back = text("UPDATE users SET tokens_used = greatest(0, tokens_used - :rest) WHERE tokens_used > 0")
            await session.execute(back, {"rest": MOST - used})
