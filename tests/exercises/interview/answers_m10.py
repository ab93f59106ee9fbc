"""Answers to M10, another one is running."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from hashlib import sha256
from zlib import crc32

import asyncpg
from sqlalchemy import NullPool, func, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from course_lib.postgres.address import libpq_uri
from tests.exercises.written import Answers

ANSWERS = Answers("M10")


def key_of(name):
    return int.from_bytes(sha256(name.encode()).digest()[:8], signed=True)


@asynccontextmanager
async def without_transaction(engine):
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


def guarded(key=key_of, connect=without_transaction):
    """As the solution, with another key, or on another connection."""

    async def run_nightly(engine, name, job):
        async with connect(engine) as connection:
            if not await connection.scalar(select(func.pg_try_advisory_lock(key(name)))):
                return False
            try:
                await job()
            finally:
                await connection.scalar(select(func.pg_advisory_unlock(key(name))))
            return True

    return run_nightly


async def locked(connection, name):
    return await connection.scalar(select(func.pg_try_advisory_lock(key_of(name))))


async def unlock(connection, name):
    await connection.scalar(select(func.pg_advisory_unlock(key_of(name))))


ANSWERS.right(guarded(lambda name: func.hashtextextended(name, 0)))
ANSWERS.right(guarded(lambda name: crc32(name.encode())))


@ANSWERS.right
async def commits_before_the_job(engine, name, job):
    """And has two numbers: whose lock, and which."""
    key = {"name": name}
    async with engine.connect() as connection:
        got = await connection.scalar(text("SELECT pg_try_advisory_lock(77, hashtext(:name))"), key)
        await connection.commit()
        if got:
            try:
                await job()
            finally:
                await connection.execute(text("SELECT pg_advisory_unlock(77, hashtext(:name))"), key)
    return got


@ANSWERS.right
async def session_of_its_own(engine, name, job):
    """Closed at the end, and the lock with it."""
    own = create_async_engine(engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with own.connect() as connection:
        if got := await locked(connection, name):
            await job()
    return got


@ANSWERS.right
async def invalidated(engine, name, job):
    async with engine.connect() as connection:
        if not await locked(connection, name):
            return False
        await connection.commit()
        try:
            await job()
            return True
        finally:
            await connection.invalidate()


@ANSWERS.right
async def with_the_driver(engine, name, job):
    connection = await asyncpg.connect(libpq_uri(engine.url))
    try:
        if got := await connection.fetchval("SELECT pg_try_advisory_lock($1)", key_of(name)):
            await job()
        return got
    finally:
        await connection.close()


@ANSWERS.right
async def everything_given_back(engine, name, job):
    async with without_transaction(engine) as connection:
        try:
            if got := await locked(connection, name):
                await job()
            return got
        finally:
            await connection.execute(text("SELECT pg_advisory_unlock_all()"))


ANSWERS.wrong("kept apart")(guarded(lambda name: int.from_bytes(name.encode()[:8])))
ANSWERS.wrong("kept apart")(guarded(lambda name: sum(name.encode())))
ANSWERS.wrong("kept apart")(guarded(lambda name: crc32(name.lower().encode())))
ANSWERS.wrong("kept apart")(guarded(lambda name: 4711))
ANSWERS.wrong("salted")(guarded(lambda name: hash(name)))
ANSWERS.wrong("salted")(guarded(lambda name: hash(name.encode()) % 2**31))
ANSWERS.wrong("open transaction")(guarded(connect=lambda engine: engine.connect()))


@ANSWERS.wrong("locked out")
async def only_the_key(engine, name, job):
    async with without_transaction(engine) as connection:
        if not await locked(connection, name):
            return False
        await job()
        await unlock(connection, name)
        return True


@ANSWERS.wrong("locked out")
async def rolled_back(engine, name, job):
    """Which a lock of the session outlives."""
    async with engine.connect() as connection:
        if not await locked(connection, name):
            return False
        await connection.commit()
        try:
            await job()
        except BaseException:
            await connection.rollback()
            raise
        await unlock(connection, name)
        return True


@ANSWERS.wrong("locked out by a cancel")
async def after_an_exception(engine, name, job):
    async with without_transaction(engine) as connection:
        if not await locked(connection, name):
            return False
        try:
            await job()
        except Exception:
            await unlock(connection, name)
            raise
        await unlock(connection, name)
        return True


@ANSWERS.wrong("never given back")
async def forgotten(engine, name, job):
    async with without_transaction(engine) as connection:
        if got := await locked(connection, name):
            await job()
        return got


@ANSWERS.wrong("error swallowed")
async def logged(engine, name, job):
    async with without_transaction(engine) as connection:
        if not await locked(connection, name):
            return False
        try:
            await job()
        except Exception as error:
            print(f"{name} failed: {error}")
        finally:
            await unlock(connection, name)
        return True


@ANSWERS.wrong("open transaction")
async def lock_of_the_transaction(engine, name, job):
    async with engine.begin() as connection:
        if not await connection.scalar(select(func.pg_try_advisory_xact_lock(key_of(name)))):
            return False
        await job()
        return True


at_work = set()


@ANSWERS.wrong("ran twice")
async def set_of_this_process(engine, name, job):
    if (id(engine), name) in at_work:
        return False
    at_work.add((id(engine), name))
    try:
        await job()
    finally:
        at_work.discard((id(engine), name))
    return True


@ANSWERS.wrong("ran twice")
async def connection_not_kept(engine, name, job):
    """The lock stays with a connection that anybody in this process may be given."""
    async with without_transaction(engine) as connection:
        if not await locked(connection, name):
            return False
    try:
        await job()
    finally:
        async with without_transaction(engine) as connection:
            await unlock(connection, name)
    return True


@ANSWERS.wrong("waited")
async def waits_for_the_lock(engine, name, job):
    async with without_transaction(engine) as connection:
        await connection.scalar(select(func.pg_advisory_lock(key_of(name))))
        try:
            await job()
        finally:
            await unlock(connection, name)
        return True


@ANSWERS.wrong("raised instead")
async def says_it_with_an_error(engine, name, job):
    async with without_transaction(engine) as connection:
        if not await locked(connection, name):
            raise RuntimeError(f"{name}: another one is running")
        try:
            await job()
        finally:
            await unlock(connection, name)
        return True


@ANSWERS.wrong("wrong return")
async def true_either_way(engine, name, job):
    async with without_transaction(engine) as connection:
        if await locked(connection, name):
            try:
                await job()
            finally:
                await unlock(connection, name)
        return True


@ANSWERS.wrong("not run")
async def once_more_to_be_sure(engine, name, job):
    async with without_transaction(engine) as connection:
        if not await locked(connection, name):
            return False
        try:
            await asyncio.gather(job(), job())
        finally:
            await unlock(connection, name)
        return True


@ANSWERS.wrong("connections left")
async def never_closed(engine, name, job):
    connection = await engine.connect()
    await connection.execution_options(isolation_level="AUTOCOMMIT")
    if not await locked(connection, name):
        return False
    try:
        await job()
    finally:
        await unlock(connection, name)
    return True


@ANSWERS.wrong("outlives its process")
async def row_of_a_table(engine, name, job):
    """Whoever dies leaves it there."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS at_work (name text PRIMARY KEY)"))
        take = text("INSERT INTO at_work VALUES (:name) ON CONFLICT DO NOTHING")
        if not (await connection.execute(take, {"name": name})).rowcount:
            return False
    try:
        await job()
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM at_work WHERE name = :name"), {"name": name})
    return True
