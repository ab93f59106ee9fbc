"""Answers to 3.6, one key must remain."""

from __future__ import annotations

import asyncio

from sqlalchemy import delete, exists, func, or_, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from course_lib.models import ApiKey, User
from tests.exercises.written import Answers

ANSWERS = Answers("3.6")
ACTIVE = ApiKey.revoked_at.is_(None)


def owner_of(key_id):
    return select(ApiKey.user_id).where(ApiKey.id == key_id).scalar_subquery()


def active_keys(key_id):
    return select(func.count()).select_from(ApiKey).where(ApiKey.user_id == owner_of(key_id), ACTIVE)


def revoking(key_id):
    return update(ApiKey).where(ApiKey.id == key_id, ACTIVE).values(revoked_at=func.now())


async def count_then_revoke(session, key_id):
    """What nearly all answers do, each with another protection around it, or with none."""
    if await session.scalar(active_keys(key_id)) < 2:
        return False
    return (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.right
async def user_locked(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        return await count_then_revoke(session, key_id)


@ANSWERS.right
async def user_locked_through_the_orm(sessions, key_id):
    async with sessions() as session:
        key = await session.get(ApiKey, key_id)
        if key is None:
            return False
        await session.get(User, key.user_id, with_for_update=True)
        keys = (await session.scalars(select(ApiKey).where(ApiKey.user_id == key.user_id, ACTIVE))).all()
        if len(keys) < 2 or key not in keys:
            return False
        key.revoked_at = func.now()
        await session.commit()
        return True


@ANSWERS.right
async def all_keys_locked(sessions, key_id):
    async with sessions.begin() as session:
        mine = select(ApiKey.id).where(ApiKey.user_id == owner_of(key_id), ACTIVE).order_by(ApiKey.id)
        keys = (await session.scalars(mine.with_for_update())).all()
        if key_id not in keys or len(keys) == 1:
            return False
        await session.execute(revoking(key_id))
        return True


@ANSWERS.right
async def all_keys_locked_in_one_statement(sessions, key_id):
    sql = """
        WITH active AS (
            SELECT id FROM api_keys
            WHERE user_id = (SELECT user_id FROM api_keys WHERE id = :id) AND revoked_at IS NULL
            ORDER BY id FOR UPDATE
        )
        UPDATE api_keys SET revoked_at = now()
        WHERE id = :id AND id IN (SELECT id FROM active) AND (SELECT count(*) FROM active) > 1
        RETURNING id
    """
    async with sessions.begin() as session:
        return (await session.scalar(text(sql), {"id": key_id})) is not None


@ANSWERS.right
async def serializable_and_tried_again(sessions, key_id):
    while True:
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                revoked = await count_then_revoke(session, key_id)
                await session.commit()
                return revoked
        except DBAPIError as error:
            if error.orig.sqlstate != "40001":
                raise


@ANSWERS.right
async def serializable_three_tries(sessions, key_id):
    for last in (False, False, True):
        async with sessions() as session:
            await session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            try:
                revoked = await count_then_revoke(session, key_id)
                await session.commit()
            except DBAPIError as error:
                await session.rollback()
                if last or error.orig.sqlstate != "40001":
                    raise
            else:
                return revoked
    return None


@ANSWERS.right
async def advisory_lock(sessions, key_id):
    async with sessions.begin() as session:
        user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(user_id), 36))))
        return await count_then_revoke(session, key_id)


@ANSWERS.right
async def advisory_lock_by_trying(sessions, key_id):
    while True:
        async with sessions.begin() as session:
            user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))
            if await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext(str(user_id))))):
                return await count_then_revoke(session, key_id)
        await asyncio.sleep(0.02)


@ANSWERS.right
async def user_touched_first(sessions, key_id):
    """An UPDATE of the user's row locks it as well; for nothing it is not to be seen."""
    async with sessions() as session:
        await session.execute(update(User).where(User.id == owner_of(key_id)).values(updated_at=func.now()))
        keep = select(ApiKey.id).where(ApiKey.user_id == owner_of(key_id), ACTIVE, ApiKey.id != key_id)
        statement = revoking(key_id).where(exists(keep)).returning(ApiKey.id)
        revoked = (await session.execute(statement)).first() is not None
        await (session.commit() if revoked else session.rollback())
        return revoked


@ANSWERS.right
async def optimistic(sessions, key_id):
    """Locks nothing while it looks, and notices at the end that another one was faster."""
    while True:
        async with sessions() as session:
            owner = select(User.id, User.updated_at).where(User.id == owner_of(key_id))
            seen = (await session.execute(owner)).one_or_none()
            if seen is None or await session.scalar(active_keys(key_id)) < 2:
                return False
            unchanged = update(User).where(User.id == seen.id, User.updated_at == seen.updated_at)
            if (await session.execute(unchanged.values(updated_at=func.clock_timestamp()))).rowcount == 1:
                revoked = (await session.execute(revoking(key_id))).rowcount == 1
                await (session.commit() if revoked else session.rollback())
                return revoked


@ANSWERS.right
async def tried_again_after_a_deadlock(sessions, key_id):
    """Locks another key that must stay. Two of them may deadlock; the server ends that, and one tries again."""
    while True:
        try:
            async with sessions.begin() as session:
                another = select(ApiKey.id).where(ApiKey.user_id == owner_of(key_id), ACTIVE, ApiKey.id != key_id)
                if await session.scalar(another.limit(1).with_for_update()) is None:
                    return False
                return (await session.execute(revoking(key_id))).rowcount == 1
        except DBAPIError as error:
            if error.orig.sqlstate != "40P01":
                raise


@ANSWERS.wrong("nothing returned")
async def forgot_return(sessions, key_id):
    await user_locked(sessions, key_id)


@ANSWERS.wrong("not a bool")
async def returns_rowcount(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        if await session.scalar(active_keys(key_id)) < 2:
            return 0
        return (await session.execute(revoking(key_id))).rowcount


@ANSWERS.wrong("refused")
async def keeps_two(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        if await session.scalar(active_keys(key_id)) <= 2:
            return False
        return (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.wrong("not committed")
async def forgot_commit(sessions, key_id):
    async with sessions() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        return await count_then_revoke(session, key_id)


@ANSWERS.wrong("false no")
async def asks_after_the_change(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        if await session.scalar(active_keys(key_id)) > 1:
            await session.execute(revoking(key_id))
        return (await session.get(ApiKey, key_id)).revoked_at is None


@ANSWERS.wrong("row deleted")
async def deletes_the_row(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        if await session.scalar(active_keys(key_id)) < 2:
            return False
        return (await session.execute(delete(ApiKey).where(ApiKey.id == key_id))).rowcount == 1


@ANSWERS.wrong("other keys")
async def revokes_the_others(sessions, key_id):
    async with sessions.begin() as session:
        user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id).with_for_update())
        others = update(ApiKey).where(ApiKey.user_id == user_id, ApiKey.id != key_id, ACTIVE)
        return (await session.execute(others.values(revoked_at=func.now()))).rowcount > 0


@ANSWERS.wrong("other users")
async def touches_everybody(sessions, key_id):
    async with sessions() as session:
        await session.execute(update(User).values(updated_at=func.now()))
        revoked = await count_then_revoke(session, key_id)
        await (session.commit() if revoked else session.rollback())
        return revoked


@ANSWERS.wrong("last key revoked")
async def only_revokes(sessions, key_id):
    async with sessions.begin() as session:
        return (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.wrong("counted revoked ones")
async def counts_all_of_the_user(sessions, key_id):
    async with sessions.begin() as session:
        user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))
        await session.execute(select(User.id).where(User.id == user_id).with_for_update())
        count = await session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id))
        return count > 1 and (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.wrong("counted everybody's")
async def counts_active_ones_of_all(sessions, key_id):
    async with sessions.begin() as session:
        count = await session.scalar(select(func.count()).select_from(ApiKey).where(ACTIVE))
        return count > 1 and (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.wrong("false yes")
async def always_true(sessions, key_id):
    await user_locked(sessions, key_id)
    return True


@ANSWERS.wrong("a moment without")
async def commits_then_looks(sessions, key_id):
    async with sessions() as session:
        user_id = await session.scalar(revoking(key_id).returning(ApiKey.user_id))
        await session.commit()
        if user_id is None:
            return False
        if await session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id, ACTIVE)):
            return True
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=None))
        await session.commit()
        return False


@ANSWERS.wrong("revoked twice")
async def does_not_ask_if_revoked(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        if await session.scalar(active_keys(key_id)) < 2:
            return False
        again = update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.now())
        return (await session.execute(again)).rowcount == 1


@ANSWERS.wrong("revoked twice")
async def true_because_it_is_revoked(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        if await session.scalar(active_keys(key_id)) > 1:
            await session.execute(revoking(key_id))
        return await session.scalar(select(ApiKey.revoked_at.is_not(None)).where(ApiKey.id == key_id)) or False


@ANSWERS.wrong("unknown key")
async def none_has_no_owner(sessions, key_id):
    async with sessions.begin() as session:
        key = await session.get(ApiKey, key_id)
        await session.get(User, key.user_id, with_for_update=True)
        return await count_then_revoke(session, key_id)


@ANSWERS.wrong("both revoked")
async def counts_first(sessions, key_id):
    async with sessions.begin() as session:
        return await count_then_revoke(session, key_id)


@ANSWERS.wrong("both revoked")
async def user_locked_under_an_old_snapshot(sessions, key_id):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        revoked = await count_then_revoke(session, key_id)
        await session.commit()
        return revoked


@ANSWERS.wrong("both revoked")
async def counted_before_the_lock(sessions, key_id):
    async with sessions.begin() as session:
        count = await session.scalar(active_keys(key_id))
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        return count > 1 and (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.wrong("both revoked")
async def everybody_else_locked(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id != owner_of(key_id)).with_for_update())
        return await count_then_revoke(session, key_id)


@ANSWERS.wrong("checked in the UPDATE")
async def exists_in_the_update(sessions, key_id):
    async with sessions.begin() as session:
        another = exists().where(ApiKey.user_id == owner_of(key_id), ACTIVE, ApiKey.id != key_id)
        keys = select(ApiKey.id).where(another.correlate(None))
        statement = revoking(key_id).where(ApiKey.id.in_(keys))
        result = await session.execute(statement, execution_options={"synchronize_session": False})
        return result.rowcount == 1


@ANSWERS.wrong("checked in the UPDATE")
async def user_locked_in_the_same_statement(sessions, key_id):
    """The snapshot is that of the statement, taken before the lock was had."""
    sql = """
        WITH owner AS (
            SELECT u.id FROM users AS u JOIN api_keys AS k ON k.user_id = u.id WHERE k.id = :id FOR UPDATE OF u
        )
        UPDATE api_keys SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL
        AND 1 < (SELECT count(*) FROM api_keys AS k JOIN owner ON k.user_id = owner.id WHERE k.revoked_at IS NULL)
    """
    async with sessions.begin() as session:
        return (await session.execute(text(sql), {"id": key_id})).rowcount == 1


@ANSWERS.wrong("nobody")
async def gives_up_at_a_lock(sessions, key_id):
    """Both look whether another key is free, and both find it locked."""
    async with sessions.begin() as session:
        if await session.get(ApiKey, key_id, with_for_update=True) is None:
            return False
        another = select(ApiKey.id).where(ApiKey.user_id == owner_of(key_id), ACTIVE, ApiKey.id != key_id)
        if await session.scalar(another.with_for_update(skip_locked=True)) is None:
            return False
        return (await session.execute(revoking(key_id))).rowcount == 1


@ANSWERS.wrong("false answers")
async def error_swallowed(sessions, key_id):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        revoked = await count_then_revoke(session, key_id)
        try:
            await session.commit()
        except (DBAPIError, OperationalError):
            await session.rollback()
        return revoked


@ANSWERS.wrong("not tried again")
async def serializable_once(sessions, key_id):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        revoked = await count_then_revoke(session, key_id)
        await session.commit()
        return revoked


@ANSWERS.wrong("raised")
async def only_the_commit_again(sessions, key_id):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        revoked = await count_then_revoke(session, key_id)
        try:
            await session.commit()
        except DBAPIError:
            await session.commit()
        return revoked


@ANSWERS.wrong("deadlock")
async def shared_locks(sessions, key_id):
    async with sessions.begin() as session:
        mine = select(ApiKey.id).where(ApiKey.user_id == owner_of(key_id), ACTIVE).order_by(ApiKey.id)
        keys = (await session.scalars(mine.with_for_update(read=True))).all()
        if key_id not in keys or len(keys) == 1:
            return False
        await session.execute(revoking(key_id))
        return True


@ANSWERS.wrong("deadlock")
async def own_key_locked_then_all(sessions, key_id):
    async with sessions.begin() as session:
        key = await session.get(ApiKey, key_id, with_for_update=True)
        if key is None or key.revoked_at:
            return False
        mine = select(ApiKey).where(ApiKey.user_id == key.user_id, ACTIVE).order_by(ApiKey.id)
        if len((await session.scalars(mine.with_for_update())).all()) < 2:
            return False
        key.revoked_at = func.now()
        return True


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("locked in this process")
async def lock_of_python(sessions, key_id):
    async with LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()), sessions.begin() as session:
        return await count_then_revoke(session, key_id)


@ANSWERS.wrong("counted revoked ones")
async def revoked_later_is_active(sessions, key_id):
    async with sessions.begin() as session:
        user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))
        await session.execute(select(User.id).where(User.id == user_id).with_for_update())
        still = (ApiKey.user_id == user_id, or_(ApiKey.revoked_at.is_(None), ApiKey.revoked_at > func.now()))
        active = set(await session.scalars(select(ApiKey.id).where(*still)))
        if key_id not in active or len(active) < 2:
            return False
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.now()))
        return True


@ANSWERS.wrong("gave up at a lock")
async def skips_what_is_locked(sessions, key_id):
    async with sessions.begin() as session:
        user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))
        mine = select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
        keys = {key.id: key for key in await session.scalars(mine.with_for_update(skip_locked=True))}
        if key_id not in keys or len(keys) < 2:
            return False
        keys[key_id].revoked_at = func.now()
        return True


@ANSWERS.wrong("twice the same")
async def looks_at_its_own_key_too_early(sessions, key_id):
    async with sessions.begin() as session:
        key = await session.get(ApiKey, key_id)
        if key is None or key.revoked_at is not None:
            return False
        await session.execute(select(User.id).where(User.id == key.user_id).with_for_update())
        others = (ApiKey.user_id == key.user_id, ApiKey.id != key_id, ApiKey.revoked_at.is_(None))
        if not await session.scalar(select(func.count()).select_from(ApiKey).where(*others)):
            return False
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.now()))
        return True


@ANSWERS.wrong("failed at once")
async def nowait(sessions, key_id):
    async with sessions.begin() as session:
        user_id = await session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))
        await session.execute(select(User.id).where(User.id == user_id).with_for_update(nowait=True))
        active = select(ApiKey.id).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
        ids = (await session.scalars(active)).all()
        if key_id not in ids or len(ids) == 1:
            return False
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.now()))
        return True


@ANSWERS.wrong("changed although refused")
async def an_update_for_a_lock(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.id == owner_of(key_id)).values(name=User.name))
        return await count_then_revoke(session, key_id)


@ANSWERS.wrong("failed at once")
async def a_twentieth_of_a_second(sessions, key_id):
    async with sessions.begin() as session:
        await session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        await session.execute(select(User.id).where(User.id == owner_of(key_id)).with_for_update())
        return await count_then_revoke(session, key_id)
