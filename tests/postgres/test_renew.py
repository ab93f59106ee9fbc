"""``course db renew``: whatever became of the server and its data, new ones stand in their place, and it asks first."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from course_lib.cli.app import app
from course_lib.lesson import open_lesson
from course_lib.postgres import find_server, stop_embedded
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.server import embedded_cluster
from course_lib.settings import REPOSITORY
from tests.postgres.conftest import YourServer, course_home
from tests.postgres.places import environment, run_course
from tests.postgres.test_no_room import fill, small_disk


@pytest.fixture
def home(used_home: Path) -> Path:
    """What is renewed here has been used."""
    return used_home


def answer(home: Path, text: str) -> tuple[int, str]:
    """Run the command at a terminal, where somebody answers its question."""
    ours, its = pty.openpty()
    command = [sys.executable, "-c", "from course_lib.cli import main; main()", "db", "renew"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment(home), stdin=its, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    os.close(its)
    os.write(ours, f"{text}\n".encode())
    out = process.communicate(timeout=60)[0].decode()
    os.close(ours)
    return process.returncode, out


async def test_it_asks_a_person_and_takes_no_for_an_answer(home: Path) -> None:
    lesson = await open_lesson("02", "migrated")
    with psycopg.connect(lesson.dsn):
        code, text = answer(home, "n")
        assert code == 1 and "1 connection" in text and "Traceback" not in text
        assert embedded_cluster().process() is not None
    code, text = answer(home, "y")
    assert code == 0 and str(embedded_cluster().folder / "data.aside") in text
    server = await find_server()
    async with server.connection() as connection:
        assert not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", lesson.database)
    await (await open_lesson("02", "migrated")).close()


async def test_where_nobody_can_answer_it_does_nothing(home: Path) -> None:
    await find_server()
    done = run_course(home, "db", "renew", text="y\n")
    assert done.returncode == 1 and "course db renew --yes" in done.stderr
    assert not (embedded_cluster().folder / "data.aside").exists()


def test_it_leaves_a_server_alone_that_is_not_the_courses(your_server: YourServer, home: Path) -> None:
    done = run_course(home, "db", "renew", "--yes", DATABASE_URL=your_server.url())
    assert done.returncode == 1 and "does not renew it" in done.stderr and "unset DATABASE_URL" in done.stderr
    assert your_server.cluster.process() is not None


def frozen(cluster: Cluster) -> None:
    process = cluster.process()
    assert process is not None
    process.send_signal(signal.SIGSTOP)


def killed(cluster: Cluster) -> None:
    process = cluster.process()
    assert process is not None
    process.kill()


def unreadable(cluster: Cluster) -> None:
    cluster.stop()
    cluster.data.chmod(0)


def somebody_elses(cluster: Cluster) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    cluster.stop()
    os.chown(cluster.data, 1, 1)


def a_file(cluster: Cluster) -> None:
    cluster.stop()
    shutil.rmtree(cluster.data)
    cluster.data.write_text("no folder at all")


def never_made(cluster: Cluster) -> None:
    cluster.stop()
    shutil.rmtree(cluster.folder)


STATES = [frozen, killed, unreadable, somebody_elses, a_file, never_made]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.soak(after=2)
async def test_it_works_from_every_state(home: Path, state: Callable[[Cluster], None]) -> None:
    await find_server()
    state(embedded_cluster())
    done = CliRunner().invoke(app, ["db", "renew", "--yes"])
    assert done.exit_code == 0, done.output
    assert "new data" in done.output
    assert not (await find_server()).started
    await (await open_lesson("02", "migrated")).close()


async def test_on_a_full_disk_the_old_data_go_first(folder: Path) -> None:
    with small_disk(folder / "disk", 420) as disk, course_home(disk / "home") as home:
        await find_server()
        cluster = embedded_cluster()
        with psycopg.connect(cluster.address().dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
        fill(disk, leave=180)
        done = run_course(home, "db", "renew", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "to make room" in done.stdout and not (cluster.folder / "data.aside").exists()
        stop_embedded()
