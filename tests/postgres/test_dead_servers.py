"""What a killed server, a foreign pid or a damaged disk leaves does not stop the next start, nor hurt anybody."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import find_server, running_server, stop_embedded
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.server import embedded_cluster
from tests.postgres.places import OPEN, cluster_in, run_python, start_python, wait_until


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A program that has nothing to do with the course."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield psutil.Process(program.pid)
    program.kill()
    program.wait()


async def stopped_cluster() -> Cluster:
    await find_server()
    stop_embedded()
    return embedded_cluster()


@pytest.mark.parametrize("content", ["4194303\n", "not a number\n", "", "99999999999999999999\n", "-1\n", "\0\xff"])
async def test_a_pid_file_that_names_nobody_is_forgotten(home: Path, content: str) -> None:
    cluster = await stopped_cluster()
    (cluster.data / "postmaster.pid").write_text(content)
    assert running_server() is None
    assert not stop_embedded()
    assert (await find_server()).started


@pytest.mark.parametrize("state", ["", "ready"])
async def test_a_pid_file_that_names_a_strangers_program_does_it_no_harm(
    home: Path, bystander: psutil.Process, state: str
) -> None:
    cluster = await stopped_cluster()
    lines = [str(bystander.pid), str(cluster.data), "1", "5432", str(cluster.folder / "socket"), "", "1 2", state]
    (cluster.data / "postmaster.pid").write_text("\n".join(lines))
    assert running_server() is None
    assert not stop_embedded()
    run_python(home, OPEN)  # a whole kernel's life, its end included
    assert bystander.is_running() and bystander.status() != psutil.STATUS_ZOMBIE


async def test_another_server_of_postgres_is_a_stranger_too(folder: Path, home: Path) -> None:
    """Its process is named postgres as well: only the data folder tells them apart."""
    cluster = await stopped_cluster()
    other = cluster_in(folder / "other")
    other.ensure_running()
    shutil.copy(other.data / "postmaster.pid", cluster.data / "postmaster.pid")
    process = other.process()
    assert process is not None
    assert running_server() is None and not stop_embedded()
    assert (await find_server()).started
    assert stop_embedded() and other.process() == process


async def test_a_killed_server_comes_back_at_once_although_its_backends_linger(home: Path) -> None:
    lesson = await open_lesson("02", "migrated")
    sleeper = start_python(home, f"import psycopg; psycopg.connect({lesson.dsn!r}).execute('SELECT pg_sleep(60)')")

    def sleeps() -> bool:
        with psycopg.connect(lesson.dsn) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'"
            return connection.execute(query).fetchone() == (1,)

    wait_until(sleeps)
    process = embedded_cluster().process()
    assert process is not None
    backends = process.children()
    process.kill()
    began = time.monotonic()
    again = await open_lesson("02", "migrated")
    assert time.monotonic() - began < 5
    assert again.server.started
    assert not [backend for backend in backends if backend.is_running() and backend.status() != psutil.STATUS_ZOMBIE]
    async with again.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar() == 0
    await again.close()
    sleeper.kill()
    sleeper.communicate()


async def test_a_server_told_to_end_gently_does_not_keep_the_next_start_waiting(home: Path) -> None:
    """A smart shutdown waits for its clients, and lets no new one in."""
    lesson = await open_lesson("02", "migrated")
    with psycopg.connect(lesson.dsn):
        process = embedded_cluster().process()
        assert process is not None
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in (embedded_cluster().data / "postmaster.pid").read_text())
        assert (await find_server()).started
    await lesson.close()


@pytest.mark.parametrize("moment", ["before the server has written its pid", "afterwards"])
async def test_a_starter_killed_on_the_way_leaves_one_server_in_the_end(home: Path, moment: str) -> None:
    """The lock is free, the server not ready: the next opening waits for it, or replaces it."""
    cluster = await stopped_cluster()
    run_python(
        home,
        f"""
import asyncio, os, pathlib, time
from course_lib.postgres import find_server
pid, sleep = pathlib.Path({str(cluster.data / "postmaster.pid")!r}), time.sleep
time.sleep = lambda seconds: sleep(seconds) if {moment == "afterwards"} and not pid.exists() else os._exit(0)
asyncio.run(find_server())
""",
    )
    assert (await find_server()).version
    postmasters = [p for p in psutil.process_iter(["cmdline"]) if str(cluster.data) in (p.info["cmdline"] or [])]
    assert postmasters == [cluster.process()]


async def test_after_a_backend_crash_the_next_opening_waits_for_the_recovery(home: Path) -> None:
    lesson = await open_lesson("02", "migrated")
    with psycopg.connect(lesson.dsn) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        lesson = await open_lesson("02", "migrated")
    assert not lesson.server.started
    await lesson.close()


def truncate_control(data: Path) -> None:
    os.truncate(data / "global" / "pg_control", 100)


def scribble_control(data: Path) -> None:
    (data / "global" / "pg_control").write_bytes(b"\7" * 8192)


def lose_control(data: Path) -> None:
    (data / "global" / "pg_control").unlink()


def lose_log(data: Path) -> None:
    for file in (data / "pg_wal").glob("0*"):
        file.unlink()


def lose_everything(data: Path) -> None:
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def lose_transactions(data: Path) -> None:
    shutil.rmtree(data / "pg_xact")


DAMAGES = [
    truncate_control, scribble_control, lose_control, lose_log, lose_everything, lose_transactions,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_damaged_data_are_put_aside_and_made_anew(
    home: Path, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = await stopped_cluster()
    (cluster.folder / "data.aside").mkdir()
    (cluster.folder / "data.aside" / "of an earlier time").touch()
    assert callable(damage)
    damage(cluster.data)
    lesson = await open_lesson("02", "migrated")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        "The course's server could not read its data, so it has made them anew; "
        f"the old ones are in {cluster.folder / 'data.aside'}"
    )
    assert len(printed) == 2 and "a fresh database for lesson 02" in printed[1]
    assert not (cluster.folder / "data.aside" / "of an earlier time").exists(), "one set of old data is enough"
    await lesson.close()


@pytest.mark.parametrize("obstacle", ["no right to read", "foreign owner", "programs gone"])
async def test_an_obstacle_is_not_damage(home: Path, folder: Path, obstacle: str) -> None:
    """The data are whole: they stay, and once the obstacle is away the same server is back."""
    cluster = await stopped_cluster()
    identity = (cluster.data / "PG_VERSION").stat().st_ino
    control = cluster.data / "global" / "pg_control"
    if obstacle == "no right to read":
        control.chmod(0)
    elif obstacle == "foreign owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        owner = cluster.data.stat()
        os.chown(cluster.data, 1, 1)
    else:
        cluster = Cluster(cluster.folder, folder / "nowhere", cluster.account)
    with pytest.raises(CourseError):
        cluster.ensure_running()
    assert (cluster.data / "PG_VERSION").stat().st_ino == identity
    assert not (cluster.folder / "data.aside").exists()
    if obstacle == "foreign owner":
        os.chown(cluster.data, owner.st_uid, owner.st_gid)
    control.chmod(0o600)
    assert cluster_in(home).ensure_running()
    assert (cluster.data / "PG_VERSION").stat().st_ino == identity


async def test_half_made_data_of_a_killed_start_are_removed(home: Path) -> None:
    folder = embedded_cluster().folder
    (folder / "data.4194303" / "base").mkdir(parents=True)
    await find_server()
    assert not (folder / "data.4194303").exists()
