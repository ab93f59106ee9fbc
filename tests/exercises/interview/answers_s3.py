"""Answers to S3, for a moment somebody else's."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.exercises.written import Answers

ANSWERS = Answers("S3")
FOR_THE_SESSION = text("SELECT set_config('app.user_id', :id, false)")
FOR_THE_TRANSACTION = text("SELECT set_config('app.user_id', :id, true)")
CURRENT: ContextVar[str] = ContextVar("current", default="")


def told_at_each_begin(session, user_id, setting=FOR_THE_TRANSACTION):
    @event.listens_for(session.sync_session, "after_begin")
    def act(_, __, connection):
        connection.execute(setting, {"id": str(user_id)})


@asynccontextmanager
async def session_on(connection):
    async with AsyncSession(connection, expire_on_commit=False) as session:
        yield session
        await session.commit()


async def tell(connection, user_id):
    await connection.execute(FOR_THE_SESSION, {"id": str(user_id)})
    await connection.commit()


@ANSWERS.right
@asynccontextmanager
async def at_each_begin(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        told_at_each_begin(session, user_id)
        yield session
        await session.commit()


@ANSWERS.right
@asynccontextmanager
async def a_connection_of_its_own_made_clean(engine, user_id):
    async with engine.connect() as connection:
        await tell(connection, user_id)
        try:
            async with session_on(connection) as session:
                yield session
        finally:
            await connection.rollback()
            await tell(connection, "")


@ANSWERS.right
@asynccontextmanager
async def a_connection_of_its_own_thrown_away(engine, user_id):
    async with engine.connect() as connection:
        try:
            await tell(connection, user_id)
            async with session_on(connection) as session:
                yield session
        finally:
            await connection.invalidate()


@ANSWERS.right
@asynccontextmanager
async def told_by_the_engine(engine, user_id):
    """Each transaction of the engine is told for whom the task works."""
    if not event.contains(engine.sync_engine, "begin", act_for_the_task):
        event.listen(engine.sync_engine, "begin", act_for_the_task)
    before = CURRENT.set(str(user_id))
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session
            await session.commit()
    finally:
        CURRENT.reset(before)


def act_for_the_task(connection):
    connection.execute(FOR_THE_TRANSACTION, {"id": CURRENT.get()})


@ANSWERS.wrong("hidden after a commit")
@asynccontextmanager
async def once_for_the_transaction(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        await session.execute(FOR_THE_TRANSACTION, {"id": str(user_id)})
        yield session
        await session.commit()


@ANSWERS.wrong("after a commit")
@asynccontextmanager
async def only_the_clean_up_mended(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        await session.execute(FOR_THE_SESSION, {"id": str(user_id)})
        try:
            yield session
            await session.commit()
        finally:
            await session.rollback()
            await session.execute(FOR_THE_SESSION, {"id": ""})
            await session.commit()


@ANSWERS.wrong("wrong rows")
@asynccontextmanager
async def committed_at_once(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        await session.execute(FOR_THE_SESSION, {"id": str(user_id)})
        await session.commit()
        yield session
        await session.commit()


@ANSWERS.wrong("after a rollback")
@asynccontextmanager
async def set_in_the_first_transaction(engine, user_id):
    async with engine.connect() as connection:
        try:
            async with session_on(connection) as session:
                await session.execute(FOR_THE_SESSION, {"id": str(user_id)})
                yield session
        finally:
            await connection.rollback()
            await tell(connection, "")


@ANSWERS.wrong("after a rollback")
@asynccontextmanager
async def again_after_a_commit_only(engine, user_id):
    """A rollback is not followed by what a commit is followed by."""
    async with engine.connect() as connection:
        told = {"told": False}
        async with AsyncSession(connection, expire_on_commit=False) as session:

            @event.listens_for(session.sync_session, "after_begin")
            def act(_, __, connection):
                if not told["told"]:
                    connection.execute(FOR_THE_TRANSACTION, {"id": str(user_id)})
                told["told"] = True

            @event.listens_for(session.sync_session, "after_commit")
            def committed(_):
                told["told"] = False

            yield session
            await session.commit()


@ANSWERS.wrong("left behind")
@asynccontextmanager
async def only_what_was_reported(engine, user_id):
    async with engine.connect() as connection:
        await tell(connection, user_id)
        async with session_on(connection) as session:
            yield session
        await tell(connection, "")


@ANSWERS.wrong("left behind")
@asynccontextmanager
async def clean_after_errors_alone(engine, user_id):
    """A cancelled request is no `Exception`."""
    async with engine.connect() as connection:
        await tell(connection, user_id)
        try:
            async with session_on(connection) as session:
                yield session
        except Exception:
            await connection.rollback()
            await tell(connection, "")
            raise
        await tell(connection, "")


@ANSWERS.wrong("left behind")
@asynccontextmanager
async def for_the_session_at_each_begin(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        told_at_each_begin(session, user_id, FOR_THE_SESSION)
        yield session
        await session.commit()


@ANSWERS.wrong("wrong rows")
@asynccontextmanager
async def another_setting(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        told_at_each_begin(session, user_id, text("SELECT set_config('app.user', :id, true)"))
        yield session
        await session.commit()


@ANSWERS.wrong("own write refused")
@asynccontextmanager
async def read_only(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        setting = "SELECT set_config('app.user_id', :id, true), set_config('transaction_read_only', 'on', true)"
        told_at_each_begin(session, user_id, text(setting))
        yield session
        await session.commit()


@ANSWERS.wrong("not committed")
@asynccontextmanager
async def left_to_the_handler(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        told_at_each_begin(session, user_id)
        yield session


@ANSWERS.wrong("not rolled back")
@asynccontextmanager
async def committed_whatever_happened(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        told_at_each_begin(session, user_id)
        try:
            yield session
        finally:
            await session.commit()


@ANSWERS.wrong("error swallowed")
@asynccontextmanager
async def errors_end_here(engine, user_id):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        told_at_each_begin(session, user_id)
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()


@ANSWERS.wrong("lost")
@asynccontextmanager
async def all_in_one_transaction(engine, user_id):
    """What the block commits is a savepoint."""
    async with engine.connect() as connection, connection.begin():
        await connection.execute(FOR_THE_TRANSACTION, {"id": str(user_id)})
        async with AsyncSession(
            connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        ) as session:
            yield session
            await session.commit()


@ANSWERS.wrong("connections used up")
@asynccontextmanager
async def two_for_a_block(engine, user_id):
    async with engine.connect() as held, AsyncSession(engine, expire_on_commit=False) as session:
        await held.execute(text("SELECT 1"))
        told_at_each_begin(session, user_id)
        yield session
        await session.commit()


@ANSWERS.wrong("not a session")
@asynccontextmanager
async def a_connection(engine, user_id):
    async with engine.connect() as connection:
        yield connection


@ANSWERS.wrong("not a context manager")
async def a_session(engine, user_id):
    session = AsyncSession(engine, expire_on_commit=False)
    told_at_each_begin(session, user_id)
    return session
