"""Answers to 9.2, a budget as a test: each function's body is a cell."""

from __future__ import annotations

import asyncio
import inspect
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.instruments import QueryLog
from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("9.2")


@ANSWERS.right
def a_fixture_makes_the_members():
    @pytest.fixture
    async def members(session):
        for number in range(50):
            user = User(email=f"m{number}@example.org", name="M")
            for title in ("One", "Two"):
                messages = [Message(seq=1, role="user", content=title)]
                user.conversations.append(Conversation(title=title, messages=messages))
            session.add(user)
        await session.commit()
        session.expunge_all()

    async def test_budget(members, session, engine, members_page):
        with QueryLog(engine) as log:
            await members_page(session)
        assert log.count <= 3


@ANSWERS.right
def an_event_and_rows_in_sql():
    from sqlalchemy import event

    members = """
        WITH u AS (INSERT INTO users (email, name) SELECT gen_random_uuid() || '@example.org', 'M'
                   FROM generate_series(1, 100) RETURNING id),
             c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u RETURNING id)
        INSERT INTO messages (conversation_id, seq, role, content) SELECT id, 1, 'user', 'x' FROM c
    """

    async def test_budget(engine, sessions, members_page):
        async with engine.begin() as connection:
            await connection.execute(text(members))
        statements = []

        def note(connection, cursor, statement, parameters, context, executemany):
            statements.append(statement)

        event.listen(engine.sync_engine, "before_cursor_execute", note)
        try:
            async with sessions() as session:
                await members_page(session)
        finally:
            event.remove(engine.sync_engine, "before_cursor_execute", note)
        if len(statements) > 3:
            pytest.fail("\n".join(statements))


@ANSWERS.right
def grows_or_does_not():
    async def add_members(engine, start, n):
        async with AsyncSession(engine) as session:
            for number in range(start, start + n):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"g{number}@example.org", name="G", conversations=[conversation]))
            await session.commit()

    async def sent(engine, members_page):
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        return log.count

    async def test_budget(engine, members_page):
        await add_members(engine, 0, 20)
        few = await sent(engine, members_page)
        await add_members(engine, 20, 60)
        assert await sent(engine, members_page) == few


@ANSWERS.right
def parametrized_and_with_a_neighbour():
    async def spend(sessions, engine, members_page, n):
        async with sessions.begin() as session:
            await session.execute(text("DELETE FROM users"))
            for number in range(n):
                user = User(email=f"p{number}@example.org", name="P")
                session.add(Conversation(title="T", user=user, messages=[Message(seq=1, role="user", content="x")]))
        async with sessions() as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count <= 3

    async def test_budget(sessions, engine, members_page):
        await spend(sessions, engine, members_page, 40)

    @pytest.mark.parametrize("n", [35, 60])
    async def test_of_many(sessions, engine, members_page, n):
        await spend(sessions, engine, members_page, n)


@ANSWERS.right
def a_plain_function_with_a_loop_of_its_own():
    def test_budget(engine, members_page):
        async def steps():
            async with AsyncSession(engine) as session:
                for number in range(40):
                    conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                    session.add(User(email=f"s{number}@example.org", name="S", conversations=[conversation]))
                await session.commit()
                session.expire_all()
            async with AsyncSession(engine) as session:
                with QueryLog(engine) as log:
                    await members_page(session)
            return log.count

        assert asyncio.run(steps()) <= 3


@ANSWERS.wrong("never called")
def forgot_await():
    async def test_budget(engine, session, members_page):
        with QueryLog(engine) as log:
            members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("no database")
def mocked_session():
    async def test_budget(engine, members_page):
        session = AsyncMock()
        session.scalars.return_value.all = list
        session.execute.return_value = []
        session.run_sync.return_value = []
        await members_page(session)
        assert session.scalars.await_count <= 3


@ANSWERS.wrong("always fails")
def counts_its_own_inserts():
    async def test_budget(engine, members_page):
        with QueryLog(engine) as log:
            for number in range(40):
                async with AsyncSession(engine) as session:
                    conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                    session.add(User(email=f"i{number}@example.org", name="I", conversations=[conversation]))
                    await session.commit()
            async with AsyncSession(engine) as session:
                await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("always fails")
def reads_the_source():
    async def test_budget(session, members_page):
        await members_page(session)
        assert "selectinload" in inspect.getsource(members_page)


@ANSWERS.wrong("one more user")
def compares_lines_with_its_own_users():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"l{number}@example.org", name="L", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                lines = await members_page(session)
        assert len(lines) == 40
        assert log.count <= 3


@ANSWERS.wrong("false alarm")
def exactly_one():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"e{number}@example.org", name="E", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count == 1


@ANSWERS.wrong("no data")
def asks_an_empty_table():
    async def test_budget(engine, session, members_page):
        with QueryLog(engine) as log:
            await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("no data")
def does_not_commit():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"n{number}@example.org", name="N", conversations=[conversation]))
            await session.flush()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("warmed up")
def the_same_session():
    async def test_budget(engine, session, members_page):
        for number in range(40):
            conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
            session.add(User(email=f"w{number}@example.org", name="W", conversations=[conversation]))
        await session.commit()
        with QueryLog(engine) as log:
            await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("small data")
def fifteen_users():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(15):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"f{number}@example.org", name="F", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("let through")
def forty_users_who_have_said_nothing_but_one():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                session.add(User(email=f"q{number}@example.org", name="Q", conversations=[Conversation(title="T")]))
            message = Message(seq=1, role="user", content="x")
            loud = Conversation(title="T", messages=[message])
            session.add(User(email="loud@example.org", name="Loud", conversations=[loud]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert sum("FROM messages" in statement.sql for statement in log.statements) <= 1


@ANSWERS.wrong("small data")
def eighty_users_of_whom_ten_have_said_something():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(80):
                messages = [Message(seq=1, role="user", content="x")] if number % 8 == 0 else []
                conversation = Conversation(title="T", messages=messages)
                session.add(User(email=f"z{number}@example.org", name="Z", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("small data")
def conversations_in_which_nothing_was_said():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(100):
                conversation = Conversation(title="T", messages=[])
                session.add(User(email=f"y{number}@example.org", name="Y", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("let through")
def as_many_as_there_are_users():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"a{number}@example.org", name="A", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                lines = await members_page(session)
        assert log.count <= len(lines) + 3


@ANSWERS.wrong("let through")
def counts_on_the_session_connection():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"c{number}@example.org", name="C", conversations=[conversation]))
            await session.commit()
        seen = []
        async with AsyncSession(engine) as session:
            connection = await session.connection()
            event.listen(connection.sync_connection, "before_cursor_execute", lambda *_: seen.append(1))
            await members_page(session)
        assert len(seen) <= 3


@ANSWERS.wrong("let through")
def an_assertion_that_is_caught():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"t{number}@example.org", name="T", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        try:
            assert log.count <= 3
        except AssertionError as error:
            print(error)


@ANSWERS.wrong("let through")
def expected_to_fail():
    @pytest.mark.xfail
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"x{number}@example.org", name="X", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        assert log.count <= 3


@ANSWERS.wrong("not an assertion")
def raises_something_else():
    async def test_budget(engine, members_page):
        async with AsyncSession(engine) as session:
            for number in range(40):
                conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
                session.add(User(email=f"r{number}@example.org", name="R", conversations=[conversation]))
            await session.commit()
        async with AsyncSession(engine) as session:
            with QueryLog(engine) as log:
                await members_page(session)
        if log.count > 3:
            raise ValueError("N+1")


@ANSWERS.wrong("skipped")
def not_today():
    @pytest.mark.skip(reason="not today")
    async def test_budget(engine, session, members_page):
        await members_page(session)


@ANSWERS.wrong("raised")
def asks_for_what_is_not_there():
    async def test_budget(engine, session, members_page):
        lines = await members_page(session)
        n = await session.scalar(select(func.count()).select_from(User))
        assert lines[n + 3]


@ANSWERS.wrong("set-up")
def another_fixture():
    async def test_budget(engine, database, members_page):
        await members_page(database)


@ANSWERS.wrong("nothing collected")
def another_name():
    class test_budget:  # noqa: N801
        async def test_page(self, engine, session, members_page):
            await members_page(session)


@ANSWERS.wrong("endless")
def waits_for_ever():
    async def test_budget(engine, session, members_page):
        await members_page(session)
        await asyncio.Event().wait()


@ANSWERS.wrong("not collected")
def a_fixture_that_pytest_refuses():
    @pytest.mark.parametrize("n", [1, 2])
    async def test_budget(engine, members_page):
        await members_page(engine)
