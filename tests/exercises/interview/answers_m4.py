"""Answers to M4, charged twice."""

from __future__ import annotations

import asyncio
from random import random
from uuid import uuid4

from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("M4")
CENTS = {"free": 3, "pro": 2, "team": 1}
RAISING = text("UPDATE users SET token_limit = token_limit + :tokens WHERE id = :id")


def overtaken(error):
    return getattr(error.orig, "sqlstate", None) == "40001"


async def price(sessions, user_id, thousands):
    async with sessions() as session:
        user = await session.get(User, user_id)
        return user.email, CENTS[user.tier] * thousands


async def charged(sessions, payments, user_id, thousands):
    return await payments.charge(*await price(sessions, user_id, thousands), key=uuid4().hex)


async def add(sessions, user_id, tokens, tries=3):
    for left in reversed(range(tries)):
        try:
            async with sessions.begin() as session:
                (await session.get(User, user_id)).token_limit += tokens
            return
        except DBAPIError as error:
            if not overtaken(error) or not left:
                raise
            await asyncio.sleep(0.01 * random())


async def all_in_one(sessions, payments, user_id, thousands, key):
    """The block as it was found, with one key."""
    async with sessions.begin() as session:
        user = await session.get(User, user_id)
        receipt = await payments.charge(user.email, CENTS[user.tier] * thousands, key=key)
        user.token_limit += 1000 * thousands
    return receipt


@ANSWERS.right
async def one_key_for_all_tries(sessions, payments, user_id, thousands):
    key, receipt, left = uuid4().hex, None, 3
    while True:
        left -= 1
        try:
            async with sessions.begin() as session:
                user = await session.get(User, user_id)
                receipt = await payments.charge(user.email, CENTS[user.tier] * thousands, key)
                user.token_limit += 1000 * thousands
            return receipt
        except BaseException as error:
            if left and isinstance(error, DBAPIError) and overtaken(error):
                continue
            if receipt is not None:
                await payments.refund(receipt)
            raise


@ANSWERS.right
async def one_statement_at_read_committed(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        async with sessions() as session:
            await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
            raised = await session.execute(RAISING, {"tokens": 1000 * thousands, "id": user_id})
            if not raised.rowcount:
                raise LookupError("the user is gone")
            await session.commit()
    except BaseException:
        await payments.refund(receipt)
        raise
    return receipt


@ANSWERS.right
async def the_row_locked_at_read_committed(sessions, payments, user_id, thousands):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        user = await session.get(User, user_id, with_for_update=True)
        receipt = await payments.charge(user.email, CENTS[user.tier] * thousands, uuid4().hex)
        try:
            user.token_limit += 1000 * thousands
            await session.commit()
        except BaseException:
            await payments.refund(receipt)
            raise
        return receipt


def as_often_as_it_takes(lost=BaseException, looks=True):
    """Right but for what is said: the errors after which the money goes back, and whether it looks for the user."""

    async def buy_tokens(sessions, payments, user_id, thousands):
        receipt = await charged(sessions, payments, user_id, thousands)
        while True:
            try:
                async with sessions.begin() as session:
                    raised = await session.execute(RAISING, {"tokens": 1000 * thousands, "id": user_id})
                    if looks and raised.rowcount != 1:
                        raise LookupError("the user is gone")
                return receipt
            except lost as error:
                if not (isinstance(error, DBAPIError) and overtaken(error)):
                    await payments.refund(receipt)
                    raise

    return buy_tokens


ANSWERS.right(as_often_as_it_takes())
ANSWERS.wrong("user gone")(as_often_as_it_takes(looks=False))
ANSWERS.wrong("user gone")(as_often_as_it_takes(lost=DBAPIError))
ANSWERS.wrong("cancelled")(as_often_as_it_takes(lost=Exception))


@ANSWERS.right
async def stored_or_given_back_before_the_cancelling_is_told(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    ending = asyncio.ensure_future(stored_or_given_back(sessions, payments, user_id, thousands, receipt))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        raise
    return receipt


@ANSWERS.wrong("cancelled")
async def goes_on_by_itself_and_forgets_the_money(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        await add(sessions, user_id, 1000 * thousands)
    except Exception:
        await payments.refund(receipt)
        raise
    return receipt


@ANSWERS.wrong("charged twice")
async def as_often_as_it_takes_with_the_payment(sessions, payments, user_id, thousands):
    while True:
        try:
            return await all_in_one(sessions, payments, user_id, thousands, uuid4().hex)
        except DBAPIError as error:
            if not overtaken(error):
                raise


@ANSWERS.wrong("charged twice")
async def given_back_before_each_try(sessions, payments, user_id, thousands):
    while True:
        receipt = await charged(sessions, payments, user_id, thousands)
        try:
            await add(sessions, user_id, 1000 * thousands, tries=1)
        except DBAPIError as error:
            await payments.refund(receipt)
            if not overtaken(error):
                raise
        else:
            return receipt


@ANSWERS.wrong("paid for nothing")
async def one_key_and_the_loop_ends(sessions, payments, user_id, thousands):
    key = uuid4().hex
    for _ in range(3):
        try:
            return await all_in_one(sessions, payments, user_id, thousands, key)
        except DBAPIError as error:
            if not overtaken(error):
                raise
    return None


@ANSWERS.wrong("not stored")
async def silent_at_the_first_conflict(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        await add(sessions, user_id, 1000 * thousands, tries=1)
    except DBAPIError as error:
        if not overtaken(error):
            await payments.refund(receipt)
            raise
    return receipt


@ANSWERS.wrong("paid for nothing")
async def raised_without_a_refund(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    await add(sessions, user_id, 1000 * thousands)
    return receipt


@ANSWERS.wrong("not refunded")
async def refund_after_conflicts_only(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        await add(sessions, user_id, 1000 * thousands)
    except DBAPIError as error:
        if overtaken(error):
            await payments.refund(receipt)
        raise
    return receipt


@ANSWERS.wrong("gave up")
async def no_second_try(sessions, payments, user_id, thousands):
    async with sessions() as session:
        user = await session.get(User, user_id)
        receipt = await payments.charge(user.email, CENTS[user.tier] * thousands, uuid4().hex)
        try:
            user.token_limit += 1000 * thousands
            await session.commit()
        except BaseException:
            await payments.refund(receipt)
            raise
        return receipt


@ANSWERS.wrong("gave up")
async def one_statement_and_no_second_try(sessions, payments, user_id, thousands):
    """At SERIALIZABLE one statement conflicts as well, when it had to wait for the row."""
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        async with sessions.begin() as session:
            await session.execute(RAISING, {"tokens": 1000 * thousands, "id": user_id})
    except DBAPIError:
        await payments.refund(receipt)
        raise
    return receipt


@ANSWERS.wrong("not once")
async def another_payment_to_be_sure(sessions, payments, user_id, thousands):
    await charged(sessions, payments, user_id, thousands)
    return await stored_or_given_back(
        sessions, payments, user_id, thousands, await charged(sessions, payments, user_id, thousands)
    )


@ANSWERS.wrong("not once")
async def a_key_of_what_is_bought(sessions, payments, user_id, thousands):
    email, cents = await price(sessions, user_id, thousands)
    receipt = await payments.charge(email, cents, f"{user_id}/{thousands}")
    await add(sessions, user_id, 1000 * thousands)
    return receipt


@ANSWERS.wrong("two at once")
async def a_key_of_the_row_as_it_was(sessions, payments, user_id, thousands):
    async with sessions() as session:
        user = await session.get(User, user_id)
    key = f"{user_id}/{user.token_limit}/{thousands}"
    receipt = await payments.charge(user.email, CENTS[user.tier] * thousands, key)
    return await stored_or_given_back(sessions, payments, user_id, thousands, receipt)


@ANSWERS.wrong("lost update")
async def read_early_at_a_weaker_level(sessions, payments, user_id, thousands):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        user = await session.get(User, user_id)
        receipt = await payments.charge(user.email, CENTS[user.tier] * thousands, uuid4().hex)
        user.token_limit += 1000 * thousands
        await session.commit()
        return receipt


@ANSWERS.wrong("before paid")
async def stored_first(sessions, payments, user_id, thousands):
    await add(sessions, user_id, 1000 * thousands)
    try:
        return await charged(sessions, payments, user_id, thousands)
    except RuntimeError:
        await add(sessions, user_id, -1000 * thousands)
        raise


@ANSWERS.wrong("refunded")
async def always_given_back(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        await add(sessions, user_id, 1000 * thousands)
    finally:
        await payments.refund(receipt)
    return receipt


@ANSWERS.wrong("refunded twice")
async def given_back_here_and_there(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        await stored_or_given_back(sessions, payments, user_id, thousands, receipt)
    except DBAPIError:
        await payments.refund(receipt)
        raise
    return receipt


@ANSWERS.wrong("error swallowed")
async def refunded_and_silent(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    try:
        await add(sessions, user_id, 1000 * thousands)
    except DBAPIError:
        await payments.refund(receipt)
        return None
    return receipt


@ANSWERS.wrong("another error")
async def declined_and_wrapped(sessions, payments, user_id, thousands):
    try:
        receipt = await charged(sessions, payments, user_id, thousands)
    except RuntimeError as error:
        raise ValueError("try another card") from error
    return await stored_or_given_back(sessions, payments, user_id, thousands, receipt)


async def stored_or_given_back(sessions, payments, user_id, thousands, receipt):
    try:
        await add(sessions, user_id, 1000 * thousands)
    except BaseException:
        await payments.refund(receipt)
        raise
    return receipt


@ANSWERS.wrong("given for nothing")
async def stored_whatever_the_bank_says(sessions, payments, user_id, thousands):
    refused = None
    try:
        receipt = await charged(sessions, payments, user_id, thousands)
    except RuntimeError as error:
        receipt, refused = None, error
    if receipt is None:
        await add(sessions, user_id, 1000 * thousands)
        raise refused
    return await stored_or_given_back(sessions, payments, user_id, thousands, receipt)


@ANSWERS.wrong("wrong payment")
async def the_price_of_a_single_one(sessions, payments, user_id, thousands):
    email, cents = await price(sessions, user_id, 1)
    receipt = await payments.charge(email, cents, uuid4().hex)
    await add(sessions, user_id, 1000 * thousands)
    return receipt


@ANSWERS.wrong("not stored")
async def thousands_forgotten(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    await add(sessions, user_id, thousands)
    return receipt


@ANSWERS.wrong("wrong return")
async def nothing_said(sessions, payments, user_id, thousands):
    await charged(sessions, payments, user_id, thousands)
    await add(sessions, user_id, 1000 * thousands)


@ANSWERS.wrong("others changed")
async def everybody_gets_some(sessions, payments, user_id, thousands):
    receipt = await charged(sessions, payments, user_id, thousands)
    async with sessions.begin() as session:
        await session.execute(update(User).values(token_limit=User.token_limit + 1000 * thousands))
    return receipt
