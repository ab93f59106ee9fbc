"""What a killed server, a foreign pid or a damaged disk leaves does not stop the next start, nor hurt anybody."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
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
def home(used_home: Path) -> Path:
    """What dies here has been used."""
    return used_home


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
@pytest.mark.soak(after=2)
async def test_a_pid_file_that_names_nobody_is_forgotten(home: Path, content: str) -> None:
    cluster = await stopped_cluster()
    (cluster.data / "postmaster.pid").write_text(content)
    assert running_server() is None
    assert not stop_embedded()
    assert (await find_server()).started


@pytest.mark.parametrize("state", ["", "ready"])
@pytest.mark.soak(after=1)
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
    sleeper = start_python(home, f"import psycopg; psycopg.connect({str(lesson.dsn)!r}).execute('SELECT pg_sleep(60)')")

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
@pytest.mark.soak(after=1)
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


def truncate_transactions(data: Path) -> None:
    os.truncate(data / "pg_xact" / "0000", 0)


def empty_list_of_databases(data: Path) -> None:
    os.truncate(data / "global" / "1262", 0)


def empty_version(data: Path) -> None:
    os.truncate(data / "PG_VERSION", 0)


def empty_everything(data: Path) -> None:
    for path in data.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def lose_both_databases(data: Path) -> None:
    for name in ("1", "5"):
        shutil.rmtree(data / "base" / name)


def empty_both_catalogues(data: Path) -> None:
    for name in ("1", "5"):
        os.truncate(data / "base" / name / "1259", 0)


DAMAGES = [
    truncate_control, scribble_control, lose_control, lose_log, lose_everything, lose_transactions,
    truncate_transactions, empty_list_of_databases, empty_version, empty_everything, lose_both_databases,
    empty_both_catalogues,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.soak(after=3)
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


@pytest.mark.parametrize("database", ["1", "5"], ids=["template1", "postgres"])
@pytest.mark.parametrize("what", ["folder", "pg_filenode.map", "1259"])
@pytest.mark.soak(after=2)
async def test_one_damaged_database_of_the_server_is_made_anew_and_the_others_stay(
    home: Path, database: str, what: str
) -> None:
    lesson = await open_lesson("02", "migrated")
    cluster = embedded_cluster()
    cluster.stop()
    place = cluster.data / "base" / database
    shutil.rmtree(place) if what == "folder" else os.truncate(place / what, 0)
    assert (await find_server()).started
    with psycopg.connect(lesson.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)
    assert not (cluster.folder / "data.aside").exists()
    await (await open_lesson("02", "empty")).close()  # for which a template is built


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


async def test_what_is_no_damage_is_put_back_when_new_data_serve_no_better(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says that something is wrong with it; that it was not the data shows when new ones do not help."""
    cluster = await stopped_cluster()
    identity = (cluster.data / "PG_VERSION").stat().st_ino
    spoiled = Cluster(cluster.folder, cluster.installation, cluster.account, {"max_stack_depth": "'1TB'"})
    with pytest.raises(CourseError, match="did not start"):
        spoiled.ensure_running()
    assert (cluster.data / "PG_VERSION").stat().st_ino == identity
    assert not list(cluster.folder.glob("data.*"))
    assert cluster.ensure_running()


async def test_half_made_data_of_a_killed_start_are_removed(home: Path) -> None:
    cluster = embedded_cluster()
    cluster.data.rename(cluster.folder / "data.4194303")
    await find_server()
    assert not (cluster.folder / "data.4194303").exists()


@pytest.mark.parametrize("content", ["", "a living process of the same user", "garbage"])
async def test_a_lock_file_of_the_socket_that_was_left_behind(home: Path, content: str) -> None:
    """PostgreSQL itself refuses to start over each of them."""
    cluster = await stopped_cluster()
    user = {} if cluster.account is None else {"user": cluster.account.uid, "group": cluster.account.gid}
    living = subprocess.Popen(["sleep", "60"], **user)  # noqa: ASYNC220
    text = content if content in ("", "garbage") else f"{living.pid}\n{cluster.data}\n1\n5432\n{cluster.folder}\n"
    for lock in (cluster.folder / "socket" / ".s.PGSQL.5432.lock", cluster.data / "postmaster.pid"):
        lock.write_text(text)
    (cluster.folder / "socket" / ".s.PGSQL.5432").touch()
    assert (await find_server()).started
    assert living.poll() is None
    living.kill()
    living.wait()


async def test_a_zombie_that_held_the_lock_is_in_nobodys_way(home: Path) -> None:
    cluster = await stopped_cluster()
    user = {} if cluster.account is None else {"user": cluster.account.uid, "group": cluster.account.gid}
    zombie = subprocess.Popen(["true"], **user)  # noqa: ASYNC220
    wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
    text = f"{zombie.pid}\n{cluster.data}\n1\n5432\n{cluster.folder / 'socket'}\n\n1 2\nready\n"
    for lock in (cluster.folder / "socket" / ".s.PGSQL.5432.lock", cluster.data / "postmaster.pid"):
        lock.write_text(text)
    assert (await find_server()).started
    zombie.wait()


def test_a_server_that_is_killed_leaves_no_zombie_in_the_program_that_started_it(folder: Path) -> None:
    """As `course lab` and a kernel live on for hours, and a zombie of theirs would pass for a living server."""
    home = folder / "home"
    starter = start_python(home, OPEN + "; print('open', flush=True); input()")
    assert starter.stdout is not None
    assert any("open" in starter.stdout.readline() for _ in range(3))
    process = cluster_in(home).process()
    assert process is not None
    process.kill()
    wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    children = psutil.Process(starter.pid).children(recursive=True)
    assert not [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
    run_python(home, OPEN)
    starter.communicate("\n", timeout=20)


async def test_a_halted_server_goes_on(home: Path) -> None:
    """Its databases with it: nothing is lost."""
    lesson = await open_lesson("02", "migrated")
    process = embedded_cluster().process()
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
    began = time.monotonic()
    assert not (await find_server()).started
    assert time.monotonic() - began < 4
    async with lesson.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar() == 0
    await lesson.close()


async def test_a_halted_server_is_stopped_in_seconds(home: Path) -> None:
    await find_server()
    process = embedded_cluster().process()
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
    began = time.monotonic()
    assert stop_embedded()
    assert time.monotonic() - began < 5
    assert (await find_server()).started


async def test_a_server_that_proves_to_answer_is_not_replaced(home: Path) -> None:
    await find_server()
    cluster = embedded_cluster()
    process = cluster.process()
    assert not cluster.ensure_running(suspect=True)
    assert cluster.process() == process


async def test_a_server_that_does_not_answer_is_replaced_when_somebody_says_so(home: Path) -> None:
    """Halted by a debugger, which no signal but the last undoes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to halt a process as a debugger does")
    await find_server()
    cluster = embedded_cluster()
    process = cluster.process()
    assert process is not None
    attach = 16
    assert ctypes.CDLL(None).ptrace(attach, process.pid, 0, 0) == 0
    wait_until(lambda: process.status() == psutil.STATUS_TRACING_STOP)
    began = time.monotonic()
    assert cluster.ensure_running(suspect=True)
    assert time.monotonic() - began < 15
    os.waitpid(process.pid, 0)  # noqa: ASYNC222 (a debugger's dead are its own to bury)
    assert (await find_server()).version


def test_a_postmaster_killed_at_any_moment_of_its_start_is_started_again(folder: Path) -> None:
    """Once; the second time there is a sentence. The next opening finds nothing in its way."""
    cluster = cluster_in(folder / "home")
    cluster.ensure_running()
    for wait in (0.0, 0.02, 0.05, 0.09):
        cluster.stop()
        once = threading.Thread(target=kill_when_seen, args=(cluster, wait), daemon=True)
        once.start()
        cluster.ensure_running()
        once.join(10)
        if cluster.process() is None:  # killed when it was ready already
            assert cluster.ensure_running()
    assert not (cluster.folder / "data.aside").exists()


def kill_when_seen(cluster: Cluster, wait: float) -> None:
    deadline = time.monotonic() + 5
    while (process := cluster.process()) is None:
        if time.monotonic() > deadline:
            return
    time.sleep(wait)
    with contextlib.suppress(psutil.Error):
        process.kill()


@pytest.mark.parametrize("names", ["postmaster.pid", "socket's lock", "both", "every file of ours"])
@pytest.mark.soak(after=1)
async def test_files_that_a_loss_of_power_left_empty(home: Path, names: str) -> None:
    """The server did not end by itself, and what had not been written to the disk yet has length 0."""
    lesson = await open_lesson("02", "migrated")
    cluster = embedded_cluster()
    process = cluster.process()
    assert process is not None
    process.kill()
    process.wait(5)
    lock = cluster.folder / "socket" / ".s.PGSQL.5432.lock"
    files = {"postmaster.pid": [cluster.data / "postmaster.pid"], "socket's lock": [lock]}
    files["both"] = files["postmaster.pid"] + files["socket's lock"]
    ours = [path for folder in (cluster.folder, home) for path in folder.iterdir() if path.is_file()]
    for path in files.get(names, files["both"] + ours):
        os.truncate(path, 0)
    assert (await find_server()).started
    with psycopg.connect(lesson.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)


@pytest.mark.parametrize("how", ["modes", "owner"])
async def test_a_home_that_was_copied_back(home: Path, how: str) -> None:
    """`cp -r` keeps neither modes nor, for root, the owner; the pid file is an old one."""
    await find_server()
    cluster = embedded_cluster()
    pid_file = (cluster.data / "postmaster.pid").read_text()
    cluster.stop()
    (cluster.data / "postmaster.pid").write_text(pid_file)
    cluster.data.chmod(0o755)
    if how == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root runs the server as somebody else")
        for path in [cluster.data, *cluster.data.rglob("*")]:
            os.chown(path, 0, 0)
    identity = (cluster.data / "PG_VERSION").stat().st_ino
    assert (await find_server()).started
    assert (cluster.data / "PG_VERSION").stat().st_ino == identity
    assert cluster.data.stat().st_mode & 0o777 == 0o700


async def test_a_server_whose_pid_file_was_removed_is_replaced(home: Path) -> None:
    """It is of this machine's, though nothing names it any more: two servers never run on the same data."""
    await find_server()
    cluster = embedded_cluster()
    process = cluster.process()
    assert process is not None
    (cluster.data / "postmaster.pid").unlink()
    assert (await find_server()).started
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_a_program_that_the_server_started_does_not_pass_for_it(home: Path) -> None:
    """It has inherited all the server had open, and lives on when the server has been stopped."""
    server = await find_server()
    async with server.connection() as connection:
        await connection.execute("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; sleep 20 > /dev/null 2>&1 &'")
    assert stop_embedded()
    assert (await find_server()).started
    process = embedded_cluster().process()
    assert process is not None
    process.kill()
    process.wait(5)
    assert (await find_server()).started
