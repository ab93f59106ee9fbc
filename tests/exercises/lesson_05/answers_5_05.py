"""Answers to 5.5, an engine that survives a restarted server."""

from __future__ import annotations

import time

from sqlalchemy import event, text
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from course_lib.db import make_engine
from tests.exercises.written import Answers

ANSWERS = Answers("5.5")


@ANSWERS.right
def no_overflow(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("not kept")
def nearly_all_overflow(url, limit, max_age):
    return create_async_engine(url, pool_size=1, max_overflow=limit - 1, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.right
def last_in_first_out(url, limit, max_age):
    options = {"pool_size": limit, "max_overflow": 0, "pool_pre_ping": True, "pool_recycle": max_age}
    return make_engine(url, **options, pool_use_lifo=True, pool_timeout=30)


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


@ANSWERS.wrong("too few")
def one_is_left_out(url, limit, max_age):
    return create_async_engine(
        url, pool_size=limit - 1, max_overflow=0, pool_timeout=0.2, pool_pre_ping=True, pool_recycle=max_age
    )


@ANSWERS.wrong("too many")
def size_forgotten(url, limit, max_age):
    return create_async_engine(url, max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("too few")
def at_most_five(url, limit, max_age):
    return create_async_engine(url, pool_size=min(limit, 5), max_overflow=0, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("too many")
def default_overflow(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("too many")
def no_pool(url, limit, max_age):
    return create_async_engine(url, poolclass=NullPool)


@ANSWERS.wrong("gave up")
def does_not_wait(url, limit, max_age):
    return create_async_engine(
        url, pool_size=limit, max_overflow=0, pool_timeout=0, pool_pre_ping=True, pool_recycle=max_age
    )


@ANSWERS.wrong("impatient")
def waits_half_a_second(url, limit, max_age):
    options = {"pool_size": limit, "max_overflow": 0, "pool_pre_ping": True, "pool_recycle": max_age}
    return create_async_engine(url, **options, pool_timeout=0.5)


@ANSWERS.wrong("too many")
def one_to_spare(url, limit, max_age):
    overflow = 1 if limit == 1 else 0
    return create_async_engine(url, pool_size=limit, max_overflow=overflow, pool_pre_ping=True, pool_recycle=max_age)


@ANSWERS.wrong("dead connection")
def asks_the_driver(url, limit, max_age):
    engine = create_async_engine(url, pool_size=limit, max_overflow=0, pool_recycle=max_age)

    @event.listens_for(engine.sync_engine, "checkout")
    def look(connection, record, proxy):
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine


@ANSWERS.wrong("dead connection")
def recycled_but_not_asked(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_recycle=max_age)


@ANSWERS.wrong("not kept")
def recycled_at_once(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=0)


@ANSWERS.wrong("too early")
def whole_seconds(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True, pool_recycle=int(max_age))


def by_hand(url, limit, error, counted_from):
    """An engine that looks at an age by itself; what is raised, and from which event on a connection ages."""
    engine = create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True)

    def note(connection, record):
        record.info["since"] = time.monotonic()

    def look(connection, record, proxy):
        if time.monotonic() - record.info.setdefault("since", time.monotonic()) > error[1]:
            raise error[0]

    event.listen(engine.sync_engine, counted_from, note)
    event.listen(engine.sync_engine, "checkout", look)
    return engine


@ANSWERS.wrong("too early")
def one_old_and_all_are_replaced(url, limit, max_age):
    return by_hand(url, limit, (InvalidatePoolError, max_age), "connect")


@ANSWERS.wrong("too old")
def ages_while_idle(url, limit, max_age):
    return by_hand(url, limit, (DisconnectionError, max_age), "checkin")


@ANSWERS.wrong("too old")
def never_recycled(url, limit, max_age):
    return create_async_engine(url, pool_size=limit, max_overflow=0, pool_pre_ping=True)


@ANSWERS.wrong("too early")
def at_nine_tenths_of_the_age(url, limit, max_age):
    options = {"pool_size": limit, "max_overflow": 0, "pool_pre_ping": True}
    return create_async_engine(url, pool_recycle=0.9 * max_age, **options)
