"""An ordinary user, and two of them on one machine: each has a server that is nobody else's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.postgres.places import cluster_in, copy_of_installation, run_python, start_python, stop_all_below

TALK = """
import asyncio, os, sys, tempfile
from course_lib import open_lesson
from course_lib.postgres.server import embedded_cluster
async def main():
    lesson = await open_lesson("02", "migrated")
    lesson = await open_lesson("02", "migrated")
    async with lesson.session() as session:
        count = (await session.connection(), 1)[1]
    cluster = embedded_cluster()
    print(cluster.process().uids().real, cluster.address().host, flush=True)
    sys.stdin.readline()
    async with lesson.engine.connect() as connection:
        print((await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar(), flush=True)
    cluster.stop()
asyncio.run(main())
"""

KNOCK = """
import socket, sys
try:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sys.argv[1] + "/.s.PGSQL.5432")
    print("in")
except OSError as error:
    print(type(error).__name__)
"""


def knock(user: list[str], sockets: str) -> str:
    """Try to connect to a socket as an ordinary user, with the system's Python and no capabilities."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no Python that every user can run")
    bare = [part for part in user if "caps=" not in part]
    return subprocess.run([*bare, python, "-c", KNOCK, sockets], capture_output=True, text=True).stdout.strip()


def test_two_users_at_the_same_time(folder: Path, ordinary_user: list[str], another_user: list[str]) -> None:
    """They share the temp folder, where the sockets of long paths lie."""
    users = [ordinary_user, another_user]
    homes = [folder / name / ("deep" * 30) for name in ("nobody", "daemon")]
    for home in homes:
        home.parent.mkdir()
        home.parent.chmod(0o777)
    kernels = [start_python(home, TALK, user, USER="x") for home, user in zip(homes, users, strict=True)]
    told = []
    for kernel in kernels:
        assert kernel.stdout is not None
        lines = [kernel.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("PostgreSQL 18"), "".join(lines) + kernel.communicate()[1]
        told.append(lines[2].split(maxsplit=1))
    (first, first_sockets), (second, second_sockets) = told
    first_sockets, second_sockets = first_sockets.strip(), second_sockets.strip()
    assert first != second and "0" not in (first, second)
    assert first_sockets != second_sockets
    assert knock(ordinary_user, first_sockets) == "in", "the owner may"
    assert knock(another_user, first_sockets) == "PermissionError"
    assert knock(ordinary_user, second_sockets) == "PermissionError"
    for kernel in kernels:
        out, err = kernel.communicate("go on\n", timeout=30)
        assert kernel.returncode == 0 and out == "0\n", out + err


def test_nobody_else_reaches_the_server_that_root_started(folder: Path, ordinary_user: list[str]) -> None:
    home = folder / "home"
    cluster = cluster_in(home)
    cluster.ensure_running()
    assert knock(ordinary_user, cluster.address().host) == "PermissionError"
    process = cluster.process()
    assert process is not None and process.uids().real != 0
    stop_all_below(folder)


def test_programs_below_roots_home_are_copied_once(folder: Path, ordinary_user: list[str]) -> None:
    """As root, with the programs where the server's account cannot go: two processes start together."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    original = copy_of_installation(closed / "site-packages")
    code = f"""
import asyncio, pathlib
from course_lib.postgres import binaries, find_server
binaries.wheel_installation = lambda: pathlib.Path({str(original)!r})
print(asyncio.run(find_server()).describe())
"""
    home = folder / "home"
    kernels = [start_python(home, "import os; os.umask(0o077)\n" + code) for _ in range(2)]
    for kernel in kernels:
        out, err = kernel.communicate(timeout=60)
        assert out.startswith("PostgreSQL 18"), out + err
    assert len(list(home.glob("postgresql-*[0-9]"))) == 1 and not list(home.glob("*.partial"))


def test_an_ordinary_user_works_from_start_to_end(folder: Path, ordinary_user: list[str]) -> None:
    folder.chmod(0o777)
    home = folder / 'it\'s "theirs" ü'
    said = run_python(home, TALK.replace("sys.stdin.readline()", ""), ordinary_user)
    assert said.splitlines()[-1] == "0"
    assert not (home / "postgres-18" / "data" / "postmaster.pid").exists()
