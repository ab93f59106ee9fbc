"""Answers to 9.1, a fixture that leaves nothing: each function's body is a cell."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from sqlalchemy import NullPool, StaticPool, delete, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from course_lib.models import Conversation, Message, User
from course_lib.models.base import Base
from tests.exercises.written import Answers

ANSWERS = Answers("9.1")


@ANSWERS.right
def truncate_after_closing():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, jobs CASCADE"))


@ANSWERS.right
def a_class_that_closes():
    class Sessions:
        def __init__(self, engine):
            self.engine = engine
            self.make = async_sessionmaker(engine)
            self.made = []

        def __call__(self):
            session = self.make()
            self.made.append(session)
            return session

        async def __aenter__(self):
            return self

        async def __aexit__(self, *error):
            for session in self.made:
                await session.close()
            async with self.make.begin() as session:
                for model in (User, *[mapper.class_ for mapper in Base.registry.mappers]):
                    await session.execute(delete(model))

    @pytest.fixture
    async def db(engine):
        async with Sessions(engine) as sessions:
            yield sessions


@ANSWERS.right
def ends_other_connections():
    @pytest.fixture
    async def db(sessions):
        yield sessions
        async with sessions.begin() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            for table in Base.metadata.tables:
                await session.execute(text(f"TRUNCATE {table} CASCADE"))


@ANSWERS.right
def a_stack_and_an_engine_of_its_own():
    @pytest.fixture
    async def clean(engine):
        yield
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM users"))
            await connection.execute(text("DELETE FROM jobs"))

    @pytest.fixture
    async def db(engine, clean):
        mine = create_async_engine(engine.url)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(mine.dispose)

            def make():
                session = AsyncSession(mine, expire_on_commit=False)
                stack.push_async_callback(session.close)
                return session

            yield make


@ANSWERS.right
def drops_and_creates():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)


@ANSWERS.wrong("no sessions")
def yields_a_session():
    @pytest.fixture
    async def db(engine):
        async with AsyncSession(engine) as session:
            yield session
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, jobs CASCADE"))


@ANSWERS.wrong("one session")
def always_the_same():
    @pytest.fixture
    async def db(engine):
        async with AsyncSession(engine) as session:
            yield lambda: session
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, jobs CASCADE"))


@ANSWERS.wrong("not committed")
def savepoints():
    @pytest.fixture
    async def db(engine):
        async with engine.connect() as connection:
            outer = await connection.begin()
            yield async_sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
            await outer.rollback()


@ANSWERS.wrong("one connection")
def a_static_pool():
    @pytest.fixture
    async def db(engine):
        mine = create_async_engine(engine.url, poolclass=StaticPool)
        yield async_sessionmaker(mine, expire_on_commit=False)
        await mine.dispose()
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM users"))
            await connection.execute(text("DELETE FROM jobs"))


@ANSWERS.wrong("rows left")
def rolls_back():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.rollback()
            await session.close()


@ANSWERS.wrong("rows left")
def users_only():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            for model in (Message, Conversation, User):
                await connection.execute(delete(model))


@ANSWERS.wrong("rows left")
def before_and_not_after():
    @pytest.fixture
    async def db(engine):
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, jobs CASCADE"))
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()


@ANSWERS.wrong("rows left")
def forgets_to_commit_its_deletes():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with AsyncSession(engine) as session:
            await session.execute(delete(User))


@ANSWERS.wrong("rows left")
def once_for_all_tests():
    @pytest.fixture(scope="session")
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, jobs CASCADE"))


@ANSWERS.wrong("version gone")
def every_table_there_is():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            names = await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
            await connection.execute(text(f"TRUNCATE {', '.join(names)} CASCADE"))


@ANSWERS.wrong("schema changed")
def creates_before_and_drops_after():
    @pytest.fixture
    async def db(engine):
        sessions = []
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)


@ANSWERS.wrong("held up")
def closes_nothing():
    @pytest.fixture
    async def db(sessions, engine):
        yield sessions
        async with engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                await connection.execute(delete(table))


@ANSWERS.wrong("held up")
def closes_the_last_only():
    @pytest.fixture
    async def db(sessions, engine):
        last = None

        def opened():
            nonlocal last
            last = sessions()
            return last

        yield opened
        if last is not None:
            await last.close()
        async with engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                await connection.execute(delete(table))


@ANSWERS.wrong("rows left")
def tables_whose_objects_were_flushed():
    @pytest.fixture
    async def db(engine, sessions):
        made, written = [], set()

        def remember(session, context):
            written.update(type(thing).__table__ for thing in session.new)

        def opened():
            session = sessions()
            event.listen(session.sync_session, "after_flush", remember)
            made.append(session)
            return session

        yield opened
        for session in made:
            await session.close()
        async with engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                if table in written:
                    await connection.execute(delete(table))


@ANSWERS.wrong("connections left")
def keeps_its_engine():
    @pytest.fixture
    async def db(engine):
        mine = create_async_engine(engine.url)
        sessions = []

        def opened():
            sessions.append(AsyncSession(mine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, jobs CASCADE"))


@ANSWERS.wrong("set-up")
def parents_first():
    @pytest.fixture
    async def db(engine):
        sessions = []

        def opened():
            sessions.append(AsyncSession(engine, expire_on_commit=False))
            return sessions[-1]

        yield opened
        for session in sessions:
            await session.close()
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE users"))


@ANSWERS.wrong("rows left")
def returns_and_does_not_yield():
    @pytest.fixture
    async def db(engine):
        return async_sessionmaker(create_async_engine(engine.url, poolclass=NullPool), expire_on_commit=False)
