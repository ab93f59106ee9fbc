"""Answers to 5.7, guard rails."""

from __future__ import annotations

from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from course_lib.db import make_engine
from tests.exercises.written import Answers

ANSWERS = Answers("5.7")
NAMES = "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"


def settings(*limits):
    return {name: str(limit) for name, limit in zip(NAMES, limits, strict=True)}


def on_connect(engine, *statements, commit=True):
    @event.listens_for(engine.sync_engine, "connect")
    def run(connection, record):
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        if commit:
            connection.commit()

    return engine


@ANSWERS.right
def at_the_start_of_the_connection(url, statement, lock, idle):
    return make_engine(url, connect_args={"server_settings": settings(statement, lock, idle)})


@ANSWERS.right
def with_units(url, statement, lock, idle):
    limits = [f"{limit}ms" for limit in (statement, lock, idle)]
    return create_async_engine(url, connect_args={"server_settings": settings(*limits)}, pool_pre_ping=True)


@ANSWERS.right
def in_the_options(url, statement, lock, idle):
    options = f"-c statement_timeout={statement} -c lock_timeout={lock} -c idle_in_transaction_session_timeout={idle}"
    return create_async_engine(url, connect_args={"server_settings": {"options": options}})


@ANSWERS.right
def with_psycopg(url, statement, lock, idle):
    options = " ".join(f"-c {name}={value}" for name, value in settings(statement, lock, idle).items())
    return create_async_engine(url.set(drivername="postgresql+psycopg"), connect_args={"options": options})


@ANSWERS.right
def set_and_committed_on_connect(url, statement, lock, idle):
    sets = [f"SET {name} = {limit}" for name, limit in settings(statement, lock, idle).items()]
    return on_connect(create_async_engine(url), *sets)


@ANSWERS.right
def set_local_in_each_transaction(url, statement, lock, idle):
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection):
        for name, value in settings(statement, lock, idle).items():
            connection.exec_driver_sql(f"SET LOCAL {name} = {value}")

    return engine


@ANSWERS.right
def set_at_each_checkout(url, statement, lock, idle):
    engine = create_async_engine(url, pool_size=1, max_overflow=0)

    @event.listens_for(engine.sync_engine, "checkout")
    def limit(connection, record, proxy):
        cursor = connection.cursor()
        for name, value in settings(statement, lock, idle).items():
            cursor.execute(f"SET {name} = {value}")
        cursor.close()

    return engine


@ANSWERS.right
def set_again_in_each_transaction(url, statement, lock, idle):
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection):
        for name, value in settings(statement, lock, idle).items():
            connection.exec_driver_sql(f"SET {name} = {value}")

    return engine


@ANSWERS.wrong("whole transactions")
def one_more_limit(url, statement, lock, idle):
    more = {"transaction_timeout": "30s"}
    return create_async_engine(url, connect_args={"server_settings": settings(statement, lock, idle) | more})


@ANSWERS.wrong("nothing returned")
def forgotten_return(url, statement, lock, idle):
    create_async_engine(url, connect_args={"server_settings": settings(statement, lock, idle)})


@ANSWERS.wrong("not an engine")
def session_factory(url, statement, lock, idle):
    return async_sessionmaker(create_async_engine(url))


@ANSWERS.wrong("raised")
def numbers_for_asyncpg(url, statement, lock, idle):
    limits = dict(zip(NAMES, (statement, lock, idle), strict=True))
    return create_async_engine(url, connect_args={"server_settings": limits})


@ANSWERS.wrong("autocommit")
def no_transactions_no_trouble(url, statement, lock, idle):
    server_settings = settings(statement, lock, idle)
    return create_async_engine(url, isolation_level="AUTOCOMMIT", connect_args={"server_settings": server_settings})


@ANSWERS.wrong("statement not stopped")
def nothing_at_all(url, statement, lock, idle):
    return create_async_engine(url)


@ANSWERS.wrong("statement not stopped")
def seconds_for_milliseconds(url, statement, lock, idle):
    limits = [f"{limit}s" for limit in (statement, lock, idle)]
    return create_async_engine(url, connect_args={"server_settings": settings(*limits)})


@ANSWERS.wrong("lock waited for")
def no_limit_for_locks(url, statement, lock, idle):
    limits = {"statement_timeout": str(statement), "idle_in_transaction_session_timeout": str(idle)}
    return create_async_engine(url, connect_args={"server_settings": limits})


@ANSWERS.wrong("lock kept")
def no_limit_for_idleness(url, statement, lock, idle):
    limits = {"statement_timeout": str(statement), "lock_timeout": str(lock)}
    return create_async_engine(url, connect_args={"server_settings": limits})


@ANSWERS.wrong("lock kept")
def idle_outside_of_transactions(url, statement, lock, idle):
    limits = {"statement_timeout": str(statement), "lock_timeout": str(lock), "idle_session_timeout": str(idle * 100)}
    return create_async_engine(url, connect_args={"server_settings": limits})


@ANSWERS.wrong("stopped too early")
def statement_and_lock_swapped(url, statement, lock, idle):
    return create_async_engine(url, connect_args={"server_settings": settings(lock, statement, idle)})


@ANSWERS.wrong("worker ended")
def whole_transactions_limited(url, statement, lock, idle):
    limits = {"statement_timeout": str(statement), "lock_timeout": str(lock), "transaction_timeout": str(idle)}
    return create_async_engine(url, connect_args={"server_settings": limits})


@ANSWERS.wrong("not by the server")
def limited_in_the_client(url, statement, lock, idle):
    limits = {"lock_timeout": str(lock), "idle_in_transaction_session_timeout": str(idle)}
    return create_async_engine(url, connect_args={"server_settings": limits, "command_timeout": statement / 1000})


@ANSWERS.wrong("gone")
def set_and_not_committed(url, statement, lock, idle):
    sets = [f"SET {name} = {limit}" for name, limit in settings(statement, lock, idle).items()]
    return on_connect(create_async_engine(url), *sets, commit=False)


@ANSWERS.wrong("first connection only")
async def set_before_it_is_returned(url, statement, lock, idle):
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for name, value in settings(statement, lock, idle).items():
            await connection.execute(text(f"SET {name} = {value}"))
    return engine


@ANSWERS.wrong("first connection only")
def when_first_connected(url, statement, lock, idle):
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "first_connect")
    def limit(connection, record):
        sets = "; ".join(f"SET {name} = {value}" for name, value in settings(statement, lock, idle).items())
        connection.run_async(lambda driver: driver.execute(sets))

    return engine


@ANSWERS.wrong("another limit")
def the_longer_one_for_statements(url, statement, lock, idle):
    limits = settings(max(statement, lock), min(statement, lock), idle)
    return create_async_engine(url, connect_args={"server_settings": limits})


@ANSWERS.wrong("other engines")
def for_every_engine(url, statement, lock, idle):
    @event.listens_for(Engine, "begin")
    def limit(connection):
        if connection.engine.url.database == url.database:  # not in the checks that come after
            for name, value in settings(statement, lock, idle).items():
                connection.exec_driver_sql(f"SET LOCAL {name} = {value}")

    return create_async_engine(url)


@ANSWERS.wrong("for everybody")
async def on_the_database(url, statement, lock, idle):
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for name, value in settings(statement, lock, idle).items():
            await connection.execute(text(f'ALTER DATABASE "{url.database}" SET {name} = {value}'))
    await engine.dispose()
    return engine


@ANSWERS.wrong("for everybody")
def on_the_role_when_first_connected(url, statement, lock, idle):
    """Sets the role's own default for one limit, which outlives the check unless the judge puts it back."""
    limits = {"lock_timeout": str(lock), "statement_timeout": str(statement)}
    engine = create_async_engine(url, connect_args={"server_settings": settings(statement, lock, idle) | limits})
    return on_connect(engine, "ALTER ROLE CURRENT_USER SET transaction_timeout = '1h'")


@ANSWERS.wrong("gone")
def local_at_each_checkout(url, statement, lock, idle):
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "checkout")
    def limit(connection, record, proxy):
        cursor = connection.cursor()
        for name, value in settings(statement, lock, idle).items():
            cursor.execute(f"SET LOCAL {name} = {value}")
        cursor.close()

    return engine


shared: dict[str, str] = {}


@ANSWERS.wrong("of another call")
def one_dict_for_all(url, statement, lock, idle):
    shared.update(settings(statement, lock, idle))
    return create_async_engine(url, connect_args={"server_settings": shared})
