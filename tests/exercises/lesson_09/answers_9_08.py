"""Answers to 9.8, a database for each worker: each function's body is a cell."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import text

from course_lib.models.base import Base
from tests.exercises.written import Answers

ANSWERS = Answers("9.8")


@ANSWERS.right
def strings_and_a_try():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = prefix + "tests_" + worker_id
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
            try:
                yield admin.url.set(database=name).render_as_string(hide_password=False)
            finally:
                await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@ANSWERS.right
def a_name_of_chance_and_a_lock():
    @pytest.fixture(scope="session")
    async def worker_url(admin, template, prefix):
        name = f"{prefix}{secrets.token_hex(6)}"
        lock = "SELECT pg_try_advisory_lock(hashtext(:name))"
        async with admin.connect() as connection:
            await connection.execute(text(lock), {"name": name})
            all_of_them = "SELECT datname FROM pg_database WHERE starts_with(datname, :prefix)"
            for old in (await connection.scalars(text(all_of_them), {"prefix": prefix})).all():
                if await connection.scalar(text(lock), {"name": old}):  # whoever used it is gone
                    await connection.execute(text(f'DROP DATABASE IF EXISTS "{old}" WITH (FORCE)'))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
            yield admin.url.set(database=name)
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@ANSWERS.wrong("never found again")
def a_name_of_chance():
    @pytest.fixture(scope="session")
    async def worker_url(admin, template, prefix):
        name = f"{prefix}{secrets.token_hex(6)}"
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            end = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = :name"
            await connection.execute(text(end), {"name": name})
            await connection.execute(text(f"DROP DATABASE {name}"))


@ANSWERS.right
def two_fixtures_and_a_manager():
    @asynccontextmanager
    async def made(admin, name, template):
        async def run(*statements):
            async with admin.connect() as connection:
                for statement in statements:
                    await connection.execute(text(statement.format(name=name, template=template)))

        drop = 'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
        await run(drop, 'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield
        await run(drop)

    @pytest.fixture(scope="session")
    def database_name(worker_id, prefix):
        return f"{prefix}{worker_id}"

    @pytest.fixture(scope="session")
    async def worker_url(admin, template, database_name):
        async with made(admin, database_name, template):
            yield admin.url.set(database=database_name)


@ANSWERS.right
def synchronous():
    @pytest.fixture(scope="session")
    def worker_url(worker_id, admin, template, prefix):
        address = admin.url.set(drivername="postgresql").render_as_string(hide_password=False)
        name = f"{prefix}{worker_id}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield admin.url.set(database=name)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@ANSWERS.wrong("no address")
def yields_a_name_only():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
            yield name
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@ANSWERS.wrong("the template")
def all_in_the_template():
    @pytest.fixture(scope="session")
    async def worker_url(admin, template):
        yield admin.url.set(database=template)


@ANSWERS.wrong("wrong name")
def a_database_that_is_there():
    @pytest.fixture(scope="session")
    async def worker_url(admin):
        return admin.url


@ANSWERS.wrong("shared")
def one_name():
    @pytest.fixture(scope="session")
    async def worker_url(admin, template, prefix):
        name = f"{prefix}test"
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("shared")
def one_name_made_again():
    @pytest.fixture(scope="session")
    async def worker_url(admin, template, prefix):
        name = f"{prefix}test"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("disturbed")
def sweeps_what_begins_with_its_id():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            mine = "SELECT datname FROM pg_database WHERE starts_with(datname, :name)"
            for old in (await connection.scalars(text(mine), {"name": name})).all():
                await connection.execute(text(f'DROP DATABASE IF EXISTS "{old}" WITH (FORCE)'))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("not migrated")
def some_tables():
    from sqlalchemy.ext.asyncio import create_async_engine

    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name}"))
        url = admin.url.set(database=name)
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            tables = [Base.metadata.tables[name] for name in ("users", "conversations", "messages")]
            await connection.run_sync(Base.metadata.create_all, tables=tables)
        await engine.dispose()
        yield url
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("not empty")
def keeps_what_is_there():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            there = await connection.scalar(text("SELECT count(*) FROM pg_database WHERE datname = :n"), {"n": name})
            if not there:
                await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("one for each test")
def made_for_each_test():
    @pytest.fixture
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("left")
def never_dropped():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return admin.url.set(database=name)


@ANSWERS.wrong("left")
def dropped_when_all_is_well():
    @pytest.fixture(scope="session")
    async def worker_url(request, worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
            yield admin.url.set(database=name)
            if not request.session.testsfailed:
                await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@ANSWERS.wrong("held open")
def dropped_without_force():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name}"))


@ANSWERS.wrong("in the way")
def trusts_the_last_run():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{worker_id}"
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@ANSWERS.wrong("alone")
def a_number_of_the_worker():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, admin, template, prefix):
        name = f"{prefix}{int(worker_id.removeprefix('gw'))}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield admin.url.set(database=name)
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@ANSWERS.wrong("set-up")
def in_a_transaction():
    @pytest.fixture(scope="session")
    async def worker_url(worker_id, engine, template, prefix):
        name = f"{prefix}{worker_id}"
        async with engine.begin() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield engine.url.set(database=name)
        await asyncio.sleep(0)
