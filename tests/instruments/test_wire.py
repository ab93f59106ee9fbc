"""The wire's log: what reached the server and what came of it, whatever sent it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import psycopg
import pytest
from pgvector.asyncpg import register_vector
from pgvector.psycopg import register_vector as register_vector_with_psycopg
from psycopg.types import TypeInfo
from sqlalchemy import URL, create_engine, delete, event, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.db import make_engine
from course_lib.instruments import QueryLog
from course_lib.instruments.network import Wire, WireLog
from course_lib.models import Conversation, User
from course_lib.postgres.address import libpq_uri
from tests.instruments.test_network import until_it_is
from tests.postgres.places import until

USERS = 8
LARGE = 60_000_000  # bytes of a value
GONE = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError, OSError)


@pytest.fixture
def wire(seeded_url: URL) -> Iterator[Wire]:
    wire = Wire.open(seeded_url)
    yield wire
    wire.close()


async def by_asyncpg(wire: Wire) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(libpq_uri(wire.url))


def by_psycopg(wire: Wire, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(libpq_uri(wire.url), **{"autocommit": True, **options})


def shown(log: WireLog) -> list[tuple[str, int | None]]:
    return [(statement.sql, statement.rows) for statement in log.statements]


# -- who is seen -------------------------------------------------------------------------------------------


async def test_every_way_to_the_database_is_seen(wire: Wire) -> None:
    question = "SELECT count(*) FROM users"
    engine, mine = make_engine(wire.url), make_engine(wire.url)
    synchronous = create_engine(wire.url.set(drivername="postgresql+psycopg"))
    with QueryLog(engine) as lines, wire.log(lines) as log:
        async with engine.connect() as connection:
            await connection.execute(text(question))
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.fetch(question + " ")
        async with mine.connect() as connection:
            await connection.execute(text(question + "  "))
        with synchronous.connect() as there:
            there.execute(text(question + "   "))
        alone = await by_asyncpg(wire)
        await alone.fetch(question + "    ")
        await alone.close()
        code = f"import psycopg; psycopg.connect({str(libpq_uri(wire.url))!r}).execute({question + '     '!r})"
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
    assert shown(log) == [(question + " " * place, 1) for place in range(6)]
    by_line = [statement.where is not None for statement in log.statements]
    assert by_line == [True, False, False, False, False, False], "only the engine's own has a line of code"
    assert (log.connections, log.most_connections) == (5, 4)
    for each in (engine, mine):
        await each.dispose()
    synchronous.dispose()


async def test_nothing_that_is_done_to_sqlalchemy_changes_it(wire: Wire) -> None:
    engine = make_engine(wire.url)
    with QueryLog(engine) as lines:
        log = wire.log(lines)
        for name, listener in lines._listeners():
            event.remove(engine.sync_engine, name, listener)
        lines._entries = None  # type: ignore[assignment]
        async with engine.connect() as connection:
            await connection.execute(select(User.id))
        for name, listener in lines._listeners():
            event.listen(engine.sync_engine, name, listener)
    assert (log.count, log.received) == (1, USERS)
    await engine.dispose()


async def test_what_is_under_way_is_seen(wire: Wire) -> None:
    connection = await by_asyncpg(wire)
    log = wire.log()
    running = asyncio.create_task(connection.execute("SELECT pg_sleep(0.2)"))
    await until(lambda: log.count)
    assert [statement.seconds for statement in log.statements] == [None]
    await running
    assert (log.statements[0].seconds or 0) >= 0.2
    log.close()
    await connection.execute("SELECT 1")
    assert log.count == 1, "a log that was closed stays as it is"
    await connection.close()


# -- what counts as a statement ----------------------------------------------------------------------------


async def test_an_executemany_is_one_statement_and_a_loop_is_many(wire: Wire) -> None:
    rename, rows = "UPDATE users SET name = $1 WHERE email = $2", [("A", "a"), ("B", "b"), ("C", "c")]
    with wire.log() as log:
        connection = await by_asyncpg(wire)
        await connection.executemany(rename, rows)
        for row in rows:
            await connection.execute(rename, *row)
        await connection.close()
        with by_psycopg(wire) as other, other.cursor() as cursor:
            cursor.executemany("UPDATE users SET name = %s WHERE email = %s", rows)
            for row in rows:
                cursor.execute("UPDATE users SET name = %s WHERE email = %s", row)
    assert [statement.parameter_sets for statement in log.statements] == 2 * [3, None, None, None]
    assert {statement.connection for statement in log.statements} == {1, 2}


async def test_two_statements_in_one_text_are_two(wire: Wire) -> None:
    connection = await by_asyncpg(wire)
    with wire.log() as log:
        await connection.execute("SELECT 4; SELECT ';' AS \"a;b\" -- one; more\n, $$x;y$$; UPDATE users SET name = 'x'")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 4; SELECT 1/0; SELECT 5")
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.execute("SELECT 4; SELECTED 5")
    found = [(statement.line, statement.rows, statement.sqlstate) for statement in log.statements]
    assert found == [
        ("SELECT 4", 1, None), ("SELECT ';' AS \"a;b\", $$x;y$$", 1, None),
        ("UPDATE users SET name = 'x'", USERS, None),
        ("SELECT 4", 1, None), ("SELECT 1/0", None, "22012"),
        ("SELECT 4", None, "42601"),
    ]  # fmt: skip
    await connection.close()


async def test_what_came_to_the_client_and_what_was_changed(wire: Wire) -> None:
    new = [{"email": f"{name}@new.org", "name": name} for name in "abc"]
    engine = make_engine(wire.url)
    with wire.log() as log:
        async with AsyncSession(engine) as session:
            await session.execute(insert(User).returning(User.id), new)
            await session.execute(text("UPDATE users SET name = 'n' WHERE email LIKE '%@new.org'"))
            await session.execute(delete(User).where(User.email.like("%@new.org")).returning(User.email))
            await session.execute(text("TABLE users"))
            await session.execute(text("CREATE TABLE t (n int)"))
            await session.rollback()
    assert [(s.rows, s.received) for s in log.statements] == [(3, 3), (3, 0), (3, 3), (USERS, USERS), (None, 0)]
    assert log.received == 6 + USERS
    assert [s.is_select for s in log.statements] == [False, False, False, True, False]
    await engine.dispose()


async def test_a_cursor_is_one_statement_and_brings_what_it_has_brought(wire: Wire) -> None:
    connection = await by_asyncpg(wire)
    log = wire.log()
    async with connection.transaction():
        cursor = await connection.cursor("SELECT generate_series(1, 100000)")
        for taken in (10, 20, 30):
            await cursor.fetch(10)
            assert shown(log) == [("SELECT generate_series(1, 100000)", taken)]
    assert await connection.fetchval("SELECT id FROM users ORDER BY id")
    assert log.rows == 31
    await connection.close()
    with by_psycopg(wire) as other, wire.log() as log, other.transaction(), other.cursor("mine") as named:
        named.itersize = 40
        named.execute("SELECT generate_series(1, 100)")
        assert len(named.fetchall()) == 100
    assert log.received == 100


async def test_copy_both_ways(wire: Wire) -> None:
    connection, sent = await by_asyncpg(wire), []
    await connection.execute("CREATE TABLE copied (n int, t text)")
    log = wire.log()
    rows = [(number, "x" * 200) for number in range(20_000)]
    await connection.copy_records_to_table("copied", records=rows)

    async def keep(data: bytes) -> None:
        sent.append(data)

    await connection.copy_from_query("TABLE copied", output=keep)
    with by_psycopg(wire) as other, other.cursor() as cursor:
        with cursor.copy("COPY copied FROM STDIN") as writing:
            writing.write_row((1, "a"))
            writing.write_row((2, "b"))
        with cursor.copy("COPY copied TO STDOUT") as reading:
            assert len(list(reading.rows())) == 20_002
        assert cursor.execute("SELECT count(*) FROM copied").fetchone() == (20_002,)
        with pytest.raises(psycopg.errors.InvalidTextRepresentation), cursor.copy("COPY copied FROM STDIN") as writing:
            writing.write("nothing\n")
        assert cursor.execute("SELECT count(*) FROM copied").fetchone() == (20_002,)
    assert [(s.rows, s.received) for s in log.statements] == [
        (20_000, 0), (20_000, 20_000), (2, 0), (20_002, 20_002), (1, 1), (None, 0), (1, 1),
    ]  # fmt: skip
    passed = wire.traffic().passed[-6 - 1 :]
    assert passed[0].copied_bytes > 20_000 * 200 and passed[1].answered_bytes > 20_000 * 200
    assert log.statements[5].sqlstate == "22P02"
    await connection.close()


async def test_a_pipeline_with_an_error_in_it(wire: Wire) -> None:
    with by_psycopg(wire) as connection, wire.log() as log:
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1 AS a")
            connection.execute("SELECT 1/0")
            connection.execute("SELECT 2 AS b")
        assert connection.execute("SELECT 3").fetchone() == (3,)
    found = [(s.sql, s.rows, s.sqlstate, s.error) for s in log.statements]
    assert found[0] == ("SELECT 1 AS a", 1, None, None)
    assert found[1] == ("SELECT 1/0", None, "22012", "DivisionByZero")
    assert found[-1] == ("SELECT 3", 1, None, None)
    assert {error for _, _, _, error in found[2:-1]} <= {"PipelineAborted"}


# -- errors ------------------------------------------------------------------------------------------------


async def test_errors_belong_to_their_statement_wherever_they_arise(wire: Wire) -> None:
    connection = await by_asyncpg(wire)
    with wire.log() as log:
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.fetch("SELECTED 1")  # in Parse
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(
                "INSERT INTO users (email, name) SELECT email, 'n' FROM users WHERE true = $1", True
            )
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await connection.fetch("SELECT * FROM users WHERE id = CAST($1::text AS uuid)", "no id")
        with by_psycopg(wire) as other, pytest.raises(psycopg.errors.InvalidTextRepresentation):
            other.execute("SELECT * FROM users WHERE id = %s::uuid", ["no id"])  # in Bind
        assert await connection.fetchval("SELECT 1") == 1
    assert [s.sqlstate for s in log.statements] == ["42601", "23505", "22P02", "22P02", None]
    assert [s.error for s in log.statements][:2] == ["SyntaxError", "UniqueViolation"]
    await connection.close()


async def test_requests_to_cancel_pass(wire: Wire, engine: AsyncEngine) -> None:
    log = wire.log()
    connection = await by_asyncpg(wire)
    with pytest.raises(TimeoutError):
        await connection.execute("SELECT pg_sleep(300)", timeout=0.1)
    other = await psycopg.AsyncConnection.connect(libpq_uri(wire.url), autocommit=True)
    for cancel in (lambda: other.cancel_safe(), lambda: asyncio.to_thread(other.cancel), lambda: _at_once(other)):
        running = asyncio.create_task(other.execute("SELECT pg_sleep(301)"))
        await until_it_is(engine, other.info.backend_pid, "active")  # one that comes before has nothing to cancel
        await cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
    assert [s.sqlstate for s in log.statements] == 4 * ["57014"]
    assert log.connections == 2, "a request to cancel is no connection to the database"
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    await other.close()


async def _at_once(connection: psycopg.AsyncConnection[Any]) -> None:
    connection.cancel()  # holds the interpreter's lock until the server has answered: the relay has its own


async def test_a_terminated_backend_is_the_same_error_as_without_the_wire(wire: Wire, seeded_url: URL) -> None:
    raised = []
    for url in (seeded_url, wire.url):
        connection = await asyncpg.connect(libpq_uri(url))
        running = asyncio.create_task(connection.execute("SELECT pg_sleep(300)"))
        await asyncio.sleep(0.05)
        other = await asyncpg.connect(libpq_uri(seeded_url))
        await other.execute("SELECT pg_terminate_backend($1, 10000)", connection.get_server_pid())
        await other.close()
        with pytest.raises(GONE) as error:
            await running
        raised.append(type(error.value))
    assert raised[0] is raised[1]
    assert wire.log().connections == 0 and wire.connections() == 0


async def test_a_client_that_dies_leaves_no_backend_behind(wire: Wire, seeded_url: URL) -> None:
    client = await by_asyncpg(wire)
    pid = client.get_server_pid()
    client.terminate()
    eyes = await asyncpg.connect(libpq_uri(seeded_url))
    async with asyncio.timeout(10):
        while True:
            if not await eyes.fetchval("SELECT true FROM pg_stat_activity WHERE pid = $1", pid):
                break
            await asyncio.sleep(0.01)
    await eyes.close()


# -- transactions, connections, bytes ----------------------------------------------------------------------


async def test_transactions_are_numbered_and_savepoints_do_not_end_them(wire: Wire) -> None:
    engine = make_engine(wire.url)
    async with engine.connect():
        pass
    with wire.log() as log:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            async with session.begin_nested() as savepoint:
                await session.execute(text("SELECT 2"))
                await savepoint.rollback()
            await session.execute(text("SELECT 3"))
            await session.commit()
            await session.execute(text("SELECT 4"))
        with by_psycopg(wire) as other:
            other.execute("SELECT 5")
            with other.pipeline():
                other.execute("BEGIN")
                other.execute("SELECT 6")
                other.execute("COMMIT")
                other.execute("SELECT 7")
    numbers = {s.sql[-1]: s.transaction for s in log.statements}
    assert numbers["1"] == numbers["2"] == numbers["3"] != numbers["4"]
    assert numbers["5"] is numbers["7"] is None and numbers["6"] is not None
    assert log.transactions == 3
    assert [s.sql.partition(" ")[0].rstrip(";") for s in log.entries if s.is_control][:5] == [
        "BEGIN", "SAVEPOINT", "ROLLBACK", "COMMIT", "BEGIN",
    ]  # fmt: skip
    await engine.dispose()


async def test_sixty_connections_at_once(wire: Wire) -> None:
    with wire.log() as log:
        async with AsyncExitStack() as stack:
            connections = await asyncio.gather(*(by_asyncpg(wire) for _ in range(60)))
            for connection in connections:
                stack.push_async_callback(connection.close)
            assert wire.connections() == 60
            numbers = await asyncio.gather(*(c.fetchval("SELECT $1::int", n) for n, c in enumerate(connections)))
        assert numbers == list(range(60))
        await until(lambda: not wire.connections())
        async with AsyncExitStack() as stack:
            stack.push_async_callback((await by_asyncpg(wire)).close)
    assert (log.count, log.connections, log.most_connections) == (60, 61, 60)


async def test_large_values_pass_whole_both_ways(wire: Wire) -> None:
    connection = await by_asyncpg(wire)
    with wire.log() as log:
        value = await connection.fetchval("SELECT repeat('x', $1)", LARGE)
        back = await connection.fetchval("SELECT length($1::text)", value[: LARGE // 2])
        assert await connection.fetchval("SELECT 1") == 1
    assert len(value) == LARGE and back == LARGE // 2
    assert log.bytes_received > LARGE and log.bytes_sent > LARGE // 2
    assert [s.rows for s in log.statements] == [1, 1, 1]
    await connection.close()


async def test_a_slow_reader_slows_the_server_and_not_the_relay(wire: Wire) -> None:
    """What one client does not read lies with the server and the system, not in the relay's memory."""
    reader, writer = await asyncio.open_unix_connection(f"{wire.url.query['host']}/.s.PGSQL.5432")
    writer.transport.pause_reading()
    options = f"user\0{wire.url.username}\0database\0{wire.url.database}\0\0".encode()
    writer.write((8 + len(options)).to_bytes(4) + (196608).to_bytes(4) + options)
    question = b"SELECT repeat('x', 60000000)\0"
    log = wire.log()
    writer.write(b"Q" + (4 + len(question)).to_bytes(4) + question)
    other = await by_asyncpg(wire)
    await until(lambda: log.received)
    assert await other.fetchval("SELECT 2") == 2
    assert log.bytes_received < LARGE / 10
    writer.transport.resume_reading()
    while len(await reader.read(1 << 20)) and log.statements[0].seconds is None:
        pass
    writer.close()
    await other.close()


async def test_notifications_pass(wire: Wire) -> None:
    listener, speaker = await by_asyncpg(wire), await by_asyncpg(wire)
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await listener.add_listener("news", lambda *what: heard.set_result(what[-1]))
    await speaker.execute("SELECT pg_notify('news', 'hello')")
    assert await asyncio.wait_for(heard, 10) == "hello"
    await listener.close()
    await speaker.close()


# -- what drivers ask on their own -------------------------------------------------------------------------


async def test_what_drivers_ask_for_themselves_is_shown_and_not_counted(wire: Wire) -> None:
    log = wire.log()
    engine = make_engine(wire.url, pool_pre_ping=True)
    synchronous = create_engine(wire.url.set(drivername="postgresql+psycopg"))
    async with engine.connect() as connection:
        await connection.execute(select(Conversation.id).limit(1))
    async with engine.connect() as connection:  # after a ping
        await connection.execute(select(Conversation.id).limit(1))
    with synchronous.connect() as there:
        there.execute(select(Conversation.id).limit(1))
    async with asyncpg.create_pool(libpq_uri(wire.url), min_size=1, max_size=1) as pool:
        async with pool.acquire() as driver:
            await register_vector(driver)
            assert len(await driver.fetch("SELECT embedding FROM document_chunks LIMIT 2")) == 2
        async with pool.acquire() as driver:
            await driver.execute("CREATE TYPE pair AS (a int, b int)")
            assert await driver.fetchval("SELECT (1, 2)::pair") == (1, 2)
    with by_psycopg(wire) as other:
        register_vector_with_psycopg(other)
        TypeInfo.fetch(other, "citext")
    verbs = [statement.line.split()[0] for statement in log.statements]
    assert verbs == ["SELECT", "SELECT", "SELECT", "SELECT", "CREATE", "SELECT"], [s.sql for s in log.statements]
    asked = [s for s in log.entries if s.by_driver]
    assert len(asked) > 10 and len(log.entries) > len(asked) + log.count
    await engine.dispose()
    synchronous.dispose()


@pytest.mark.parametrize(
    "question",
    [
        "SELECT typname AS name, oid FROM pg_type", "SELECT current_schema(), email FROM users",
        "select pg_catalog.version() from users", "SELECT * FROM users -- select current_schema()", "SELECT 1",
        "/* RESET ALL */ SELECT * FROM users",
    ],
)  # fmt: skip
async def test_a_question_that_only_resembles_a_drivers_counts(wire: Wire, question: str) -> None:
    connection = await by_asyncpg(wire)
    with wire.log() as log:
        await connection.fetch(question)
    assert log.count == 1
    await connection.close()
