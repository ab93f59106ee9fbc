"""Answers to 9.5, a migration as a test: each function's body is a cell."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("9.5")


@ANSWERS.right
def tests_of_each_promise():
    @pytest.fixture
    async def two(sessions):
        async with sessions.begin() as session:
            await session.execute(text("DELETE FROM users"))
            for domain in ("org", "net"):
                talks = [Conversation(title=domain)]
                session.add(User(email=f"eve@example.{domain}", name=f"Eve of {domain}", conversations=talks))

    async def names(sessions):
        async with sessions() as session:
            rows = (
                "SELECT (to_jsonb(u) - 'handle')::text || c.title FROM users u JOIN conversations c ON user_id = u.id"
            )
            return set((await session.scalars(text(rows))).all())

    async def test_revision(two, sessions, engine, revision):
        before = await names(sessions)
        for step in (revision.upgrade, revision.downgrade, revision.upgrade, revision.downgrade):
            await step()
            assert await names(sessions) == before

    async def test_of_the_schema(two, engine, revision):
        def columns(connection):
            found = inspect(connection).get_columns("users")
            return {column["name"]: (str(column["type"]), column["nullable"]) for column in found}

        async def now():
            async with engine.connect() as connection:
                return await connection.run_sync(columns)

        before = await now()
        await revision.upgrade()
        assert await now() == {**before, "handle": ("TEXT", False)}
        await revision.downgrade()
        assert await now() == before

    async def test_of_uniqueness(two, sessions, revision):
        await revision.upgrade()
        async with sessions() as session:
            handles = (await session.scalars(text("SELECT handle FROM users"))).all()
            assert len(set(handles)) == 2
            with pytest.raises(Exception, match="uq_users_handle"):
                await session.execute(text("UPDATE users SET handle = 'the same'"))


@ANSWERS.right
def everything_as_text():
    async def everything(engine):
        tables, left = ("users", "conversations", "messages"), []
        async with engine.connect() as connection:
            for table in tables:
                rows = await connection.scalars(text(f"SELECT to_jsonb(t) - 'handle' FROM {table} AS t"))
                left.append(sorted(map(str, rows)))
        return left

    async def catalogue(engine):
        async with engine.connect() as connection:
            indexes = await connection.execute(
                text("SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indrelid = 'users'::regclass")
            )
            columns = await connection.execute(
                text(
                    "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
                    "WHERE table_name = 'users'"
                )
            )
            return {tuple(row) for row in indexes} | {tuple(row) for row in columns}

    async def test_revision(engine, session, revision):
        for number in range(6):
            conversation = Conversation(title="T", messages=[Message(seq=1, role="user", content="x")])
            session.add(User(email=f"fay@{number}.example", name="Fay", conversations=[conversation]))
        await session.commit()
        rows, before = await everything(engine), await catalogue(engine)
        await revision.upgrade()
        assert await everything(engine) == rows
        made = "CREATE UNIQUE INDEX uq_users_handle ON public.users USING btree (handle)"
        assert await catalogue(engine) - before == {(made, True), ("handle", "text", "NO")}
        await revision.downgrade()
        assert await everything(engine) == rows
        assert await catalogue(engine) == before
        await revision.upgrade()
        assert await everything(engine) == rows


@ANSWERS.right
def a_class():
    class TestRevision:
        async def fill(self, sessions):
            async with sessions.begin() as session:
                await session.execute(text("TRUNCATE users CASCADE"))
                for place in range(3):
                    session.add(
                        User(email=f"gil@{place}.org", conversations=[Conversation(title="T")], name=f"G{place}")
                    )

        async def seen(self, sessions):
            row = "SELECT u.email, u.name, u.created_at, c.title FROM users u JOIN conversations c ON user_id = u.id"
            column = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'users'"
            async with sessions() as session:
                return [set((await session.execute(text(each))).all()) for each in (row, column)]

        async def test_there_and_back(self, sessions, revision):
            await self.fill(sessions)
            rows, columns = await self.seen(sessions)
            await revision.upgrade()
            assert await self.seen(sessions) == [rows, columns | {("handle", "text")}]
            await revision.downgrade()
            assert await self.seen(sessions) == [rows, columns]
            await revision.upgrade()

        async def test_up(self, sessions, revision):
            await self.fill(sessions)
            await revision.upgrade()
            async with sessions() as session:
                count = "SELECT count(DISTINCT handle), count(*) FILTER (WHERE name LIKE 'G_') FROM users"
                assert (await session.execute(text(count))).one() == (3, 3)
                valid = "SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname LIKE :name"
                assert await session.scalar(text(valid), {"name": "uq_users_handle"})
                for value in ("'gil'", "NULL"):
                    with pytest.raises(DBAPIError):
                        async with session.begin_nested():
                            await session.execute(text(f"UPDATE users SET handle = {value}"))

    async def test_revision(sessions, revision):
        await TestRevision().test_there_and_back(sessions, revision)


@ANSWERS.right
def a_plain_function_with_a_loop_of_its_own():
    def test_revision(engine, revision):
        async def ask(statement):
            async with engine.begin() as connection:
                result = await connection.execute(text(statement))
                return result.all() if result.returns_rows else None

        async def steps():
            await ask("INSERT INTO users (email, name) SELECT 'hal@' || n || '.org', 'Hal ' || n "
                      "FROM generate_series(1, 20) n")  # fmt: skip
            await ask("INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM users")
            before = await ask("SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u")
            names = await ask("SELECT id, name FROM users ORDER BY id")
            for _ in range(2):
                await revision.upgrade()
                assert await ask("SELECT id, name FROM users ORDER BY id") == names
                assert await ask("SELECT 1 FROM users HAVING count(*) = count(DISTINCT handle)")
                assert await ask("SELECT 1 FROM pg_index WHERE indexrelid = 'uq_users_handle'::regclass AND indisvalid "
                                 "AND indisunique AND indnatts = 1")  # fmt: skip
                assert await ask("SELECT 1 FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'handle' "
                                 "AND attnotnull AND atttypid = 'text'::regtype")  # fmt: skip
                assert await ask("SELECT count(*) FROM conversations") == await ask("SELECT count(*) FROM users")
                await revision.downgrade()
                assert await ask("SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u") == before

        asyncio.run(steps())


@ANSWERS.wrong("never called")
def forgot_await():
    async def test_revision(engine, revision):
        revision.upgrade()
        revision.downgrade()


@ANSWERS.wrong("in its own way")
def a_transaction_that_stays_open():
    async def test_revision(session, revision):
        session.add(User(email="ada@example.org", name="Ada"))
        await session.commit()
        before = (await session.scalars(select(User.name))).all()
        await revision.upgrade()
        assert (await session.scalars(select(User.name))).all() == before


@ANSWERS.wrong("always fails")
def expects_a_column_of_another_name():
    async def test_revision(engine, revision):
        await revision.upgrade()
        async with engine.connect() as connection:
            columns = await connection.run_sync(lambda c: {one["name"] for one in inspect(c).get_columns("users")})
        assert "nickname" in columns


@ANSWERS.wrong("one more user")
def counts_its_own_users():
    async def test_revision(sessions, revision):
        async with sessions.begin() as session:
            session.add_all([User(email=f"ida@{place}.org", name="Ida") for place in range(2)])
        await revision.upgrade()
        async with sessions() as session:
            assert await session.scalar(select(func.count(User.id))) == 2


@ANSWERS.wrong("false alarm")
def wants_the_bare_handle():
    async def test_revision(sessions, revision):
        async with sessions.begin() as session:
            session.add_all([User(email=f"{name}@jo.org", name="Jo") for name in ("jo", "joe")])
        await revision.upgrade()
        async with sessions() as session:
            handles = (await session.scalars(text("SELECT handle FROM users"))).all()
        assert "jo" in handles and "joe" in handles


@ANSWERS.wrong("empty table")
def like_the_ready_made_ones():
    async def test_revision(revision):
        await revision.upgrade()
        await revision.downgrade()
        await revision.upgrade()


@ANSWERS.wrong("empty table")
def does_not_commit():
    async def test_revision(engine, revision):
        async with AsyncSession(engine) as session:
            session.add_all([User(email=f"kim@{place}.org", name="Kim") for place in range(2)])
            await session.flush()
        await revision.upgrade()
        await revision.downgrade()
        await revision.upgrade()


@ANSWERS.wrong("nobody shares")
def everybody_has_another_name():
    async def test_revision(engine, sessions, revision):
        async with sessions.begin() as session:
            session.add_all([User(email=f"leo-{place}@leo.org", name="Leo") for place in range(30)])

        async def rows():
            async with sessions() as session:
                return (await session.execute(select(User.id, User.name).order_by(User.id))).all()

        async def columns():
            async with engine.connect() as connection:
                return await connection.run_sync(lambda c: {one["name"] for one in inspect(c).get_columns("users")})

        before, schema = await rows(), await columns()
        await revision.upgrade()
        assert await rows() == before
        await revision.downgrade()
        assert (await rows(), await columns()) == (before, schema)
        await revision.upgrade()


@ANSWERS.wrong("never down")
def only_up():
    async def test_revision(sessions, revision):
        async with sessions.begin() as session:
            session.add_all([User(email=f"mia@{place}.org", name="Mia") for place in range(2)])
        async with sessions() as session:
            before = (await session.execute(select(User.id, User.name).order_by(User.id))).all()
        await revision.upgrade()
        async with sessions() as session:
            assert (await session.execute(select(User.id, User.name).order_by(User.id))).all() == before
            assert all((await session.scalars(text("SELECT handle FROM users"))).all())
            assert await session.scalar(text("SELECT bool_and(indisvalid) FROM pg_index"))


@ANSWERS.wrong("up once")
def up_and_down():
    async def test_revision(engine, sessions, revision):
        async with sessions.begin() as session:
            session.add_all([User(email=f"ned@{place}.org", name="Ned") for place in range(2)])

        async def rows():
            async with sessions() as session:
                return (await session.execute(select(User.id, User.name).order_by(User.id))).all()

        before = await rows()
        await revision.upgrade()
        assert await rows() == before
        async with sessions() as session:
            assert all((await session.scalars(text("SELECT handle FROM users"))).all())
            assert await session.scalar(text("SELECT bool_and(indisvalid) FROM pg_index"))
        await revision.downgrade()
        assert await rows() == before
        async with sessions() as session:
            assert not await session.scalar(text("SELECT to_regclass('uq_users_handle')"))


@ANSWERS.wrong("users only")
def does_not_look_at_the_index():
    async def test_revision(engine, sessions, revision):
        async with sessions.begin() as session:
            session.add_all([User(email=f"oli@{place}.org", name="Oli") for place in range(2)])

        async def rows():
            async with sessions() as session:
                return (await session.execute(select(User.id, User.name).order_by(User.id))).all()

        before = await rows()
        for _ in range(2):
            await revision.upgrade()
            assert await rows() == before
            async with sessions() as session:
                handles = (await session.scalars(text("SELECT handle FROM users"))).all()
            assert None not in handles and len(handles) == len(set(handles))
            await revision.downgrade()
            assert await rows() == before
            async with engine.connect() as connection:
                columns = await connection.run_sync(lambda c: {one["name"] for one in inspect(c).get_columns("users")})
            assert "handle" not in columns


@ANSWERS.wrong("lives")
def counts_rows_only():
    async def test_revision(engine, sessions, revision):
        async with sessions.begin() as session:
            for place in range(2):
                session.add(User(email=f"pia@{place}.org", name="Pia", conversations=[Conversation(title="T")]))

        async def users():
            async with sessions() as session:
                return await session.scalar(select(func.count(Conversation.id)))

        before = await users()
        await revision.upgrade()
        assert await users() == before
        async with sessions() as session:
            assert all((await session.scalars(text("SELECT handle FROM users"))).all())
            assert await session.scalar(text("SELECT bool_and(indisvalid) FROM pg_index"))
        await revision.downgrade()
        assert await users() == before
        async with sessions() as session:
            assert not await session.scalar(text("SELECT to_regclass('uq_users_handle')"))
        await revision.upgrade()
