"""The slower network delays and counts what travels, changes none of it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload

from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, network_delay
from course_lib.instruments.network.door import PortDoor
from course_lib.instruments.network.proxy import Proxy
from course_lib.instruments.network.route import Upstream, through_proxy, upstream_of
from course_lib.models import Conversation

FIFTY = select(Conversation).order_by(Conversation.id).limit(50)
GONE = (DBAPIError, OSError)  # what the drivers raise when the server goes away


async def load_lazily(session: AsyncSession) -> None:
    async with session:
        for conversation in await session.scalars(FIFTY):
            await conversation.awaitable_attrs.messages


async def load_at_once(session: AsyncSession) -> None:
    async with session:
        (await session.scalars(FIFTY.options(selectinload(Conversation.messages)))).all()


def a_network_thread_runs() -> bool:
    return any(thread.name == "network-delay" for thread in threading.enumerate())


def folder_of(engine: AsyncEngine | Engine) -> Path:
    return Path(str(engine.url.query["host"]))


def exists(folder: Path) -> bool:
    return folder.exists()


@pytest.fixture
def tcp_url(seeded_url: URL) -> Iterator[URL]:
    """The same database on TCP and without encryption, as a server of one's own may be."""
    proxy = Proxy(upstream_of(seeded_url), PortDoor())
    proxy.start()
    yield through_proxy(seeded_url, proxy.door.host, proxy.door.port)
    proxy.stop()


async def test_fifty_lazy_loads_are_fifty_three_round_trips_and_selectinload_four(engine: AsyncEngine) -> None:
    async with network_delay(engine) as network:
        for load, trips in ((load_lazily, 53), (load_at_once, 4)):
            await load(network.session())  # asyncpg prepares a statement the first time
            network.reset()
            await load(network.session())
            assert network.round_trips == trips, "the statements, BEGIN and ROLLBACK"


def test_synchronous_code_is_counted_and_delayed_too(sync_engine: Engine) -> None:
    unprepared = {"prepare_threshold": None}
    with network_delay(sync_engine, round_trip_ms=2, connect_args=unprepared) as network:
        began = time.perf_counter()
        with network.session() as session:
            assert sum(len(conversation.messages) for conversation in session.scalars(FIFTY)) > 50
        assert network.round_trips == 53
        assert time.perf_counter() - began >= 53 * 0.002
    assert isinstance(network.engine, Engine)
    assert not a_network_thread_runs()


async def test_a_synchronous_engine_may_stand_in_an_asynchronous_block(sync_engine: Engine) -> None:
    async with network_delay(sync_engine) as network:
        with network.session() as session:
            assert isinstance(session, Session)
            assert session.scalar(text("SELECT 1")) == 1
    assert not a_network_thread_runs()


async def test_every_round_trip_takes_at_least_what_was_asked_for(engine: AsyncEngine) -> None:
    async with network_delay(engine, round_trip_ms=20) as network, network.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        network.reset()
        began = time.perf_counter()
        for _ in range(5):
            await connection.execute(text("SELECT 1"))
        assert time.perf_counter() - began >= 5 * 0.020
        assert network.round_trips == 5


async def test_opening_the_block_waits_for_no_delay_and_counts_nothing(engine: AsyncEngine) -> None:
    async with asyncio.timeout(60), network_delay(engine, round_trip_ms=60_000) as network:
        assert (network.round_trips, network.bytes_sent, network.bytes_received) == (0, 0, 0)


async def test_a_further_connection_costs_round_trips_of_its_own(engine: AsyncEngine) -> None:
    async with network_delay(engine) as network, network.engine.connect(), network.engine.connect():
        assert network.round_trips >= 2, "TCP's, and the greeting of PostgreSQL"


async def test_a_long_text_arrives_whole_and_in_order_in_one_round_trip(engine: AsyncEngine) -> None:
    long = "".join(str(number) for number in range(1_000_000))
    async with network_delay(engine, round_trip_ms=1) as network, network.engine.connect() as connection:
        echo = text("SELECT md5(CAST(:long AS text)), CAST(:long AS text)")
        await connection.execute(echo, {"long": ""})
        network.reset()
        digest, back = (await connection.execute(echo, {"long": long})).one()
        assert (digest, back) == (hashlib.md5(long.encode()).hexdigest(), long)
        assert network.round_trips == 1
        assert len(long) < network.bytes_sent < 1.01 * len(long)
        assert len(long) < network.bytes_received < 1.01 * len(long)


async def test_an_executemany_is_one_round_trip_whatever_its_length(engine: AsyncEngine) -> None:
    insert = text("INSERT INTO users (email, name) VALUES (:email, 'New')")
    async with network_delay(engine) as network, network.engine.connect() as connection:
        for turn, count in enumerate((3, 5_000, 20_000)):
            people = [{"email": f"{turn}-{number}@example.org"} for number in range(count)]
            network.reset()
            await connection.execute(insert, people)
            if turn:
                assert network.round_trips == 1, f"{count} rows"


async def test_a_copy_is_one_round_trip_whatever_its_length(engine: AsyncEngine) -> None:
    async with network_delay(engine) as network, network.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        people = [(f"{number}@example.org", "New") for number in range(30_000)]
        await driver.execute("BEGIN")
        for turn, few in enumerate((people[:1], people[1:3], people[3:10_000], people[10_000:])):
            network.reset()
            await driver.copy_records_to_table("users", records=few, columns=["email", "name"])
            if turn:  # the first time the columns are looked up
                assert network.round_trips == 1, f"{len(few)} rows"
        await driver.execute("ROLLBACK")


async def test_two_networks_count_and_delay_apart(engine: AsyncEngine) -> None:
    async with network_delay(engine, round_trip_ms=10) as slow, network_delay(engine) as fast:
        await load_at_once(slow.session())
        assert slow.round_trips > 0
        assert fast.round_trips == 0


async def test_a_query_log_hears_the_engine_behind_the_network(engine: AsyncEngine) -> None:
    async with network_delay(engine) as network:
        with QueryLog(engine) as before, QueryLog(network.engine) as behind:
            await load_lazily(network.session())
    assert (before.count, behind.count) == (0, 51)


@pytest.mark.parametrize("end", ["normal", "exception", "cancelled"])
async def test_nothing_is_left_however_the_block_ends(engine: AsyncEngine, end: str) -> None:
    found: dict[str, Any] = {}
    is_inside = asyncio.Event()

    async def block() -> None:
        async with network_delay(engine, round_trip_ms=1) as network:
            found.update(network=network, folder=folder_of(network.engine), pool=network.engine.pool)
            assert exists(found["folder"])
            async with network.session() as session:
                await session.execute(text("SELECT 1"))
                is_inside.set()
                if end == "exception":
                    raise ZeroDivisionError
                if end == "cancelled":
                    await session.execute(text("SELECT pg_sleep(300)"))

    task = asyncio.create_task(block())
    await is_inside.wait()
    if end == "cancelled":
        task.cancel()
    with suppress(ZeroDivisionError, asyncio.CancelledError):
        await task
    assert not a_network_thread_runs()
    assert not exists(found["folder"])
    assert found["pool"].checkedin() == 0, "the pool was disposed"
    with pytest.raises(CourseError, match="inside its block"):
        found["network"].session()


async def test_what_was_counted_can_be_read_afterwards(engine: AsyncEngine) -> None:
    async with network_delay(engine) as network:
        await load_at_once(network.session())
        inside = str(network)
    assert str(network) == inside
    assert inside.startswith(f"{network.round_trips} round trips, ")
    network.reset()
    assert str(network).startswith("0 round trips")


async def until_it_is(engine: AsyncEngine, backend: int, state: str) -> None:
    found = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND state = :state AND query ~ 'pg_sleep'")
    async with asyncio.timeout(30), engine.connect() as connection:
        while not await connection.scalar(found, {"pid": backend, "state": state}):
            await asyncio.sleep(0.02)
            await connection.rollback()


async def until_it_is_gone(engine: AsyncEngine, backend: int) -> None:
    alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
    async with asyncio.timeout(30), engine.connect() as connection:
        while await connection.scalar(alive, {"pid": backend}):
            await asyncio.sleep(0.02)
            await connection.rollback()  # statistics stand still within a transaction


async def test_a_session_left_open_is_cut_off_from_the_server_too(engine: AsyncEngine) -> None:
    async with network_delay(engine) as network:
        session = network.session()
        backend = await session.scalar(text("SELECT pg_backend_pid()"))
    with pytest.raises(GONE):
        await session.execute(text("SELECT 1"))
    await session.invalidate()
    await until_it_is_gone(engine, backend)


async def test_a_client_that_hangs_up_leaves_no_backend_behind(engine: AsyncEngine, sync_engine: Engine) -> None:
    async with network_delay(sync_engine, round_trip_ms=5) as network:
        with network.engine.connect() as connection:
            backend = connection.scalar(text("SELECT pg_backend_pid()"))
            driver = connection.connection.driver_connection
            assert driver is not None
            with socket.socket(fileno=os.dup(driver.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # as when a process is killed: without a word to the server
            await until_it_is_gone(engine, backend)
            connection.invalidate()


async def test_a_killed_backend_is_an_error_and_no_waiting(engine: AsyncEngine) -> None:
    async with asyncio.timeout(60), network_delay(engine) as network, network.engine.connect() as connection:
        number = await connection.scalar(text("SELECT pg_backend_pid()"))
        waiting = asyncio.create_task(connection.execute(text("SELECT pg_sleep(300)")))
        async with engine.connect() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": number})
        with pytest.raises(GONE):
            await waiting
        await connection.invalidate()
        async with network.engine.connect() as next_one:
            assert await next_one.scalar(text("SELECT 1")) == 1


async def test_a_server_that_goes_away_is_an_error_and_no_waiting(engine: AsyncEngine) -> None:
    """The server that goes is a second proxy."""
    async with asyncio.timeout(60), AsyncExitStack() as life:
        server = await life.enter_async_context(network_delay(engine))
        async with network_delay(server.engine, round_trip_ms=1) as network, network.engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
            waiting = asyncio.create_task(connection.execute(text("SELECT pg_sleep(300)")))
            await asyncio.sleep(0)
            await life.aclose()
            with pytest.raises(GONE):
                await waiting
            await connection.invalidate()
            with pytest.raises(GONE):
                async with network.engine.connect():
                    pass


async def test_a_timeout_of_the_client_reaches_the_server(engine: AsyncEngine) -> None:
    async with network_delay(engine, round_trip_ms=5) as network, network.engine.connect() as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.execute(text("SELECT pg_sleep(300)"))
    async with asyncio.timeout(30), engine.connect() as other:
        sleeping = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()"
        )
        while await other.scalar(sleeping):
            await asyncio.sleep(0.02)
            await other.rollback()


async def test_options_are_those_given_and_the_execution_options_of_the_engine(engine: AsyncEngine) -> None:
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    async with network_delay(strict, poolclass=NullPool) as network, network.engine.connect() as connection:
        assert isinstance(network.engine.pool, NullPool)
        assert await connection.scalar(text("SHOW transaction_isolation")) == "serializable"


async def test_a_network_opens_again_after_it_was_closed_but_not_twice_at_once(engine: AsyncEngine) -> None:
    network = network_delay(engine)
    for _ in range(2):
        async with network:
            await load_at_once(network.session())
            with pytest.raises(CourseError, match="already open"):
                await network.__aenter__()
            await load_at_once(network.session())
    assert network.round_trips > 0


async def test_mistakes_are_told_in_a_sentence(engine: AsyncEngine) -> None:
    for wrong in ("postgresql://localhost", None, engine.connect()):
        with pytest.raises(CourseError, match="is no engine"):
            network_delay(wrong)  # type: ignore[call-overload]
    for milliseconds in (-1, float("nan"), float("inf"), "5"):
        with pytest.raises(CourseError, match="milliseconds"):
            network_delay(engine, milliseconds)  # type: ignore[arg-type]
    with pytest.raises(CourseError, match="asynchronous block"), network_delay(engine):
        pass
    with pytest.raises(CourseError, match="inside its block"):
        assert network_delay(engine).engine


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("postgresql+asyncpg://ada@localhost:1/course", "No PostgreSQL answers at localhost:1"),
        ("postgresql+psycopg://ada@localhost:1/course", "No PostgreSQL answers at localhost:1"),
        ("postgresql+asyncpg://ada@/course?host=/nowhere", "No PostgreSQL answers at the local socket"),
        ("postgresql+asyncpg://ada@.nowhere/course", "There is no host of that name"),
        ("postgresql+asyncpg://ada@/course", "names no host"),
        ("postgresql+asyncpg://ada@/course?host=a:1&host=b:2", "several hosts"),
        ("postgresql+asyncpg://ada@db.example.org/course?ssl=verify-full", "verify-full"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_told_in_a_sentence(
    address: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    url = make_url(address)
    unreachable = create_async_engine(url) if url.get_driver_name() == "asyncpg" else create_engine(url)
    with pytest.raises(CourseError, match=sentence):
        async with network_delay(unreachable):
            pass
    assert not a_network_thread_runs()


async def test_encryption_that_the_server_does_not_have_is_told_in_a_sentence(tcp_url: URL) -> None:
    for driver, option in (("asyncpg", "ssl"), ("psycopg", "sslmode")):
        url = tcp_url.set(drivername=f"postgresql+{driver}", query={option: "require"})
        encrypted = create_async_engine(url) if driver == "asyncpg" else create_engine(url)
        with pytest.raises(CourseError, match=r"encrypted connection|SSL"):
            async with network_delay(encrypted):
                pass


async def test_before_a_server_on_tcp_the_proxy_stands_on_tcp(tcp_url: URL) -> None:
    for driver in ("asyncpg", "psycopg"):
        url = tcp_url.set(drivername=f"postgresql+{driver}", query={})
        engine = create_async_engine(url)
        async with network_delay(engine, round_trip_ms=1) as network, network.engine.connect() as connection:
            assert (network.engine.url.host, "host" in network.engine.url.query) == ("127.0.0.1", False)
            assert network.engine.url.port != url.port
            assert await connection.scalar(text("SELECT 1")) == 1
            assert network.round_trips
        await engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("stands", ["on a socket", "on TCP"])
async def test_a_cancelled_task_stops_its_statement_on_the_server(
    engine: AsyncEngine, tcp_url: URL, driver: str, stands: str
) -> None:
    """The request to cancel is a connection of its own, which comes through the proxy."""
    address = tcp_url if stands == "on TCP" else engine.url
    query = {key: value for key, value in address.query.items() if key != "ssl"}
    given = create_async_engine(address.set(drivername=f"postgresql+{driver}", query=query))
    async with asyncio.timeout(30), network_delay(given) as network, network.engine.connect() as connection:
        backend = await connection.scalar(text("SELECT pg_backend_pid()"))
        running = asyncio.create_task(connection.execute(text("SELECT pg_sleep(300)")))
        await until_it_is(engine, backend, "active")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await connection.invalidate()
        await until_it_is_gone(engine, backend)
    await given.dispose()


@pytest.mark.parametrize("kind", [create_engine, create_async_engine])
async def test_cancel_of_psycopg_does_not_stand_still(
    engine: AsyncEngine, kind: Callable[[URL], AsyncEngine | Engine]
) -> None:
    """The proxy can only answer while the thread that cancels leaves the interpreter to others."""
    driver_url = engine.url.set(drivername="postgresql+psycopg")
    async with asyncio.timeout(30), network_delay(kind(driver_url)) as network:
        if isinstance(network.engine, AsyncEngine):
            async with network.engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                backend = await connection.scalar(text("SELECT pg_backend_pid()"))
                running = asyncio.create_task(connection.execute(text("SELECT pg_sleep(300)")))
                await until_it_is(engine, backend, "active")
                driver.cancel()
                with pytest.raises(DBAPIError, match="canceling statement"):
                    await running
            return
        with network.engine.connect() as sync_connection:
            driver = sync_connection.connection.driver_connection
            backend = sync_connection.scalar(text("SELECT pg_backend_pid()"))
            running_there = asyncio.to_thread(sync_connection.execute, text("SELECT pg_sleep(300)"))
            other = asyncio.create_task(running_there)
            await until_it_is(engine, backend, "active")
            driver.cancel()
            with pytest.raises(DBAPIError, match="canceling statement"):
                await other


def test_libpq_still_checks_the_name_in_the_certificate() -> None:
    url = make_url("postgresql+psycopg://ada@db.example.org/course?sslmode=verify-full")
    through = through_proxy(url, "127.0.0.1", 4321)
    assert (through.host, through.port, through.query["hostaddr"]) == ("db.example.org", 4321, "127.0.0.1")


@pytest.mark.parametrize(
    ("address", "upstream"),
    [
        ("postgresql://ada@db.example.org/course", Upstream("db.example.org", 5432)),
        ("postgresql://ada@127.0.0.1:6000/course", Upstream("127.0.0.1", 6000)),
        ("postgresql://ada@/course?host=db.example.org:6000", Upstream("db.example.org", 6000)),
        ("postgresql://ada@/course?host=/run/pg&port=6000", Upstream("/run/pg/.s.PGSQL.6000", 0)),
    ],
)
def test_the_server_is_found_in_every_spelling_of_its_address(address: str, upstream: Upstream) -> None:
    assert upstream_of(make_url(address)) == upstream


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_the_address_through_the_proxy_keeps_everything_but_the_way(driver: str) -> None:
    way = "host=/run/pg&port=6000&sslmode=require&ssl=require&requirepeer=postgres"
    url = make_url(f"postgresql+{driver}://ada:se%40cret@/course?{way}&command_timeout=30&options=-c%20jit%3Doff")
    through = through_proxy(url, "/tmp/a folder", 5432)
    assert (through.host, through.port) == (None, None)
    assert (through.username, through.password, through.database) == ("ada", "se@cret", "course")
    assert dict(through.query) == {  # none of encryption, so that any driver takes its parts
        "host": "/tmp/a folder", "port": "5432", "command_timeout": "30", "options": "-c jit=off",
    }  # fmt: skip
    on_tcp = through_proxy(url, "127.0.0.1", 4321)
    assert (on_tcp.host, on_tcp.port, on_tcp.password) == ("127.0.0.1", 4321, "se@cret")
    assert "host" not in on_tcp.query and on_tcp.query["sslmode"] == "require", "encryption passes through"
