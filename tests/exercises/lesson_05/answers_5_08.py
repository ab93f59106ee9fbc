"""Answers to 5.8, settings that survive PgBouncer."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from tests.exercises.written import Answers

ANSWERS = Answers("5.8")
CACHELESS = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


def limited(engine, milliseconds):
    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")

    return engine


def on(engine, moment, statement, commit=False):
    """Run a statement on the driver's connection at one of the pool's events."""

    @event.listens_for(engine.sync_engine, moment)
    def run(connection, *_):
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        if commit:
            connection.commit()

    return engine


def unique_name():
    return f"__asyncpg_{uuid4()}__"


@ANSWERS.right
def both_caches_off(url, lock_timeout):
    return limited(create_async_engine(url, connect_args=CACHELESS), lock_timeout)


@ANSWERS.right
def both_caches_off_and_no_pool(url, lock_timeout):
    return limited(create_async_engine(url, connect_args=CACHELESS, poolclass=NullPool), lock_timeout)


@ANSWERS.right
def unique_names_and_no_pool(url, lock_timeout):
    connect_args = {"prepared_statement_name_func": unique_name}
    return limited(create_async_engine(url, connect_args=connect_args, poolclass=NullPool), lock_timeout)


@ANSWERS.right
def unique_names_and_no_caches(url, lock_timeout):
    connect_args = CACHELESS | {"prepared_statement_name_func": unique_name}
    return limited(create_async_engine(url, connect_args=connect_args, pool_size=3), lock_timeout)


@ANSWERS.right
def psycopg_without_preparing(url, lock_timeout):
    url = url.set(drivername="postgresql+psycopg")
    return limited(create_async_engine(url, connect_args={"prepare_threshold": None}), lock_timeout)


@ANSWERS.right
def through_a_function(url, lock_timeout):
    engine = create_async_engine(url, connect_args={**CACHELESS, "server_settings": {"application_name": "rag"}})

    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection):
        statement = text("SELECT set_config('lock_timeout', :limit, true)")
        connection.execute(statement, {"limit": f"{lock_timeout}ms"})

    return engine


@ANSWERS.right
async def although_not_asked_to_be_async(url, lock_timeout):
    return both_caches_off(url, lock_timeout)


class UniqueNames(asyncpg.Connection):
    def _get_unique_id(self, prefix):
        return f"__asyncpg_{prefix}_{uuid4()}__"


@ANSWERS.right
def the_connection_class_of_many_an_issue(url, lock_timeout):
    return limited(create_async_engine(url, connect_args=CACHELESS | {"connection_class": UniqueNames}), lock_timeout)


@ANSWERS.wrong("nothing returned")
def forgotten_return(url, lock_timeout):
    limited(create_async_engine(url, connect_args=CACHELESS), lock_timeout)


@ANSWERS.wrong("not an engine")
def session_factory(url, lock_timeout):
    return async_sessionmaker(limited(create_async_engine(url, connect_args=CACHELESS), lock_timeout))


@ANSWERS.wrong("raised")
def cache_size_in_the_url(url, lock_timeout):
    return limited(create_async_engine(url.update_query_dict({"statement_cache_size": "0"})), lock_timeout)


@ANSWERS.wrong("refused")
def sent_at_the_start(url, lock_timeout):
    return create_async_engine(url, connect_args={**CACHELESS, "server_settings": {"lock_timeout": str(lock_timeout)}})


@ANSWERS.wrong("refused")
def sent_at_the_start_by_psycopg(url, lock_timeout):
    connect_args = {"prepare_threshold": None, "options": f"-c lock_timeout={lock_timeout}"}
    return create_async_engine(url.set(drivername="postgresql+psycopg"), connect_args=connect_args)


@ANSWERS.wrong("no limit")
def caches_only(url, lock_timeout):
    return create_async_engine(url, connect_args=CACHELESS)


@ANSWERS.wrong("no limit")
def seconds_for_milliseconds(url, lock_timeout):
    return limited(create_async_engine(url, connect_args=CACHELESS), f"'{lock_timeout}s'")


@ANSWERS.wrong("no limit")
def set_local_on_connect(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)
    return on(engine, "connect", f"SET LOCAL lock_timeout = {lock_timeout}", commit=True)


@ANSWERS.wrong("autocommit")
def no_transactions(url, lock_timeout):
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", connect_args=CACHELESS)
    return on(engine, "checkout", f"SET lock_timeout = {lock_timeout}")


@ANSWERS.wrong("statement missing")
def defaults(url, lock_timeout):
    return limited(create_async_engine(url), lock_timeout)


@ANSWERS.wrong("statement missing")
def unique_names_alone(url, lock_timeout):
    return limited(create_async_engine(url, connect_args={"prepared_statement_name_func": unique_name}), lock_timeout)


@ANSWERS.wrong("statement missing")
def psycopg_as_it_comes(url, lock_timeout):
    return limited(create_async_engine(url.set(drivername="postgresql+psycopg")), lock_timeout)


@ANSWERS.wrong("name taken")
def sqlalchemys_cache_off(url, lock_timeout):
    return limited(create_async_engine(url, connect_args={"prepared_statement_cache_size": 0}), lock_timeout)


@ANSWERS.wrong("name taken")
def no_pool_alone(url, lock_timeout):
    return limited(create_async_engine(url, poolclass=NullPool), lock_timeout)


@ANSWERS.wrong("limit lost")
def set_on_connect(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)
    return on(engine, "connect", f"SET lock_timeout = {lock_timeout}", commit=True)


@ANSWERS.wrong("limit lost")
def set_on_connect_and_not_committed(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)
    return on(engine, "connect", f"SET lock_timeout = {lock_timeout}")


@ANSWERS.wrong("left behind")
def set_in_each_transaction(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)

    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection):
        connection.exec_driver_sql(f"SET lock_timeout = {lock_timeout}")

    return engine


@ANSWERS.wrong("left behind")
def set_and_reset_in_each_transaction(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)

    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection):
        connection.exec_driver_sql(f"SET lock_timeout = {lock_timeout}")

    @event.listens_for(engine.sync_engine, "commit")
    def no_limit(connection):
        connection.exec_driver_sql("RESET lock_timeout")

    return engine


@ANSWERS.wrong("left behind")
def set_at_each_checkout(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)
    return on(engine, "checkout", f"SET lock_timeout = {lock_timeout}")


@ANSWERS.wrong("left behind")
async def on_the_database(url, lock_timeout):
    engine = create_async_engine(url, connect_args=CACHELESS)
    async with engine.begin() as connection:
        await connection.execute(text(f'ALTER DATABASE "{url.database}" SET lock_timeout = {lock_timeout}'))
    await engine.dispose()
    return engine
