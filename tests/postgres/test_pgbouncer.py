"""PgBouncer for a block: it does what the lesson says of it, and nothing is left of it, however the program ends."""

from __future__ import annotations

import asyncio
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import asyncpg
import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from course_lib.data.fresh import FreshDatabase, fresh_database
from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.postgres import find_server
from course_lib.postgres.pgbouncer import PgBouncer, pgbouncer, pgbouncer_is_installed, pgbouncer_version
from tests.postgres.places import YourServer, names_in, start_python, wait_until

needs_pgbouncer = pytest.mark.skipif(not pgbouncer_is_installed(), reason="PgBouncer is not installed")

CACHELESS = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
PID = text("SELECT pg_backend_pid()")


class Start(Protocol):
    async def __call__(self, **options: Any) -> PgBouncer: ...


@pytest.fixture
async def database() -> AsyncIterator[FreshDatabase]:
    async with fresh_database("99", "empty") as database:
        yield database


@pytest.fixture
async def start(database: FreshDatabase) -> AsyncIterator[Start]:
    """``await start(pool_mode=…)`` runs a PgBouncer until the test ends."""
    async with AsyncExitStack() as stack:

        async def run(**options: Any) -> PgBouncer:
            return await stack.enter_async_context(pgbouncer(database.server, database.name, **options))

        yield run


def bouncers(folder: str) -> list[psutil.Process]:
    """The living processes whose command line names ``folder``: the keeper's and PgBouncer."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        named = any(folder in argument for argument in process.info["cmdline"] or [])
        if named and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def folder_of(bouncer: PgBouncer) -> str:
    return str(bouncer.url.query["host"])


def exists(path: str) -> bool:
    return Path(path).exists()


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


async def twist(first: AsyncConnection, second: AsyncConnection) -> tuple[int, int]:
    """Run one statement twice on ``first``, the second time while ``second`` has the server connection it used."""
    before = (await first.execute(PID)).scalar_one()
    await first.commit()
    await second.execute(text("SELECT 1"))
    after = (await first.execute(PID)).scalar_one()
    return before, after


async def twisted(bouncer: PgBouncer, **options: Any) -> tuple[int, int]:
    engine = make_engine(bouncer.url, **options)
    try:
        async with engine.connect() as first, engine.connect() as second:
            return await twist(first, second)
    finally:
        await engine.dispose()


# -- it works ----------------------------------------------------------------------------------------------


@needs_pgbouncer
async def test_every_driver_gets_through(start: Start, database: FreshDatabase) -> None:
    bouncer = await start()
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", bouncer.version)
    engine, sync_engine = make_engine(bouncer.url), create_engine(bouncer.sync_url)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT current_database()"))).scalar() == database.name
    await engine.dispose()
    with sync_engine.connect() as sync_connection:
        assert sync_connection.execute(text("SELECT current_database()")).scalar() == database.name
    sync_engine.dispose()
    connection_ = await asyncpg.connect(bouncer.dsn, statement_cache_size=0)
    assert await connection_.fetchval("SELECT current_database()") == database.name
    await connection_.close()


@needs_pgbouncer
async def test_many_clients_share_few_server_connections(start: Start) -> None:
    bouncer = await start(default_pool_size=2)
    engine = make_engine(bouncer.url, pool_size=8, connect_args=CACHELESS)
    go = asyncio.Event()

    async def request() -> int:
        async with engine.begin() as connection:
            pid = (await connection.execute(PID)).scalar_one()
            await go.wait()
            return int(pid)

    requests = [asyncio.create_task(request()) for _ in range(8)]
    for _ in range(500):
        (pool,) = await bouncer.show("pools", "cl_waiting", "sv_active") or [{}]
        if pool == {"cl_waiting": 6, "sv_active": 2}:
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail(f"still {pool}")
    go.set()
    assert len(set(await asyncio.gather(*requests))) == 2
    assert await bouncer.show("pools", "cl_active", "sv_idle") == [{"cl_active": 8, "sv_idle": 2}]
    await engine.dispose()


@needs_pgbouncer
async def test_the_console_shows_what_it_knows_and_says_what_it_does_not(start: Start) -> None:
    bouncer = await start(max_client_conn=17)
    config = {row["key"]: row["value"] for row in await bouncer.show("config", "key", "value")}
    assert (config["max_client_conn"], config["pool_mode"], config["listen_addr"]) == ("17", "transaction", "")
    with pytest.raises(CourseError, match="nothing to show for 'nonsense'"):
        await bouncer.show("nonsense")


# -- what breaks behind it, and what mends it --------------------------------------------------------------


@needs_pgbouncer
async def test_prepared_statements_are_missing_on_another_server_connection(start: Start) -> None:
    with pytest.raises(DBAPIError, match=r'prepared statement "\w+" does not exist') as caught:
        await twisted(await start())
    assert caught.value.orig is not None
    assert isinstance(caught.value.orig.__cause__, asyncpg.InvalidSQLStatementNameError)


@needs_pgbouncer
async def test_without_caches_a_client_may_get_any_server_connection(start: Start) -> None:
    before, after = await twisted(await start(), connect_args=CACHELESS)
    assert before != after


@needs_pgbouncer
async def test_in_session_mode_a_client_keeps_its_server_connection(start: Start) -> None:
    before, after = await twisted(await start(pool_mode="session"))
    assert before == after


@needs_pgbouncer
@pytest.mark.skipif(
    not pgbouncer_is_installed() or tuple(int(part) for part in pgbouncer_version().split(".")[:2]) < (1, 21),
    reason="PgBouncer tracks prepared statements from 1.21 on",
)
async def test_tracked_statements_are_prepared_where_they_are_missing(start: Start) -> None:
    before, after = await twisted(await start(track_prepared_statements=True))
    assert before != after


SECOND_PROCESS = """
import asyncio, sys
from sqlalchemy import text
from course_lib.db import make_engine

async def main():
    async with make_engine(sys.argv[1]).connect() as connection:
        await connection.execute(text("SELECT 1"))

asyncio.run(main())
"""


@needs_pgbouncer
async def test_two_processes_give_their_statements_the_same_names(start: Start) -> None:
    url = (await start(default_pool_size=1)).url.render_as_string(hide_password=False)
    said = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SECOND_PROCESS, url, stderr=asyncio.subprocess.PIPE
        )
        said.append((await process.communicate())[1].decode())
    assert said[0] == "" and "DuplicatePreparedStatementError" in said[1]


@needs_pgbouncer
@pytest.mark.parametrize("name", ["jit", "search_path", "statement_timeout"])
async def test_it_refuses_settings_at_the_start_of_a_connection(start: Start, name: str) -> None:
    with pytest.raises(DBAPIError, match=f"unsupported startup parameter: {name}"):
        await twisted(await start(), connect_args={"server_settings": {name: "0"}})


@needs_pgbouncer
async def test_what_one_client_leaves_in_the_session_the_next_one_finds(start: Start) -> None:
    bouncer = await start(default_pool_size=1)
    alice, bob = (make_engine(bouncer.url, connect_args=CACHELESS) for _ in range(2))
    async with alice.begin() as connection:
        await connection.execute(text("SET lock_timeout = '7s'"))
        locked = (await connection.execute(text("SELECT pg_try_advisory_lock(42)"))).scalar()
    async with bob.begin() as connection:
        locked_again = (await connection.execute(text("SELECT pg_try_advisory_lock(42)"))).scalar()
        assert (await connection.execute(text("SHOW lock_timeout"))).scalar() == "7s"
        await connection.execute(text("SET LOCAL statement_timeout = '7s'"))
    async with alice.begin() as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() != "7s"
    assert (locked, locked_again) == (True, True)
    for engine in (alice, bob):
        await engine.dispose()


# -- its end -----------------------------------------------------------------------------------------------


@needs_pgbouncer
async def test_nothing_is_left_after_the_block(database: FreshDatabase) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pgbouncer(database.server, database.name) as bouncer:
            assert len(bouncers(folder_of(bouncer))) >= 2, "the keeper and PgBouncer"
            1 / 0  # noqa: B018
    assert not bouncers(folder_of(bouncer)) and not exists(folder_of(bouncer))


@needs_pgbouncer
async def test_another_one_is_left_alone(database: FreshDatabase, start: Start) -> None:
    bouncer = await start()
    async with pgbouncer(database.server, database.name):
        pass
    await twisted(bouncer, connect_args=CACHELESS)


RUN = """
import asyncio
from course_lib import open_lesson
from course_lib.postgres.pgbouncer import pgbouncer

async def main():
    lesson = await open_lesson("05", "migrated")
    async with pgbouncer(lesson.server, lesson.database) as bouncer:
        print(bouncer.url.query["host"], flush=True)
        await asyncio.sleep({seconds})
        {then}

asyncio.run(main())
"""


@needs_pgbouncer
@pytest.mark.parametrize("end", ["killed", "exits", "asked to end"])
@pytest.mark.soak(after=1)
def test_a_program_that_ends_inside_the_block_leaves_nothing(shared_home: Path, end: str) -> None:
    then, seconds = ("import os; os._exit(3)", 0) if end == "exits" else ("", 60)
    process = start_python(shared_home, RUN.format(then=then, seconds=seconds))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("PostgreSQL")
    folder = process.stdout.readline().strip()
    if end != "exits":
        assert len(bouncers(folder)) >= 2
        process.kill() if end == "killed" else process.terminate()
    process.communicate(timeout=30)
    wait_until(lambda: not bouncers(folder) and not exists(folder))


# -- passwords, and what goes wrong ------------------------------------------------------------------------


@needs_pgbouncer
async def test_a_server_with_a_password_is_reached_and_the_password_kept(
    your_server: YourServer, point_at: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    your_server.execute("CREATE ROLE quoted SUPERUSER LOGIN PASSWORD 'it''s ; secret'")
    point_at(your_server.url("quoted", "it's ; secret"))
    server = await find_server()
    async with pgbouncer(server, "shop") as bouncer:
        engine = make_engine(bouncer.url, connect_args=CACHELESS)
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM orders"))).scalar() == 2
        await engine.dispose()
        folder = folder_of(bouncer)
        assert (mode(folder), mode(f"{folder}/pgbouncer.ini")) == (0o700, 0o600)
        shown = f"{bouncer!r} {bouncer.dsn} {[process.cmdline() for process in bouncers(folder)]}"
    your_server.execute("DROP ROLE quoted")
    assert "secret" not in shown + "".join(capfd.readouterr())


async def test_where_it_is_missing_the_mend_names_the_command(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course_lib.postgres.pgbouncer.shutil.which", lambda name, path: None)
    assert not pgbouncer_is_installed()
    with pytest.raises(CourseError, match="apt-get install pgbouncer"):
        async with pgbouncer(database.server, database.name):
            pass


@needs_pgbouncer
async def test_one_that_does_not_start_says_why_and_leaves_nothing(
    database: FreshDatabase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    async with pgbouncer(database.server, database.name) as bouncer:
        assert Path(folder_of(bouncer)).parent == folder
    with pytest.raises(CourseError, match=r"PgBouncer did not start: .*pool_mode"):
        async with pgbouncer(database.server, database.name, pool_mode="sometimes"):  # type: ignore[arg-type]
            pass
    assert names_in(folder) == [] and not bouncers(str(folder))


@needs_pgbouncer
async def test_a_folder_too_deep_for_a_socket_is_not_used(
    database: FreshDatabase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folder / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    async with pgbouncer(database.server, database.name) as bouncer:
        await bouncer.show("pools")
        assert Path(folder_of(bouncer)).parent == Path("/tmp")


STRANGE = """it's "a" ü ; # %include = * \\ [pgbouncer] """


@needs_pgbouncer
async def test_names_and_passwords_of_any_characters_arrive_as_they_are(your_server: YourServer, point_at: Any) -> None:
    quoted, secret = '"' + STRANGE.replace('"', '""') + '"', "'" + STRANGE.replace("'", "''") + "'"
    your_server.execute(f"CREATE ROLE {quoted} SUPERUSER LOGIN PASSWORD {secret}", f"CREATE DATABASE {quoted}")
    point_at(your_server.url(quote(STRANGE, safe=""), STRANGE))
    async with pgbouncer(await find_server(), STRANGE) as bouncer:
        engine = make_engine(bouncer.url, connect_args=CACHELESS)
        async with engine.connect() as connection:
            told = (await connection.execute(text("SELECT current_user, current_database()"))).one()
            assert tuple(told) == (STRANGE, STRANGE)
            assert [pool["database"] for pool in await bouncer.show("pools")] == [STRANGE]
        await engine.dispose()
    your_server.execute(f"DROP DATABASE {quoted}", f"DROP ROLE {quoted}")


@needs_pgbouncer
async def test_a_line_break_is_refused_and_nothing_is_left(
    database: FreshDatabase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for server, name in (
        (database.server, f"{database.name}\nauth_type = trust"),
        (replace(database.server, url=database.server.url.set(username="ada\n[pgbouncer]")), database.name),
        (replace(database.server, url=database.server.url.set(password="\rsecret")), database.name),
    ):
        with pytest.raises(CourseError, match="line break") as caught:
            async with pgbouncer(server, name):
                pass
        assert "secret" not in str(caught.value)
    assert names_in(folder) == []
