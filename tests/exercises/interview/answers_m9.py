"""Answers to M9, the plan went back."""

from __future__ import annotations

from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("M9")
LATER = "(subscriptions.changed_at, subscriptions.event_id) < (excluded.changed_at, excluded.event_id)"
UPSERT = """
    INSERT INTO subscriptions (user_id, tier, event_id, changed_at) VALUES (:user_id, :tier, :id, :created)
    ON CONFLICT (user_id) DO UPDATE
    SET tier = excluded.tier, event_id = excluded.event_id, changed_at = excluded.changed_at WHERE {}
"""
SEEN = text("SELECT changed_at, event_id FROM subscriptions WHERE user_id = :user_id")
LATER_ONE = text(UPSERT.format(LATER))
ANY = text(UPSERT.format("true"))


async def set_tier(session, event):
    await session.execute(update(User).where(User.id == event["user_id"]).values(tier=event["tier"]))


def upserting(condition):
    """As the solution, with another condition."""
    statement = text(UPSERT.format(condition))

    async def apply_event(sessions, event):
        async with sessions.begin() as session:
            if not (await session.execute(statement, event)).rowcount:
                return False
            await set_tier(session, event)
        return True

    return apply_event


async def looked_first(session, event):
    """Look, then write; whether it was written."""
    seen = (await session.execute(SEEN, event)).first()
    if seen and tuple(seen) >= (event["created"], event["id"]):
        return False
    await session.execute(ANY, event)
    await set_tier(session, event)
    return True


@ANSWERS.right
async def row_of_the_user_first(sessions, event):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == event["user_id"]).with_for_update())
        return await looked_first(session, event)


@ANSWERS.right
async def serializable(sessions, event):
    while True:
        try:
            async with sessions.begin() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                return await looked_first(session, event)
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "40P01", "23505"):
                raise


@ANSWERS.right
async def advisory_lock(sessions, event):
    async with sessions.begin() as session:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:user_id AS text), 0))")
        await session.execute(lock, {"user_id": str(event["user_id"])})
        return await looked_first(session, event)


@ANSWERS.right
async def in_one_statement(sessions, event):
    both = f"""
        WITH applied AS ({UPSERT.format(LATER)} RETURNING user_id, tier)
        UPDATE users SET tier = applied.tier, updated_at = now() FROM applied WHERE users.id = applied.user_id
    """
    async with sessions() as session:
        changed = await session.execute(text(both), event)
        await session.commit()
    return changed.rowcount == 1


@ANSWERS.right
async def row_made_first(sessions, event):
    """An empty row is there to be locked."""
    make = """
        INSERT INTO subscriptions VALUES (:user_id, 'free', 0, '-infinity') ON CONFLICT (user_id) DO NOTHING
    """
    change = """
        UPDATE subscriptions SET tier = :tier, event_id = :id, changed_at = :created
        WHERE user_id = :user_id AND (changed_at < :created OR changed_at = :created AND event_id < :id)
    """
    async with sessions.begin() as session:
        await session.execute(text(make), {"user_id": event["user_id"]})
        applied = (await session.execute(text(change), event)).rowcount > 0
        if applied:
            await set_tier(session, event)
    return applied


@ANSWERS.right
async def copied_from_the_other_table(sessions, event):
    copy = "UPDATE users SET tier = s.tier FROM subscriptions AS s WHERE users.id = s.user_id AND s.user_id = :user_id"
    async with sessions.begin() as session:
        applied = (await session.execute(LATER_ONE, event)).rowcount
        await session.execute(text(copy), {"user_id": event["user_id"]})
    return bool(applied)


ANSWERS.wrong("went back")(upserting("subscriptions.tier <> excluded.tier"))
ANSWERS.wrong("not applied")(upserting("subscriptions.event_id < excluded.event_id"))
ANSWERS.wrong("same second")(upserting("subscriptions.changed_at <= excluded.changed_at"))
ANSWERS.wrong("not applied")(upserting("subscriptions.changed_at < excluded.changed_at"))
ANSWERS.wrong("wrong return")(upserting(LATER.replace("<", "<=")))


@ANSWERS.wrong("two answers")
async def users_whatever_came(sessions, event):
    async with sessions.begin() as session:
        applied = (await session.execute(LATER_ONE, event)).rowcount
        await set_tier(session, event)
    return bool(applied)


@ANSWERS.wrong("two answers")
async def second_transaction(sessions, event):
    async with sessions.begin() as session:
        if not (await session.execute(LATER_ONE, event)).rowcount:
            return False
    async with sessions.begin() as session:
        await set_tier(session, event)
    return True


@ANSWERS.wrong("wrong return")
async def always_true(sessions, event):
    async with sessions.begin() as session:
        if (await session.execute(LATER_ONE, event)).rowcount:
            await set_tier(session, event)
    return True


@ANSWERS.wrong("stale")
async def look_then_write(sessions, event):
    async with sessions.begin() as session:
        return await looked_first(session, event)


@ANSWERS.wrong("collided")
async def locks_what_is_there(sessions, event):
    """Nothing is there before the first event."""
    async with sessions.begin() as session:
        held = text("SELECT changed_at, event_id FROM subscriptions WHERE user_id = :user_id FOR UPDATE")
        seen = (await session.execute(held, event)).first()
        if seen and tuple(seen) >= (event["created"], event["id"]):
            return False
        change = "UPDATE subscriptions SET tier = :tier, event_id = :id, changed_at = :created WHERE user_id = :user_id"
        add = "INSERT INTO subscriptions VALUES (:user_id, :tier, :id, :created)"
        await session.execute(text(change if seen else add), event)
        await set_tier(session, event)
        return True


@ANSWERS.wrong("collided")
async def serializable_without_another_try(sessions, event):
    async with sessions.begin() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        return await looked_first(session, event)


@ANSWERS.wrong("both")
async def duplicate_counts_as_applied(sessions, event):
    """Sees the duplicate only before it has to wait."""
    async with sessions.begin() as session:
        seen = (await session.execute(SEEN, event)).first()
        if seen and tuple(seen) >= (event["created"], event["id"]):
            return False
        applied = (await session.execute(LATER_ONE, event)).rowcount
        if applied:
            await set_tier(session, event)
    return True


@ANSWERS.wrong("wrong record")
async def moment_of_delivery(sessions, event):
    statement = UPSERT.format(LATER).replace(":created)", "clock_timestamp())")
    async with sessions.begin() as session:
        applied = await session.execute(text(statement), {k: v for k, v in event.items() if k != "created"})
        if applied.rowcount:
            await set_tier(session, event)
    return bool(applied.rowcount)


@ANSWERS.wrong("not applied")
async def never_committed(sessions, event):
    async with sessions() as session:
        await session.execute(LATER_ONE, event)
        await set_tier(session, event)
    return True


@ANSWERS.wrong("not a bool")
async def row_count(sessions, event):
    async with sessions.begin() as session:
        applied = (await session.execute(LATER_ONE, event)).rowcount
        if applied:
            await set_tier(session, event)
    return applied


@ANSWERS.wrong("others")
async def everybody_on_that_plan(sessions, event):
    async with sessions.begin() as session:
        applied = (await session.execute(LATER_ONE, event)).rowcount
        if applied:
            await session.execute(update(User).values(tier=event["tier"]))
    return bool(applied)
