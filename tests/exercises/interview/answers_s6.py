"""Answers to S6, posting stalls at night."""

from __future__ import annotations

import asyncio
from functools import partial

from sqlalchemy import func, select, text, update

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("S6")
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:id AS text), 0))")
CLAIM = text("""
    UPDATE users SET tokens_used = 0 WHERE id = :id AND tokens_used > 0 RETURNING old.tokens_used AS used, email
""")
_guard = asyncio.Lock()


async def one_by_one(sessions, user_ids, bill_one):
    total = 0
    for user_id in user_ids:
        async with sessions.begin() as session:
            total += await bill_one(session, user_id)
    return total


async def locked(send_invoice, session, user_id, **lock):
    user = await session.get(User, user_id, with_for_update=lock or None)
    if not user.tokens_used:
        return 0
    used = user.tokens_used
    await send_invoice(user.email, used)
    user.tokens_used = 0
    return used


@ANSWERS.right
async def weaker_lock(sessions, send_invoice, user_ids):
    return await one_by_one(sessions, user_ids, partial(locked, send_invoice, key_share=True))


@ANSWERS.right
async def advisory_lock(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        await session.execute(LOCK, {"id": str(user_id)})
        email, used = (await session.execute(select(User.email, User.tokens_used).where(User.id == user_id))).one()
        if used:
            await send_invoice(email, used)
            less = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used - used)
            await session.execute(less)
        return used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.right
async def claimed_first_and_put_back(sessions, send_invoice, user_ids):
    total = 0
    for user_id in user_ids:
        async with sessions.begin() as session:
            claimed = (await session.execute(CLAIM, {"id": user_id})).one_or_none()
        if claimed is None:
            continue
        try:
            await send_invoice(claimed.email, claimed.used)
        except BaseException:
            async with sessions.begin() as session:
                back = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used + claimed.used)
                await session.execute(back)
            raise
        total += claimed.used
    return total


@ANSWERS.right
async def updated_before_it_is_sent(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        claimed = (await session.execute(CLAIM, {"id": user_id})).one_or_none()
        if claimed is None:
            return 0
        await send_invoice(claimed.email, claimed.used)
        return claimed.used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.right
async def leaves_it_to_the_other_run(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        found = select(User).where(User.id == user_id, User.tokens_used > 0)
        user = await session.scalar(found.with_for_update(key_share=True, skip_locked=True))
        if user is None:
            return 0
        used = user.tokens_used
        await send_invoice(user.email, used)
        user.tokens_used -= used
        return used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("stalled")
async def only_commits_each(sessions, send_invoice, user_ids):
    return await one_by_one(sessions, user_ids, partial(locked, send_invoice, read=False))


@ANSWERS.wrong("stalled")
async def all_locked_first(sessions, send_invoice, user_ids):
    async with sessions.begin() as session:
        rows = select(User).where(User.id.in_(user_ids), User.tokens_used > 0).order_by(User.id)
        total = 0
        for user in await session.scalars(rows.with_for_update()):
            await send_invoice(user.email, user.tokens_used)
            total += user.tokens_used
            user.tokens_used = 0
    return total


@ANSWERS.wrong("others wait")
async def table_locked(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        await session.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))
        return await locked(send_invoice, session, user_id, key_share=True)

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("invoiced again")
async def one_transaction_for_all(sessions, send_invoice, user_ids):
    async with sessions.begin() as session:
        return sum([await locked(send_invoice, session, user_id, key_share=True) for user_id in user_ids])


@ANSWERS.wrong("invoiced twice")
async def no_lock(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        email, used = (await session.execute(select(User.email, User.tokens_used).where(User.id == user_id))).one()
        if used:
            await send_invoice(email, used)
            less = func.greatest(User.tokens_used - used, 0)
            await session.execute(update(User).where(User.id == user_id).values(tokens_used=less))
        return used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("invoiced twice")
async def let_go_before_the_invoice(sessions, send_invoice, user_ids):
    total = 0
    for user_id in user_ids:
        async with sessions.begin() as session:
            user = await session.get(User, user_id, with_for_update={"key_share": True})
        if user.tokens_used:
            await send_invoice(user.email, user.tokens_used)
            async with sessions.begin() as session:
                left = func.greatest(User.tokens_used - user.tokens_used, 0)
                await session.execute(update(User).where(User.id == user_id).values(tokens_used=left))
            total += user.tokens_used
    return total


@ANSWERS.wrong("failed at once")
async def not_patient(sessions, send_invoice, user_ids):
    return await one_by_one(sessions, user_ids, partial(locked, send_invoice, key_share=True, nowait=True))


@ANSWERS.wrong("in this process")
async def lock_of_python(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        email, used = (await session.execute(select(User.email, User.tokens_used).where(User.id == user_id))).one()
        if used:
            await send_invoice(email, used)
            less = update(User).where(User.id == user_id).values(tokens_used=User.tokens_used - used)
            await session.execute(less)
        return used

    async with _guard:
        return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("tokens lost")
async def set_to_nothing(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        await session.execute(LOCK, {"id": str(user_id)})
        email, used = (await session.execute(select(User.email, User.tokens_used).where(User.id == user_id))).one()
        if used:
            await send_invoice(email, used)
            await session.execute(update(User).where(User.id == user_id).values(tokens_used=0))
        return used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("tokens kept")
async def only_if_nothing_was_spent(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        await session.execute(LOCK, {"id": str(user_id)})
        email, used = (await session.execute(select(User.email, User.tokens_used).where(User.id == user_id))).one()
        if used:
            await send_invoice(email, used)
            same = update(User).where(User.id == user_id, User.tokens_used == used)
            await session.execute(same.values(tokens_used=0))
        return used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("refused and gone")
async def claimed_and_not_put_back(sessions, send_invoice, user_ids):
    total = 0
    for user_id in user_ids:
        async with sessions.begin() as session:
            claimed = (await session.execute(CLAIM, {"id": user_id})).one_or_none()
        if claimed is not None:
            await send_invoice(claimed.email, claimed.used)
            total += claimed.used
    return total


@ANSWERS.wrong("error swallowed")
async def goes_on_silently(sessions, send_invoice, user_ids):
    total = 0
    for user_id in user_ids:
        try:
            total += await weaker_lock(sessions, send_invoice, [user_id])
        except RuntimeError:
            continue
    return total


@ANSWERS.wrong("another error")
async def renames_the_error(sessions, send_invoice, user_ids):
    try:
        return await weaker_lock(sessions, send_invoice, user_ids)
    except RuntimeError as error:
        raise ValueError("billing failed") from error


@ANSWERS.wrong("empty invoice")
async def bills_nothing_too(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        user = await session.get(User, user_id, with_for_update={"key_share": True})
        used = user.tokens_used
        await send_invoice(user.email, used)
        user.tokens_used = 0
        return used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("unknown address")
async def billed_to_the_name(sessions, send_invoice, user_ids):
    async def bill_one(session, user_id):
        claimed = (await session.execute(CLAIM, {"id": user_id})).one_or_none()
        if claimed is None:
            return 0
        await send_invoice(f"billing+{claimed.email}", claimed.used)
        return claimed.used

    return await one_by_one(sessions, user_ids, bill_one)


@ANSWERS.wrong("not invoiced")
async def only_the_first(sessions, send_invoice, user_ids):
    return await weaker_lock(sessions, send_invoice, user_ids[:1])


@ANSWERS.wrong("wrong invoice")
async def sent_twice(sessions, send_invoice, user_ids):
    async def send_and_remind(email, used):
        await send_invoice(email, used)
        await send_invoice(email, used)

    return await weaker_lock(sessions, send_and_remind, user_ids)


@ANSWERS.wrong("wrong count")
async def counts_users(sessions, send_invoice, user_ids):
    await weaker_lock(sessions, send_invoice, user_ids)
    return len(user_ids)


@ANSWERS.wrong("strangers")
async def everybody_starts_anew(sessions, send_invoice, user_ids):
    total = await weaker_lock(sessions, send_invoice, user_ids)
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.id.not_in(user_ids)).values(tokens_used=0))
    return total
