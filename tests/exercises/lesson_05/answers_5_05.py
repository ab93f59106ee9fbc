"""Answers to 5.5, an engine that survives a restarted server."""

from __future__ import annotations

import time

from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from course_lib.db import make_engine
from tests.exercises.written import Answers

ANSWERS = Answers("5.5")


@ANSWERS.right
def no_overflow(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.right
def nearly_all_overflow(url, limit, max_age):
    return create_async_engine(url, pool_size=1, max_overflow=limit - 1, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.right
def last_in_first_out(url, limit, max_age):
    options = {"pool_size": limit, "max_overflow": 0, "pool_pre_ping": True, "pool_recycle": max_age}
    return make_engine(url, **options, pool_use_lifo=True, pool_timeout=5)


@ANSWERS.right
def pool_named(url, limit, max_age):
    return create_async_engine(
        str(url.render_as_string(hide_password=False)),
        poolclass=AsyncAdaptedQueuePool, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age,
    )  # fmt: skip


@ANSWERS.right
def with_psycopg(url, limit, max_age):
    url = url.set(drivername="postgresql+psycopg")
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.right
def asked_and_aged_by_hand(url, limit, max_age):
    engine = create_async_engine(url, pool_size=limit, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def note(connection, record):
        record.info["since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def look(connection, record, proxy):
        if time.monotonic() - record.info["since"] > max_age:
            raise DisconnectionError
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT 1")
        except Exception as error:
            raise DisconnectionError from error
        finally:
            cursor.close()

    return engine


@ANSWERS.right
async def although_not_asked_to_be_async(url, limit, max_age):
    engine = create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    return engine


@ANSWERS.wrong("nothing returned")
def forgotten_return(url, limit, max_age):
    create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("not an engine")
def session_factory(url, limit, max_age):
    return async_sessionmaker(create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True))


@ANSWERS.wrong("not an engine")
def synchronous(url, limit, max_age):
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("raised")
def no_such_option(url, limit, max_age):
    return create_async_engine(url, pool_max=limit)


@ANSWERS.wrong("too few")
def one_is_left_out(url, limit, max_age):
    return create_async_engine(
        url, pool_size=limit - 1, max_overflow=0, pool_timeout=0.2, pool_pre_ping=True, pool_recycle=max_age
    )


@ANSWERS.wrong("too few")
def one_for_all(url, limit, max_age):
    return create_async_engine(url, poolclass=StaticPool, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("too few")
def half_of_it_overflow(url, limit, max_age):
    return create_async_engine(
        url, pool_size=limit // 2, max_overflow=limit // 2, pool_pre_ping=True, pool_recycle=max_age
    )


@ANSWERS.wrong("too many")
def size_forgotten(url, limit, max_age):
    return create_async_engine(url, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("too few")
def at_most_five(url, limit, max_age):
    return create_async_engine(
        url, pool_size=min(limit, 5), max_overflow=0, pool_pre_ping=True, pool_recycle=max_age, pool_timeout=0.2
    )


@ANSWERS.wrong("too many")
def default_overflow(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("too many")
def all_defaults(url, limit, max_age):
    return create_async_engine(url)


@ANSWERS.wrong("too many")
def no_pool(url, limit, max_age):
    return create_async_engine(url, poolclass=NullPool)


@ANSWERS.wrong("gave up")
def does_not_wait(url, limit, max_age):
    return create_async_engine(
        url, pool_size=limit, max_overflow=0, pool_timeout=0, pool_pre_ping=True, pool_recycle=max_age
    )


@ANSWERS.wrong("dead connection")
def no_ping(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0)


@ANSWERS.wrong("dead connection")
def recycled_but_not_asked(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_recycle=max_age)


@ANSWERS.wrong("not kept")
def recycled_at_once(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=0)


@ANSWERS.wrong("too old")
def never_recycled(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True)


@ANSWERS.wrong("too old")
def age_of_its_own(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=1800)
