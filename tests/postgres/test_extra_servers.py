"""Servers that a lesson has beside its own: made, copied, promoted, restored, and gone with whoever made them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest

from course_lib.data.fresh_server import fresh_server
from course_lib.errors import CourseError
from course_lib.postgres import extra_cluster, server_folders
from course_lib.postgres.extra_server import ExtraServer
from course_lib.postgres.keeper import keep
from course_lib.postgres.server_folders import (
    clusters_in,
    list_servers,
    own_folder,
    servers_folder,
    stop_all_servers,
    sweep_servers,
)
from tests.postgres.places import has_ended, run_course, run_python, start_python, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no Unix sockets")

MAKE = """
import asyncio, sys
from course_lib.data.fresh_server import fresh_server
async def make():
    primary = await fresh_server("primary", "empty")
    standby = await primary.standby()
    print(primary.cluster.folder.parent, primary.cluster.process().pid, standby.cluster.process().pid, flush=True)
asyncio.run(make())
"""
AND_WAIT = MAKE + "sys.stdin.read()"
AND_WAIT_ALONE = (
    MAKE
    + "from course_lib.postgres import server_folders as f\n"
    + ("[own.keeper.kill() for own in f._own.values()]; sys.stdin.read()")
)


@pytest.fixture
async def primary(shared_home: Path) -> AsyncIterator[ExtraServer]:
    """A server with one empty table."""
    server = await fresh_server("primary", "empty")
    await ask(server, "CREATE TABLE notes (id bigserial PRIMARY KEY, line text)")
    yield server
    for each in list_servers():
        server_folders.remove_server(each.cluster)


async def ask(server: ExtraServer, query: str) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def commit_time(server: ExtraServer, statement: str) -> datetime:
    """When a statement that returns its transaction's number was committed."""
    number = await ask(server, statement)
    moment = await ask(server, f"SELECT pg_xact_commit_timestamp('{number}')")
    assert isinstance(moment, datetime)
    return moment


async def caught_up(primary: ExtraServer, standby: ExtraServer) -> None:
    lsn = await ask(primary, "SELECT pg_current_wal_flush_lsn()::text")
    await until(standby, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")


async def until(server: ExtraServer, question: str) -> None:
    async with asyncio.timeout(10):
        while not await ask(server, question):  # noqa: ASYNC110 (the server knows, and tells when it is asked)
            await asyncio.sleep(0.01)


async def test_a_primary_is_durable_and_archives(primary: ExtraServer) -> None:
    settings = {name: await ask(primary, f"SHOW {name}") for name in ("fsync", "archive_mode", "wal_level")}
    assert settings == {"fsync": "on", "archive_mode": "on", "wal_level": "logical"}
    await ask(primary, "INSERT INTO notes (line) VALUES ('kept')")
    assert await primary.archive() >= 1
    assert await primary.archive() >= 1, "also when nothing has been written since"
    await primary.crash()
    assert not primary.runs
    await primary.start()
    assert await ask(primary, "SELECT line FROM notes") == "kept"


async def test_a_standby_follows_is_read_only_and_is_promoted(primary: ExtraServer) -> None:
    standby = await primary.standby()
    await ask(primary, "INSERT INTO notes (line) VALUES ('one')")
    await caught_up(primary, standby)
    assert await ask(standby, "SELECT line FROM notes") == "one"
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await ask(standby, "DELETE FROM notes")
    assert await ask(primary, "SELECT application_name FROM pg_stat_replication") == "standby"
    await standby.stop()
    await standby.start()
    assert await ask(standby, "SELECT pg_is_in_recovery()"), "also after a restart"
    await primary.crash()
    await standby.promote()
    await ask(standby, "INSERT INTO notes (line) VALUES ('two')")
    assert await ask(standby, "SELECT count(*) FROM notes") == 2


async def test_a_restore_to_a_moment_and_to_an_lsn(primary: ExtraServer) -> None:
    backup = await primary.backup()
    await ask(primary, "INSERT INTO notes (line) SELECT n::text FROM generate_series(1, 50) AS n")
    moment = await ask(primary, "SELECT clock_timestamp()")
    lsn = await ask(primary, "SELECT pg_current_wal_insert_lsn()::text")
    assert isinstance(moment, datetime) and isinstance(lsn, str)
    await ask(primary, "DELETE FROM notes WHERE id > 10")
    for until in (moment, lsn):
        restored = await primary.restore(backup, until)
        assert await ask(restored, "SELECT count(*) FROM notes") == 50
        assert not await ask(restored, "SELECT pg_is_in_recovery()"), "and it may be written"
    deleted = await commit_time(primary, "UPDATE notes SET line = 'changed' RETURNING pg_current_xact_id()::xid")
    for inclusive, line in ((True, "changed"), (False, "1")):
        at = await primary.restore(backup, deleted, inclusive=inclusive)
        assert await ask(at, "SELECT min(line) FROM notes") == line
    await ask(primary, "DELETE FROM notes")
    latest = await primary.restore(backup, name="latest")
    assert await ask(latest, "SELECT count(*) FROM notes") == 0
    assert await ask(primary, "SELECT count(*) FROM notes") == 0, "the primary goes on meanwhile"


async def test_a_restore_after_the_loss_of_the_primary(primary: ExtraServer) -> None:
    backup = await primary.backup()
    await ask(primary, "INSERT INTO notes (line) VALUES ('archived')")
    await primary.archive()
    await primary.crash()
    restored = await primary.restore(backup)
    assert await ask(restored, "SELECT line FROM notes") == "archived"


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (datetime.now(UTC) + timedelta(days=1), "the archive has nothing"),
        (datetime.now(UTC) - timedelta(days=1), "The backup was finished after"),
        (datetime(2026, 1, 1), "time zone"),
    ],
)
async def test_moments_that_cannot_be_restored(primary: ExtraServer, until: datetime, said: str) -> None:
    backup = await primary.backup()
    with pytest.raises(CourseError, match=said):
        await primary.restore(backup, until)


async def test_a_table_moves_by_logical_replication(primary: ExtraServer) -> None:
    await ask(primary, "INSERT INTO notes (line) VALUES ('before')")
    await ask(primary, "CREATE PUBLICATION move FOR TABLE notes")
    new = await fresh_server("new", "empty")
    await ask(new, "CREATE TABLE notes (id bigserial PRIMARY KEY, line text)")
    await ask(new, f"CREATE SUBSCRIPTION move CONNECTION '{primary.conninfo}' PUBLICATION move")
    await ask(primary, "INSERT INTO notes (line) VALUES ('after')")
    await until(new, "SELECT count(*) = 2 FROM notes")


async def test_the_same_name_is_made_anew(primary: ExtraServer) -> None:
    await ask(primary, "INSERT INTO notes (line) VALUES ('old')")
    again = await fresh_server("primary", "empty")
    assert await ask(again, "SELECT to_regclass('notes') IS NULL")
    assert len(list_servers()) == 1


async def test_names_lead_nowhere_else(primary: ExtraServer) -> None:
    for name in ("../primary", "a b", "", "A", "x" * 40):
        with pytest.raises(CourseError, match="small letters"):
            await primary.standby(name)
        with pytest.raises(CourseError, match="small letters"):
            await primary.backup(name)


async def test_a_home_with_signs_that_a_connection_string_quotes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from course_lib.settings import get_settings

    monkeypatch.setenv("COURSE_HOME", str(home / r"a b'c\d"))
    get_settings.cache_clear()
    primary = await fresh_server("primary", "empty")
    standby = await primary.standby()
    backup = await primary.backup()
    assert await ask((await primary.restore(backup)), "SELECT 1") == 1
    assert await ask(standby, "SELECT pg_is_in_recovery()")
    assert stop_all_servers() == 3
    get_settings.cache_clear()


async def test_a_home_whose_path_is_too_long_for_a_socket(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from course_lib.settings import get_settings

    monkeypatch.setenv("COURSE_HOME", str(home / ("long" * 20)))
    get_settings.cache_clear()
    primary = await fresh_server("primary", "empty")
    socket = primary.cluster.address().host
    assert str(servers_folder()) not in socket and mode_of(socket) == 0o700
    assert await ask(await primary.standby(), "SELECT pg_is_in_recovery()")
    stop_all_servers()
    assert mode_of(socket) is None
    get_settings.cache_clear()


def mode_of(folder: str) -> int | None:
    return Path(folder).stat().st_mode & 0o777 if Path(folder).exists() else None


# -- whose they are ----------------------------------------------------------------------------------------


def made_by(process: object) -> tuple[Path, list[psutil.Process]]:
    """The folder and the servers that a program made by ``MAKE`` tells of."""
    line = process.stdout.readline()  # type: ignore[attr-defined]
    folder, *pids = line.rsplit(" ", 2)
    return Path(folder), [psutil.Process(int(pid)) for pid in pids]


def gone(folder: Path, servers: list[psutil.Process]) -> bool:
    return not folder.exists() and all(map(has_ended, servers))


def test_servers_end_with_their_process(shared_home: Path) -> None:
    folder, *_ = run_python(shared_home, MAKE).rsplit(" ", 2)
    assert not Path(folder).exists()


def test_servers_of_two_processes_do_not_meet(shared_home: Path) -> None:
    programs = [start_python(shared_home, AND_WAIT) for _ in range(2)]
    (first, servers), (second, others) = map(made_by, programs)
    assert first != second and not set(servers) & set(others)
    programs[0].communicate("", timeout=30)
    wait_until(lambda: gone(first, servers))
    assert all(process.is_running() for process in others)
    programs[1].communicate("", timeout=30)


def test_a_killed_kernels_servers_are_ended_by_its_keeper(shared_home: Path) -> None:
    program = start_python(shared_home, AND_WAIT)
    folder, servers = made_by(program)
    program.send_signal(signal.SIGKILL)
    program.wait()
    wait_until(lambda: gone(folder, servers))


def test_an_ordinary_user_has_them_too(folder: Path, ordinary_user: list[str]) -> None:
    home = folder / "home"
    folder.chmod(0o1777)
    place, *_ = run_python(home, MAKE, ordinary_user).rsplit(" ", 2)
    assert (home / "servers").stat().st_mode & 0o777 == 0o700 and not Path(place).exists()


def test_where_the_keeper_was_killed_too_the_next_one_sweeps(shared_home: Path) -> None:
    program = start_python(shared_home, AND_WAIT_ALONE)
    folder, servers = made_by(program)
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert folder.exists() and not any(map(has_ended, servers))
    run_python(shared_home, MAKE)
    assert gone(folder, servers)


async def test_a_living_process_loses_nothing_to_a_sweep(primary: ExtraServer) -> None:
    assert sweep_servers() == 0 and primary.runs
    assert [(each.name, each.pid, each.owner_ended) for each in list_servers()] == [("primary", os.getpid(), False)]


async def test_idle_servers_are_stopped_and_used_ones_are_not(primary: ExtraServer) -> None:
    connection = await asyncpg.connect(primary.dsn)
    pipe, alive = os.pipe()
    waiting = asyncio.create_task(asyncio.to_thread(keep, str(own_folder()), 0.4, False, pipe, 0.05))
    await asyncio.sleep(0.8)
    assert primary.runs
    await connection.close()
    await asyncio.wait_for(waiting, 10)
    for handle in (pipe, alive):
        os.close(handle)
    assert not primary.cluster.folder.exists()


def test_the_commands_show_and_stop_them(shared_home: Path) -> None:
    program = start_python(shared_home, AND_WAIT)
    folder, servers = made_by(program)
    listed = run_course(shared_home, "db", "list", COLUMNS="200").stdout
    assert f"process {program.pid}, running" in listed and "primary" in listed and "standby" in listed
    assert "Stopped 2 servers of lessons." in run_course(shared_home, "db", "down").stdout
    assert gone(folder, servers)
    program.communicate("", timeout=30)


def test_they_are_stopped_where_the_lessons_have_another_server(shared_home: Path) -> None:
    program = start_python(shared_home, AND_WAIT)
    folder, servers = made_by(program)
    elsewhere = {"DATABASE_URL": "postgresql://somebody@127.0.0.1:1/shop"}
    assert "Stopped 2 servers of lessons." in run_course(shared_home, "db", "down", **elsewhere).stdout
    assert gone(folder, servers)
    again = run_course(shared_home, "db", "down", **elsewhere)
    assert again.returncode and "DATABASE_URL names a server" in again.stdout + again.stderr
    program.communicate("", timeout=30)


def test_folders_of_others_are_left_alone(shared_home: Path) -> None:
    base = servers_folder()
    base.mkdir(parents=True, exist_ok=True)
    strange = [
        base / "999999-abcdef0",
        base / ".999999-abcdef",
        base / "notes",
        base / "999999-ABCDEF",
        base / "x999999-abcdef",
    ]
    for place in strange:
        (place / "primary").mkdir(parents=True)
    elsewhere = shared_home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "primary").mkdir()
    link = base / "999999-abcdef"
    link.symlink_to(elsewhere)
    open_to_all = base / "999999-aaaaaa"
    (open_to_all / "primary").mkdir(parents=True)
    open_to_all.chmod(0o777)
    assert sweep_servers() == stop_all_servers() == 0
    assert all((place / "primary").exists() for place in [*strange, elsewhere, open_to_all]) and link.is_symlink()
    base.chmod(0o777)
    assert list_servers() == []
    base.chmod(0o755)


# -- what is missing ---------------------------------------------------------------------------------------


async def test_too_little_room(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra_cluster, "free_bytes", lambda folder: 5 * 2**20)
    with pytest.raises(CourseError, match="not enough room"):
        await fresh_server("primary", "empty")


async def test_a_program_that_is_missing(
    shared_home: Path, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installation / "bin" / "pg_basebackup").unlink()
    monkeypatch.setattr(server_folders, "reachable_installation", lambda home, account: installation)
    with pytest.raises(CourseError, match="lacks pg_basebackup"):
        await fresh_server("primary", "empty")


async def test_a_server_whose_data_are_gone_is_not_made_anew(primary: ExtraServer) -> None:
    await primary.remove()
    with pytest.raises(CourseError, match="its data are gone"):
        await primary.start()
    assert clusters_in(own_folder()) == []


async def test_a_damaged_template_is_built_again(primary: ExtraServer) -> None:
    (template,) = servers_folder().glob("template-empty-*")
    os.truncate(template / "global" / "pg_control", 100)
    assert await ask(await fresh_server("again", "empty"), "SELECT 1") == 1


async def test_two_recipes_in_one_process(shared_home: Path) -> None:
    for recipe in ("empty", "migrated", "empty"):
        server = await fresh_server("primary", recipe)
        assert await ask(server, "SELECT to_regclass('users') IS NOT NULL") == (recipe == "migrated")
    await server.remove()


async def test_an_unknown_recipe(shared_home: Path) -> None:
    with pytest.raises(CourseError, match="no recipe"):
        await fresh_server("primary", "none")
