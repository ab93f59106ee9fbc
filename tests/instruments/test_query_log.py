"""The query log counts what an engine sends, and lets go of the engine afterwards."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import URL, Engine, delete, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, selectinload

from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, Statement
from course_lib.models import Conversation, Message, User

Sessions = async_sessionmaker[AsyncSession]
FIFTY = select(Conversation).order_by(Conversation.id).limit(50)


async def test_a_loop_over_fifty_conversations_sends_fifty_one_statements(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    with QueryLog(engine) as log:
        async with sessions() as session:
            for conversation in await session.scalars(FIFTY):
                await conversation.awaitable_attrs.messages
    assert (log.count, len(log), len(log.statements), log.transactions) == (51, 51, 51, 1)
    [repeat] = log.repeated
    assert (repeat.count, repeat.n_plus_one) == (50, True)
    assert "messages.conversation_id" in repeat.shape


async def test_selectinload_sends_two_and_repeats_nothing(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions() as session:
            found = (await session.scalars(FIFTY.options(selectinload(Conversation.messages)))).all()
    assert log.count == 2
    assert log.repeated == []
    assert log.rows == 50 + sum(len(conversation.messages) for conversation in found)


async def test_the_first_connection_of_an_engine_adds_nothing(seeded_url: URL) -> None:
    engine = make_engine(seeded_url)
    with QueryLog() as everywhere, QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    await engine.dispose()
    assert [statement.sql for statement in log.statements] == ["SELECT 1"]
    assert [statement.sql for statement in everywhere.statements] == ["SELECT 1"]


async def test_control_of_transactions_is_shown_and_not_counted(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions.begin() as session:
            await session.execute(select(User.id))
            async with session.begin_nested():
                await session.execute(select(User.id))
    assert (log.count, log.transactions) == (2, 1)
    assert [entry.line for entry in log.entries if entry.is_control] == [
        "BEGIN", "SAVEPOINT", "RELEASE SAVEPOINT", "COMMIT",
    ]  # fmt: skip
    assert {entry.transaction for entry in log.entries} == {1}


async def test_a_transaction_that_sends_nothing_is_none(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.begin():
            pass
    assert (log.entries, log.transactions) == ([], 0)


async def test_autocommit_has_no_transactions(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM users"))
    assert (log.count, log.transactions, len(log.entries)) == (1, 0, 1)


async def test_a_transaction_that_began_before_the_log_is_counted(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        await session.execute(select(User.id))
        with QueryLog(engine) as log:
            await session.execute(select(User.id))
            await session.execute(select(User.id))
    assert (log.count, log.transactions) == (2, 1)


async def test_two_logs_at_once_each_see_what_they_cover(engine: AsyncEngine, sync_engine: Engine) -> None:
    with QueryLog() as everywhere, QueryLog(engine) as outer:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            with QueryLog(engine) as inner:
                await connection.execute(text("SELECT 2"))
            await connection.execute(text("SELECT 3"))
        with sync_engine.connect() as sync_connection:
            sync_connection.execute(text("SELECT 4"))
    assert [statement.sql for statement in inner.statements] == ["SELECT 2"]
    assert [statement.sql for statement in outer.statements] == ["SELECT 1", "SELECT 2", "SELECT 3"]
    assert len(everywhere) == 4


async def test_hooks_are_gone_after_an_exception(engine: AsyncEngine) -> None:
    log = QueryLog(engine)
    with pytest.raises(ZeroDivisionError), log:
        raise ZeroDivisionError
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    assert len(log) == 0
    assert not any(event.contains(engine.sync_engine, name, listener) for name, listener in log._listeners())


async def test_two_tasks_on_two_connections_keep_their_own_time(engine: AsyncEngine) -> None:
    async def sleep(seconds: float) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT pg_sleep({seconds})"))

    with QueryLog(engine) as log:
        await asyncio.gather(sleep(0.4), sleep(0.1))
    times = {statement.sql[-5:]: statement.seconds or 0 for statement in log.statements}
    assert 0.1 <= times["(0.1)"] < 0.4 <= times["(0.4)"]
    assert {statement.connection for statement in log.statements} == {1, 2}
    assert {statement.transaction for statement in log.statements} == {1, 2}


def test_a_synchronous_engine_is_logged_too(sync_engine: Engine) -> None:
    with QueryLog(sync_engine) as log, Session(sync_engine) as session:
        for conversation in session.scalars(FIFTY):
            assert conversation.messages
    assert (log.count, log.transactions) == (51, 1)
    assert log.repeated[0].n_plus_one
    assert "$1 = messages.conversation_id" in log.repeated[0].shape


async def test_an_executemany_is_one_statement_with_its_rows(engine: AsyncEngine) -> None:
    people = [{"email": f"new{number}@example.org", "name": "New"} for number in range(30)]
    with QueryLog(engine) as log:
        async with engine.begin() as connection:
            await connection.execute(insert(User), people)
    [statement] = log.statements
    assert (statement.parameter_sets, statement.error) == (30, None)
    assert "executemany of 30 rows" in str(log)


async def test_objects_added_together_are_one_statement(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions.begin() as session:
            session.add_all([User(email=f"new{number}@example.org", name="New") for number in range(30)])
    [statement] = log.statements
    assert (statement.rows, statement.parameter_sets) == (30, None)
    assert statement.line.startswith("INSERT INTO users (email, name) VALUES (… ×30) RETURNING")


async def test_changed_rows_count_as_rows(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            deleted = await connection.execute(delete(Message))
    assert log.rows == deleted.rowcount > 0


async def test_a_failed_statement_says_how(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions() as session:
            session.add(User(email="ada@example.org", name="Ada again"))
            with pytest.raises(IntegrityError):
                await session.flush()
    [statement] = log.statements
    assert (statement.error, statement.sqlstate, statement.rows) == ("IntegrityError", "23505", None)
    assert statement.seconds is not None
    assert "✗ IntegrityError 23505" in str(log)
    assert str(log).splitlines()[0] == "1 statement, 1 transaction, 0 rows, 1 failed"


async def test_a_failed_commit_says_how(engine: AsyncEngine) -> None:
    deferred = (
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO child VALUES (1)",
    )
    with QueryLog(engine) as log, pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            for sql in deferred:
                await connection.execute(text(sql))
    [commit] = [entry for entry in log.entries if entry.sql == "COMMIT"]
    assert (commit.error, commit.sqlstate) == ("IntegrityError", "23503")


async def test_a_cancelled_statement_says_so(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.execute(text("SELECT pg_sleep(5)")), 0.1)
    assert [statement.error for statement in log.statements] == ["CancelledError"]


async def test_parameters_are_kept_only_when_asked_for(engine: AsyncEngine) -> None:
    secret = "a-users-own-words"
    question = select(User.id).where(User.name == secret)
    with QueryLog(engine) as log, QueryLog(engine, parameters=True) as keeping:
        async with engine.connect() as connection:
            await connection.execute(question)
    assert log.statements[0].parameters is None
    assert secret not in repr(log.statements) + repr(vars(log)) + str(log) + log._repr_html_()
    assert secret in keeping.statements[0].parameters
    assert secret not in str(keeping) + keeping._repr_html_()


async def test_one_question_in_many_transactions_is_no_n_plus_one(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        for _ in range(5):
            async with sessions() as session:
                await session.scalar(select(func.count()).select_from(User))
    assert [(repeat.count, repeat.n_plus_one) for repeat in log.repeated] == [(5, False)]
    assert "N+1" not in str(log)


async def test_batches_of_keys_are_no_n_plus_one(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        keys = (await session.scalars(select(Message.id))).all()
        with QueryLog(engine) as log:
            for start in range(0, 400, 100):
                await session.execute(select(Message.id).where(Message.id.in_(keys[start : start + 100])))
    assert [(repeat.count, repeat.n_plus_one) for repeat in log.repeated] == [(4, False)]


@pytest.mark.parametrize("wrong", ["engine", 7, object()])
def test_what_is_no_engine_is_refused(wrong: object) -> None:
    with pytest.raises(CourseError, match="QueryLog listens to an engine"):
        QueryLog(wrong)  # type: ignore[arg-type]


async def test_a_log_is_not_opened_twice_at_once_and_starts_anew_afterwards(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with QueryLog(engine) as log:
            await connection.execute(text("SELECT 1"))
            with pytest.raises(CourseError, match="already open"):
                log.__enter__()
        with log:
            await connection.execute(text("SELECT 2"))
    assert [statement.sql for statement in log.statements] == ["SELECT 2"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1", " \t\nselect 1", "-- why\nSELECT 1", "/* a /* b */ c */ SELECT 1", "/**/(( -- x\n TABLE users))",
        "TABLE users", "VALUES (1)", "WITH u AS (TABLE users) TABLE u", "/* UPDATE */ SELECT 1", "(\tSELECT 1)",
    ],
)  # fmt: skip
def test_a_question_is_known_behind_comments_tabs_and_parentheses(sql: str) -> None:
    assert Statement(sql, None, 1, None, 0.0).is_select


@pytest.mark.parametrize(
    "sql",
    ["UPDATE users SET name = 'SELECT'", "-- SELECT\nDELETE FROM users", "/* SELECT", "TABLES", "/* x */ COMMIT"],
)
def test_what_only_holds_a_question_is_none(sql: str) -> None:
    assert not Statement(sql, None, 1, None, 0.0).is_select


def test_control_is_known_behind_comments_too() -> None:
    assert Statement("/* the end */ -- now\n COMMIT", None, 1, None, 0.0).is_control


def test_a_long_comment_is_read_in_no_time_to_speak_of() -> None:
    assert not Statement("/*" + "*/ /*" * 20_000 + "(" * 1000, None, 1, None, 0.0).is_select


async def test_rows_that_returning_brings_came_to_the_client(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE users SET name = 'n'"))
            await connection.execute(text("UPDATE users SET name = 'm' RETURNING id"))
            async with connection.stream(text("SELECT generate_series(1, 20)")) as result:
                await result.fetchmany(5)
    assert [statement.received for statement in log.statements] == [0, 8, 5]
