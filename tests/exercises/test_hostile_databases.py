"""What an answer does to its database is said in a sentence, and no other check is affected."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from course_lib.data.fresh import FreshDatabase, make_database
from course_lib.errors import CourseError
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
from course_lib.judging.attempt import Attempt
from course_lib.postgres import Server, find_server
from tests.exercises.tortured import CountUsers, right, verdict_on

Harm = Callable[[AsyncEngine, str], Awaitable[Any]]
kept: list[Any] = []


class CountTwice(CountUsers):
    """The judge looks once more after the answer."""

    seconds = 8.0

    async def judge(self, attempt: Attempt) -> None:
        await super().judge(attempt)
        await attempt.sql("INSERT INTO users (email, name) VALUES ('after@x.org', 'n')")
        await attempt.value("SELECT count(*) FROM users WHERE email = 'after@x.org'")


def _here(statement: str) -> Harm:
    """In the answer's own database."""

    async def harm(engine: AsyncEngine, name: str) -> None:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            for one in statement.split(";;"):
                await connection.execute(text(one.replace("%", name)))

    return harm


def _next_door(statement: str) -> Harm:
    """From another database, with nobody left in the answer's own."""

    async def harm(engine: AsyncEngine, name: str) -> None:
        await engine.dispose()
        other = create_async_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        async with other.connect() as connection:
            for one in statement.split(";;"):
                await connection.execute(text(one.replace("%", name)))
        await other.dispose()

    return harm


async def _connect(engine: AsyncEngine) -> Any:
    return await asyncpg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))


async def _locks(engine: AsyncEngine, name: str) -> None:
    connection = await _connect(engine)
    await connection.execute("BEGIN; LOCK TABLE users")
    kept.append(connection)


HARM: dict[str, tuple[Harm, str]] = {
    "drops it": (_next_door('DROP DATABASE "%" WITH (FORCE)'), "is gone"),
    "renames it": (
        _next_door(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = '%';; "
            'ALTER DATABASE "%" RENAME TO "%_mine"'
        ),
        "is gone",
    ),
    "lets nobody in": (_next_door('ALTER DATABASE "%" ALLOW_CONNECTIONS false'), "lets nobody in"),
    "limits connections": (_here('ALTER DATABASE "%" CONNECTION LIMIT 0'), ""),  # superusers get in
    "sets it read only": (_here('ALTER DATABASE "%" SET default_transaction_read_only = on'), "read_only"),
    "sets its search path": (_here('ALTER DATABASE "%" SET search_path = pg_catalog'), "search_path"),
    "sets its timeout": (_here("ALTER DATABASE \"%\" SET statement_timeout = '1ms'"), ""),  # not that of the judge
    "keeps a lock": (_locks, "is locked"),
    "drops the schema": (_here("DROP SCHEMA public CASCADE"), "no longer whole"),
    "drops a table": (_here("DROP TABLE users CASCADE"), "no longer whole"),
    "puts a view in its place": (
        _here("ALTER TABLE users RENAME TO u;; CREATE VIEW users AS SELECT DISTINCT email, name FROM u"),
        "no longer whole",
    ),
    "adds a trigger": (
        _here(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no, no''; END';; "
            "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION no()"
        ),
        "no longer whole",
    ),
    "adds a slow rule": (
        _here("CREATE RULE r AS ON INSERT TO users DO ALSO SELECT pg_sleep(60)"), "too slow",
    ),
    "marks it a template and unmarks it": (
        _next_door('ALTER DATABASE "%" IS_TEMPLATE true;; COMMENT ON DATABASE "%" IS NULL'), "",
    ),
    "ends all connections": (
        _here("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%' AND pid <> pg_backend_pid()"),
        "",
    ),
}  # fmt: skip


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """The server, on which every check must leave as many databases as before."""
    server = await find_server()
    async with server.connection() as connection:
        mine = f"lesson_00_{os.getpid()}%"
        names = f"SELECT array_agg(datname ORDER BY datname) FROM pg_database WHERE datname LIKE '{mine}'"
        before = await connection.fetchval(names)
        yield server
        assert await connection.fetchval(names) == before


@pytest.mark.parametrize("name", HARM)
@pytest.mark.soak(after=6)
async def test_harm_to_its_database_is_said_and_stays_there(
    name: str, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    harm, words = HARM[name]

    async def count(session: AsyncSession) -> Any:
        number = await right(session)
        await session.close()
        engine: AsyncEngine = session.bind  # type: ignore[assignment]
        await harm(engine, str(engine.url.database))
        return number

    start = time.monotonic()
    verdict = await judge_answer(CountTwice(), count)
    assert time.monotonic() - start < 10
    if words:
        assert verdict.mistake == "database broken", str(verdict)
        assert verdict.finding.sentence.startswith("After your answer the database ")
        assert words in verdict.finding.sentence
        assert len(verdict.finding.sentence) < 300
    else:
        assert verdict.passed, str(verdict)
    while kept:
        kept.pop().terminate()
    assert (await judge_answer(CountTwice(), right)).passed
    assert capfd.readouterr().err == ""


# -- a role of one's own, for others use the server's meanwhile ---------------------------------------------------


@pytest.fixture
async def role(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A role that is no superuser, to which every attempt's database is given."""
    name = f"judged_{os.getpid()}"
    theirs = replace(server, url=server.url.set(username=name, password="x"))

    @asynccontextmanager
    async def make(lesson: str, recipe: str = "base") -> AsyncIterator[tuple[FreshDatabase, Any]]:
        database = await make_database(lesson, recipe)
        async with server.connection(database.name) as connection:
            await connection.execute(
                f'ALTER DATABASE "{database.name}" OWNER TO {name}; GRANT ALL ON SCHEMA public TO {name};'
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}; ALTER TABLE users OWNER TO {name}"
            )
        async with theirs.connection() as admin:
            yield FreshDatabase(theirs, database.name), admin

    async with server.connection() as connection:
        await connection.execute(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'x'")
        monkeypatch.setattr(import_module("course_lib.judging.judge"), "make_and_stay", make)
        yield name
        for left in await connection.fetch(
            "SELECT datname FROM pg_database WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = $1)", name
        ):
            await connection.execute(f'DROP DATABASE "{left[0]}" WITH (FORCE)')
        await connection.execute(f"DROP ROLE {name}")


async def test_settings_of_the_role_are_put_back_and_remarked_on(role: str, server: Server) -> None:
    async def count(session: AsyncSession) -> Any:
        number = await right(session)
        for setting in ("default_transaction_read_only = on", "search_path = pg_catalog", "work_mem = '64kB'"):
            await session.execute(text(f"ALTER ROLE CURRENT_USER SET {setting}"))
        await session.commit()
        return number

    async with server.connection() as connection:
        await connection.execute(f"ALTER ROLE {role} SET work_mem = '5MB'")
        verdict = await verdict_on(count)
        settings = await connection.fetchval("SELECT useconfig FROM pg_user WHERE usename = $1", role)
    assert settings == ["work_mem=5MB"]
    assert "`default_transaction_read_only`, `search_path`, `work_mem`. They were put back." in str(verdict.paragraphs)


async def test_what_an_answer_does_to_the_server_is_put_back(server: Server) -> None:
    known, made = f"known_{os.getpid()}", f"made_{os.getpid()}"

    async def count(session: AsyncSession) -> Any:
        number = await right(session)
        for statement in (
            f"CREATE ROLE {made} SUPERUSER", f"ALTER ROLE {known} LOGIN CONNECTION LIMIT 3 PASSWORD 'x'",
            f"ALTER ROLE {known} SET search_path = a, b", f"ALTER ROLE {known} RESET work_mem",
        ):  # fmt: skip
            await session.execute(text(statement))
        await session.commit()
        connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        await connection.execute(text("ALTER SYSTEM SET log_min_duration_statement = '7s'"))
        return number

    state = """
        SELECT (SELECT array_agg((rolname, rolcanlogin, rolconnlimit, rolpassword, setconfig)::text ORDER BY rolname)
                FROM pg_authid LEFT JOIN pg_db_role_setting ON setrole = pg_authid.oid AND setdatabase = 0
                WHERE rolname IN ($1, $2)),
               (SELECT array_agg(name || setting) FROM pg_file_settings WHERE name = 'log_min_duration_statement')
    """
    async with server.connection() as connection:
        await connection.execute(f"CREATE ROLE {known} PASSWORD 'y'; ALTER ROLE {known} SET work_mem = '3MB'")
        try:
            before = await connection.fetchrow(state, known, made)
            verdict = await verdict_on(count)
            assert await connection.fetchrow(state, known, made) == before
        finally:
            await connection.execute(f"DROP ROLE {known}; DROP ROLE IF EXISTS {made}")
    for word in (made, known, "log_min_duration_statement", "search_path", "work_mem", "They were put back."):
        assert word in str(verdict.paragraphs)


async def opens_three(session: AsyncSession) -> Any:
    """Three at once: allowed, since the pool has five."""
    engine: AsyncEngine = session.bind  # type: ignore[assignment]
    async with engine.connect() as one, engine.connect() as two, engine.connect() as three:
        for connection in (one, two, three):
            await connection.execute(text("SELECT 1"))
    return await right(session)


async def opens_three_and_is_wrong(session: AsyncSession) -> Any:
    try:
        return await opens_three(session)
    except DBAPIError:
        return 0


@pytest.mark.parametrize("answer", [opens_three, opens_three_and_is_wrong])
async def test_a_role_out_of_connections_is_not_the_answers_fault(answer: Any, role: str, server: Server) -> None:
    async with server.connection() as connection:
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT 2")
        with pytest.raises(CourseError, match="no connection left"):
            await judge_answer(CountTwice(), answer)
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT 12")
        assert (await judge_answer(CountTwice(), opens_three)).passed


@pytest.mark.parametrize("limit", [4, 5, 7])
async def test_a_race_without_enough_connections_judges_nothing(limit: int, role: str, server: Server) -> None:
    exercise = find_exercise("3.4")
    async with server.connection() as connection:
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT {limit}")
        try:
            verdict = await judge_answer(exercise, solution_answer(exercise))
        except CourseError as error:
            assert "no connection left" in str(error)
        else:
            assert verdict.passed, str(verdict)


async def test_an_answer_that_takes_all_connections_is_told_so(role: str, server: Server) -> None:
    async def count(session: AsyncSession) -> Any:
        engine: AsyncEngine = session.bind  # type: ignore[assignment]
        await right(session)
        for _ in range(100):
            kept.append(await _connect(engine))

    async with server.connection() as connection:
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT 20")
        verdict = await judge_answer(CountTwice(), count)
    assert verdict.mistake == "too many connections", str(verdict)
    while kept:
        kept.pop().terminate()
    assert (await judge_answer(CountTwice(), right)).passed


async def test_rights_that_were_revoked_are_said(role: str) -> None:
    async def count(session: AsyncSession) -> Any:
        number = await right(session)
        await session.execute(text("REVOKE ALL ON users FROM CURRENT_USER"))
        await session.commit()
        return number

    verdict = await verdict_on(count)
    assert "refuses" in str(verdict)
