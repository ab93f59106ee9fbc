# ruff: noqa: ASYNC110 - a lock of the server is no event of Python
"""Answers to 6.8, four instances that start at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import sqlalchemy as sa

from tests.exercises.written import Answers

ANSWERS = Answers("6.8")
LOCK = 6_208
TRY = sa.select(sa.func.pg_try_advisory_lock(LOCK))
UNLOCK = sa.select(sa.func.pg_advisory_unlock(LOCK))


@asynccontextmanager
async def turn(engine):
    """What most of the answers have in common."""
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            await asyncio.sleep(0.1)
        try:
            yield guard
        finally:
            await guard.execute(UNLOCK)


async def run(engine, upgrade):
    async with engine.connect() as connection:
        await connection.run_sync(upgrade)


@ANSWERS.right
async def with_a_guard(engine, upgrade):
    async with turn(engine):
        await run(engine, upgrade)


@ANSWERS.right
async def with_rollbacks(engine, upgrade):
    async with engine.connect() as guard:
        while True:
            locked = await guard.scalar(TRY)
            await guard.rollback()
            if locked:
                break
            await asyncio.sleep(0.2)
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.right
async def with_the_driver(engine, upgrade):
    async with engine.connect() as guard:
        driver = (await guard.get_raw_connection()).driver_connection
        while not await driver.fetchval("SELECT pg_try_advisory_lock($1::int8)", LOCK):
            await asyncio.sleep(0.07)
        try:
            await run(engine, upgrade)
        finally:
            await driver.execute("SELECT pg_advisory_unlock_all()")


@ANSWERS.right
async def the_connection_goes_with_the_lock(engine, upgrade):
    guarding = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with guarding.connect() as guard:
        try:
            while not await guard.scalar(TRY):
                await asyncio.sleep(0.15)
            await run(engine, upgrade)
        finally:
            await guard.invalidate()


@ANSWERS.right
async def on_one_connection(engine, upgrade):
    """The lock outlives the transactions of its session, whoever made them."""
    async with engine.connect() as connection:
        try:
            while not await connection.scalar(TRY):
                await connection.commit()
                await asyncio.sleep(0.1)
            await connection.commit()
            await connection.run_sync(upgrade)
        finally:
            await connection.invalidate()


@ANSWERS.right
async def with_an_engine_of_its_own(engine, upgrade):
    own = sa.ext.asyncio.create_async_engine(engine.url, poolclass=sa.pool.NullPool)
    async with turn(own):
        await run(engine, upgrade)


@ANSWERS.wrong("not a connection")
async def with_the_engine(engine, upgrade):
    async with turn(engine):
        upgrade(engine)


@ANSWERS.wrong("nothing migrated")
async def only_locks(engine, upgrade):
    async with turn(engine):
        await asyncio.sleep(0)


@ANSWERS.wrong("without the lock")
async def without_a_lock(engine, upgrade):
    await run(engine, upgrade)


LOCKS = {}


@ANSWERS.wrong("without the lock")
async def with_a_lock_of_python(engine, upgrade):
    async with LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await run(engine, upgrade)


@ANSWERS.wrong("without the lock")
async def with_another_key(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(sa.select(sa.func.pg_try_advisory_lock(1))):
            await asyncio.sleep(0.1)
        await run(engine, upgrade)
        await guard.execute(sa.select(sa.func.pg_advisory_unlock(1)))


@ANSWERS.wrong("without the lock")
async def locked_for_a_statement(engine, upgrade):
    """In AUTOCOMMIT a lock of the transaction is over with its statement."""
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK))):
            await asyncio.sleep(0.1)
        await run(engine, upgrade)


@ANSWERS.wrong("in a transaction")
async def in_begin(engine, upgrade):
    async with turn(engine), engine.begin() as connection:
        await connection.run_sync(upgrade)


@ANSWERS.wrong("in a transaction")
async def a_lock_of_the_transaction(engine, upgrade):
    async with engine.connect() as guard:
        while not await guard.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK))):
            await guard.rollback()
            await asyncio.sleep(0.1)
        await run(engine, upgrade)


@ANSWERS.wrong("in a transaction")
async def the_select_began_one(engine, upgrade):
    async with engine.connect() as connection:
        while not await connection.scalar(TRY):
            await asyncio.sleep(0.1)
        try:
            await connection.run_sync(upgrade)
        finally:
            await connection.execute(UNLOCK)


@ANSWERS.wrong("did not wait")
async def leaves_it_to_the_other(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        if not await guard.scalar(TRY):
            return
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("did not wait")
async def tries_three_times(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        for _ in range(3):
            if await guard.scalar(TRY):
                break
            await asyncio.sleep(0.05)
        else:
            return
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("gave up")
async def raises_when_it_is_held(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        if not await guard.scalar(TRY):
            raise TimeoutError("another instance migrates")
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("stands in line")
async def waits_in_the_server(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        await guard.execute(sa.select(sa.func.pg_advisory_lock(LOCK)))
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("open while it waits")
async def tries_in_one_transaction(engine, upgrade):
    async with engine.connect() as guard:
        while not await guard.scalar(TRY):
            await asyncio.sleep(0.1)
        await guard.commit()
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("hammers")
async def without_a_pause(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            pass
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("too late")
async def every_ten_seconds(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=10)
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("given back")
async def hands_the_lock_on_too_early(engine, upgrade):
    """The lock is given back as soon as the upgrade has begun."""
    begun = asyncio.Event()

    def announced(connection):
        begun.set()
        upgrade(connection)

    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            await asyncio.sleep(0.1)
        running = asyncio.ensure_future(run(engine, announced))
        await begun.wait()
        await guard.execute(UNLOCK)
        await running


@ANSWERS.wrong("failed at once")
async def not_if_somebody_else_was_there(engine, upgrade):
    waited = False
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            waited = True
            await asyncio.sleep(0.05)
        try:
            if waited and await guard.scalar(sa.text("SELECT to_regclass('third') IS NOT NULL")):
                raise RuntimeError("somebody else has migrated")
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)


@ANSWERS.wrong("lock left")
async def leaves_it_to_the_pool(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            await asyncio.sleep(0.1)
        await run(engine, upgrade)


@ANSWERS.wrong("lock left")
async def unlocks_if_all_went_well(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            await asyncio.sleep(0.1)
        await run(engine, upgrade)
        await guard.execute(UNLOCK)


@ANSWERS.wrong("lock left")
async def unlocks_after_an_error(engine, upgrade):
    """A cancellation is no `Exception`."""
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            await asyncio.sleep(0.1)
        try:
            await run(engine, upgrade)
        except Exception:
            await guard.execute(UNLOCK)
            raise
        await guard.execute(UNLOCK)


KEPT = []


@ANSWERS.wrong("connections left")
async def never_closes(engine, upgrade):
    guard = await engine.connect()
    KEPT.append(guard)
    await guard.execution_options(isolation_level="AUTOCOMMIT")
    while not await guard.scalar(TRY):
        await asyncio.sleep(0.1)
    try:
        await run(engine, upgrade)
    finally:
        await guard.execute(UNLOCK)


def paused_by(pause):
    """Looks again after ``pause(n)`` seconds, the n-th time."""

    async def migrate(engine, upgrade):
        async with engine.connect() as guard:
            await guard.execution_options(isolation_level="AUTOCOMMIT")
            times = 0
            while not await guard.scalar(TRY):
                times += 1
                await asyncio.sleep(pause(times))
            try:
                await run(engine, upgrade)
            finally:
                await guard.execute(UNLOCK)

    return migrate


two_seconds = ANSWERS.wrong("looks seldom")(paused_by(lambda times: 2))
longer_and_longer = ANSWERS.wrong("looks seldom")(paused_by(lambda times: min(0.1 * 2**times, 10)))
now_and_then_none = ANSWERS.wrong("short pauses")(paused_by(lambda times: 0.3 if times % 3 else 0.01))


@ANSWERS.wrong("wrapped")
async def in_its_own_words(engine, upgrade):
    async with turn(engine):
        try:
            await run(engine, upgrade)
        except Exception as error:
            raise RuntimeError("the migration failed") from error


@ANSWERS.wrong("swallowed")
async def starts_all_the_same(engine, upgrade):
    async with turn(engine):
        with suppress(Exception):
            await run(engine, upgrade)


@ANSWERS.wrong("half done")
async def nothing_in_a_transaction(engine, upgrade):
    engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with turn(engine):
        await run(engine, upgrade)


@ANSWERS.wrong("in a transaction")
async def on_the_connection_of_the_lock(engine, upgrade):
    """For SQLAlchemy one has begun, AUTOCOMMIT or not."""
    async with turn(engine) as guard:
        await guard.run_sync(upgrade)


FAILED = set()


@ANSWERS.wrong("not again")
async def refuses_after_a_failure(engine, upgrade):
    if str(engine.url) in FAILED:
        raise RuntimeError("the last migration failed: repair it by hand")
    async with turn(engine):
        try:
            await run(engine, upgrade)
        except Exception:
            FAILED.add(str(engine.url))
            raise


@ANSWERS.wrong("not cancelled")
async def goes_on_waiting(engine, upgrade):
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(TRY):
            with suppress(BaseException):
                await asyncio.sleep(0.1)
        try:
            await run(engine, upgrade)
        finally:
            await guard.execute(UNLOCK)
