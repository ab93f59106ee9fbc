"""The first start makes everything, the second does nothing, wherever the course's folder lies."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import configuration, find_server, running_server, stop_embedded
from course_lib.postgres.server import embedded_cluster
from course_lib.postgres.sockets import socket_folder
from tests.postgres.conftest import course_home
from tests.postgres.places import cluster_in, names_in, run_python, stop_all_below


def answer(home: Path) -> int:
    """Ask the server of ``home`` something, over its own address."""
    with psycopg.connect(cluster_in(home).address().dsn) as connection:
        row = connection.execute("SELECT 6 * 7").fetchone()
    assert row is not None
    return int(row[0])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_first_start_makes_a_server_the_second_finds_it_and_stop_ends_it(home: Path) -> None:
    first = await find_server()
    process = embedded_cluster().process()
    second = await find_server()
    assert first.started and not second.started
    assert process is not None and embedded_cluster().process() == process
    assert first.describe().startswith("PostgreSQL 18.")
    assert stop_embedded()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert running_server() is None
    assert not stop_embedded(), "stopping twice is harmless"
    third = await find_server()
    assert third.started, "a stopped server starts again"


@pytest.mark.parametrize(
    "name",
    ["with a space", 'it\'s "quoted"', "cost$HOME`id`", "back\\slash", "Übung 学习", "100%+1@x:y", "a,b", "{0} %s"],
)
@pytest.mark.soak(after=2)
async def test_any_folder_name_will_do(folder: Path, name: str) -> None:
    with course_home(folder / name):
        lesson = await open_lesson("02", "migrated")
        async with lesson.engine.connect() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar() == 0
        with psycopg.connect(lesson.dsn) as direct:
            assert direct.info.dbname == lesson.database
        await lesson.close()
        assert stop_embedded()


async def test_a_long_path_moves_the_socket_to_a_private_folder(folder: Path) -> None:
    home = folder / ("deep" * 20) / ("deeper" * 10)
    with course_home(home):
        await find_server()
        sockets = Path(embedded_cluster().address().host)
        assert folder not in sockets.parents
        assert mode_of(sockets) == 0o700
        assert answer(home) == 42
        assert stop_embedded()
        assert sockets.name not in names_in(sockets.parent), "nothing stays behind in the temp folder"


async def test_a_client_with_another_temp_folder_finds_the_moved_socket(folder: Path) -> None:
    home = folder / ("deep" * 30)
    elsewhere = folder / "tmp"
    elsewhere.mkdir()
    with course_home(home):
        await find_server()
        code = "import asyncio; from course_lib.postgres import find_server; print(asyncio.run(find_server()).started)"
        assert run_python(home, code, TMPDIR=str(elsewhere)).strip() == "False"


@pytest.mark.parametrize("stranger", ["a link", "somebody's folder", "a file"])
@pytest.mark.soak(after=1)
async def test_a_strangers_socket_folder_is_refused(
    folder: Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    (folder / "tmp").mkdir()
    target = folder / "target"
    target.mkdir(mode=0o755)
    with course_home(folder / ("deep" * 30)) as home:
        sockets = socket_folder((home / "postgres-18").resolve())
        assert sockets.parent == folder / "tmp"
        if stranger == "a link":
            sockets.symlink_to(target)
        elif stranger == "a file":
            sockets.write_text("mine")
        elif os.geteuid() == 0:
            sockets.mkdir(mode=0o777)
            os.chown(sockets, 1, 1)  # daemon
        else:
            pytest.skip("only root can make a folder of another user")
        before = sockets.lstat()
        with pytest.raises(CourseError, match="belongs to somebody else") as caught:
            await find_server()
        assert "COURSE_HOME" in caught.value.mend
        after = sockets.lstat()
        assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)
        assert stat.S_IMODE(target.stat().st_mode) == 0o755
        sockets.rmdir() if stranger == "somebody's folder" else sockets.unlink()
        assert (await find_server()).started, "once it is out of the way, the server starts"
        stop_all_below(folder)


async def test_two_spellings_of_a_folder_are_one_server(folder: Path) -> None:
    real, link = folder / "real", folder / "link"
    real.mkdir(mode=0o755)
    link.symlink_to(real)
    with course_home(real):
        assert (await find_server()).started
        process = embedded_cluster().process()
    with course_home(link):
        assert not (await find_server()).started
        assert embedded_cluster().process() == process


async def test_variables_of_libpq_do_not_lead_astray(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGHOST": "db.example", "PGPORT": "1", "PGUSER": "somebody", "PGPASSWORD": "x", "PGDATABASE": "shop",
        "PGSSLMODE": "require", "PGDATA": "/nowhere", "PGOPTIONS": "-c statement_timeout=1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    lesson = await open_lesson("02", "migrated")
    async with lesson.engine.connect() as connection:
        who = (await connection.exec_driver_sql("SELECT current_user || ' ' || current_database()")).scalar()
    assert who == f"postgres {lesson.database}"
    await lesson.close()


async def test_a_variable_that_no_address_overrides_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    with pytest.raises(CourseError, match="PGSSLMODE") as caught:
        await find_server()
    assert caught.value.mend == "Run: unset PGSSLMODE"


async def test_on_a_network_file_system_each_machine_has_a_server_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home folder that follows the learner from machine to machine: the other's pid means nothing here."""
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(home.parent), fstype="nfs4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert embedded_cluster().folder.name == f"postgres-18-{socket.gethostname()}"
    embedded_cluster.cache_clear()
    monkeypatch.setattr(socket, "gethostname", lambda: "second")
    assert embedded_cluster().folder.name == "postgres-18-second"
    assert (await find_server()).started
    embedded_cluster.cache_clear()
    mounts[1].fstype = "ext4"
    assert embedded_cluster().folder.name == "postgres-18"


@pytest.mark.parametrize(("needed", "expected"), [(0, "posix"), (2**60, "mmap")])
async def test_a_small_dev_shm_is_not_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, needed: int, expected: str
) -> None:
    """In a container with 64 MB of it, a parallel index build would fail."""
    if sys.platform != "linux":
        pytest.skip("only Linux has /dev/shm")
    monkeypatch.setattr(configuration, "PARALLEL_BUILD_BYTES", needed)
    server = await find_server()
    async with server.connection() as connection:
        assert await connection.fetchval("SHOW dynamic_shared_memory_type") == expected


def test_roots_umask_does_not_shut_the_server_out(folder: Path) -> None:
    if os.name == "nt":
        pytest.skip("there is no umask")
    code = (
        "import os; os.umask(0o077); import asyncio; from course_lib.postgres import find_server;"
        "print(asyncio.run(find_server()).started)"
    )
    assert run_python(folder / "new" / "home", code).strip() == "True"
