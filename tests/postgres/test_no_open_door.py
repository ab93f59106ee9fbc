"""While something of the course listens, no other user of the machine gets in."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy import URL, create_engine, text

from course_lib.classroom.creating import Wishes, create_class
from course_lib.classroom.roster import Learner
from course_lib.classroom.server import class_cluster
from course_lib.data.fresh import FreshDatabase, fresh_database
from course_lib.data.fresh_server import fresh_server
from course_lib.db import make_engine
from course_lib.exercises.lesson_02.message_counts import MessageCounts
from course_lib.exercises.lesson_08.scenes.serving import serving
from course_lib.instruments import network_delay
from course_lib.instruments.network import Wire
from course_lib.instruments.network.door import PortDoor
from course_lib.instruments.network.proxy import Proxy
from course_lib.instruments.network.route import through_proxy, upstream_of
from course_lib.judging.attempt import Attempt
from course_lib.postgres.pgbouncer import pgbouncer, pgbouncer_is_installed
from course_lib.service.served import served
from course_lib.settings import get_settings
from tests.classroom.board.classes import TEACHER, WORD, make_class
from tests.postgres.places import YourServer, start_python, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")

LISTENS = 0x10000  # the flag in /proc/net/unix of a socket that waits for clients


@asynccontextmanager
async def judging(database: FreshDatabase) -> AsyncIterator[None]:
    """A check, whose answer is given the wire's address."""
    async with database.server.connection() as admin:
        attempt = Attempt(MessageCounts(), None, database, admin)
        async with attempt.engine.connect():
            yield
        await attempt.close()


@asynccontextmanager
async def serving_an_app(database: FreshDatabase) -> AsyncIterator[None]:
    """A check of lesson 08, whose app a uvicorn serves."""
    async with database.server.connection() as admin:
        attempt = Attempt(MessageCounts(), None, database, admin)
        async with serving(attempt, FastAPI()):
            yield
        await attempt.close()


@asynccontextmanager
async def wired(database: FreshDatabase) -> AsyncIterator[None]:
    wire = Wire.open(database.url)
    yield
    wire.close()


def synchronous(database: FreshDatabase) -> Any:
    return network_delay(create_engine(database.url.set(drivername="postgresql+psycopg")))


@asynccontextmanager
async def a_pair_of_servers(_: FreshDatabase) -> AsyncIterator[None]:
    """A primary and its standby, whose processes are nobody's children."""
    primary = await fresh_server("door", "empty")
    standby = await primary.standby("door_standby")
    servers = [server.cluster.process() for server in (primary, standby)]
    DETACHED.update(process for process in servers if process)
    yield
    DETACHED.clear()
    for server in (standby, primary):
        await server.remove()


DETACHED: set[psutil.Process] = set()
"""What this test has started, and whose parent it is not."""

EVERYTHING: dict[str, Callable[[FreshDatabase], AbstractAsyncContextManager[Any]]] = {
    "network_delay": lambda database: network_delay(make_engine(database.url)),
    "network_delay of a synchronous engine": synchronous,
    "a check": judging,
    "a check with an app": serving_an_app,
    "the wire": wired,
    "an app of lesson 08": lambda database: served(FastAPI()),
    "PgBouncer": lambda database: pgbouncer(database.server, database.name),
    "servers of a lesson": a_pair_of_servers,
}
"""Everything that listens for a lesson or a check. What comes later is one line more."""

CLIENT = """
import socket, sys
place = sys.argv[1]
try:
    if place.startswith("/"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(place)
    else:
        client = socket.create_connection(("127.0.0.1", int(place)), 10)
        client.settimeout(10)
        client.sendall(bytes.fromhex("0000000804d2162f"))  # PostgreSQL's question whether the server can encrypt
        print("answered" if client.recv(1) else "cut off")
except (ConnectionResetError, BrokenPipeError):
    print("cut off")
except OSError as error:
    print(type(error).__name__)
else:
    if place.startswith("/"):
        print("in")
"""


ORPHAN = ["/bin/sh", "-c", '(sleep 0.2; exec "$@") &', "sh"]
"""The start of a command line whose program is nobody's child, since its parent has ended."""


def knock(place: str, user: list[str]) -> str:
    """Try to get in at a socket's path or a port, with the system's Python and no capabilities."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no Python that every user can run")
    bare = [part for part in user if "caps=" not in part]
    return subprocess.run([*bare, python, "-c", CLIENT, place], capture_output=True, text=True).stdout.strip()


def our_processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True), *DETACHED]


def inodes(process: psutil.Process) -> Iterator[str]:
    """Of the sockets that a process has open."""
    with suppress(OSError):
        for handle in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                target = str(handle.readlink())
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]


def listening() -> set[str]:
    """Where this process and its children listen: ``port 5432``, a path, ``@name`` for an abstract Unix socket."""
    found, ours = set(), set()
    for process in our_processes():
        ours |= set(inodes(process))
        with suppress(psutil.Error):
            inet = process.net_connections("inet")
            found |= {f"port {c.laddr.port}" for c in inet if c.status == psutil.CONN_LISTEN}
            found |= {f"port {c.laddr.port}" for c in inet if c.type == socket.SOCK_DGRAM and not c.raddr}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
        if int(flags, 16) & LISTENS and inode in ours:
            found.add("".join(path) or "@ without a name")
    return found


@pytest.mark.parametrize("name", EVERYTHING)
async def test_what_listens_lies_where_nobody_else_can_go(name: str, another_user: list[str]) -> None:
    if name == "PgBouncer" and not pgbouncer_is_installed():
        pytest.skip("PgBouncer is not installed")
    before = listening()
    async with fresh_database("99") as database, EVERYTHING[name](database):
        places = listening() - before
        assert places, "something listens"
        for place in places:
            assert place.startswith("/"), "no port, and no name that every user can call"
            assert knock(place, another_user) == "PermissionError"
            assert knock(place, []) == "in", "its owner can"
    assert listening() == before


# -- the server of a class, which learners who are other users reach by a port --------------------------------

GREET = """
import socket, struct, sys
port, role = sys.argv[1:]
client = socket.create_connection(("127.0.0.1", int(port)), 10)
words = b"user\\0" + role.encode() + b"\\0database\\0postgres\\0\\0"
client.sendall(struct.pack("!ii", len(words) + 8, 196608) + words)
kind, _, number = struct.unpack("!cii", client.recv(9))
print(kind.decode(), number if kind == b"R" else "")
"""
"""PostgreSQL's answer to a greeting: ``R 0`` lets in, ``R 10`` asks for a password (SCRAM), ``E`` refuses."""


async def test_a_class_on_this_machine_asks_everybody_for_a_password(
    home: Path, another_user: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path))
    get_settings.cache_clear()
    class_cluster.cache_clear()
    created = await create_class([Learner("Ada", "ada")], Wishes("door"))
    cluster = class_cluster()
    try:
        process = cluster.process()
        assert process is not None
        DETACHED.add(process)
        port, sockets = f"port {created.address.port}", f"{cluster.address().host}/.s.PGSQL.{created.address.port}"
        assert {place for place in listening() if process_of(place, process)} == {port, sockets}
        assert knock(sockets, another_user) == "PermissionError"
        for user in ([], another_user):
            greeted = {role: greet(created.address.port, role, user) for role in ("door_ada", "nobody", "postgres")}
            assert greeted == {"door_ada": "R 10", "nobody": "R 10", "postgres": "E"}
        for place in (tmp_path / "classroom" / "door").rglob("*"):
            assert not place.stat().st_mode & 0o077
    finally:
        DETACHED.clear()
        cluster.stop()
        class_cluster.cache_clear()


def process_of(place: str, process: psutil.Process) -> bool:
    """Whether that process listens there."""
    inet = {f"port {c.laddr.port}" for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return place in inet or place in {c.laddr for c in process.net_connections("unix")}


def greet(port: int, role: str, user: list[str]) -> str:
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no Python that every user can run")
    bare = [part for part in user if "caps=" not in part]
    done = subprocess.run([*bare, python, "-c", GREET, str(port), role], capture_output=True, text=True)
    return done.stdout.strip()


# -- before a server on TCP, where drivers encrypt --------------------------------------------------------


@pytest.fixture
def tcp_proxy(seeded_url: URL) -> Iterator[Proxy]:
    proxy = Proxy(upstream_of(seeded_url), PortDoor())
    proxy.start()
    yield proxy
    proxy.stop()


async def test_a_port_lets_in_this_process_and_its_children_only(
    tcp_proxy: Proxy, seeded_url: URL, another_user: list[str]
) -> None:
    """The server behind it may know its clients by the connection alone; here it trusts whoever comes."""
    port, door = str(tcp_proxy.door.port), tcp_proxy.door
    assert knock(port, [*ORPHAN, *another_user]) == "cut off"
    assert knock(port, ORPHAN) == "cut off", "nor a program that only runs as the same user: a port may be passed on"
    assert (tcp_proxy.round_trips, tcp_proxy.turned_away) == (0, True)
    assert knock(port, []) == "answered", "a child"
    engine = make_engine(through_proxy(seeded_url, door.host, door.port))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()


# -- JupyterLab --------------------------------------------------------------------------------------------

LAB = "import sys; from course_lib.cli import main; sys.argv[1:] = ['lab', '--no-browser']; main()"


def address_of(lab: subprocess.Popen[str]) -> tuple[str, str]:
    """What ``course lab`` prints: where JupyterLab is, and its token."""
    assert lab.stdout is not None
    for line in lab.stdout:
        if found := re.search(r"(http://localhost:\d+)/.*\?token=(\w+)", line):
            return found[1], found[2]
    raise AssertionError("no address")


def test_the_token_and_the_kernels_of_course_lab_are_nobody_elses(folder: Path, another_user: list[str]) -> None:
    """In a home of a usual length, below which the path of a kernel's socket would be too long."""
    home, temp = folder / ("home-" + "of-somebody" * 4), folder / "temp"
    temp.mkdir()
    umask = os.umask(0)
    lab = start_python(home, LAB, COURSE_WORK=str(folder / "work"), TMPDIR=str(temp))
    os.umask(umask)
    try:
        where, token = address_of(lab)
        request = urllib.request.Request(f"{where}/api/kernels", b"{}", {"Authorization": f"token {token}"})
        assert urllib.request.urlopen(request, timeout=60).status == 201, "a kernel starts"
        (runtime,) = temp.glob("course-lab-*")
        assert {place.stat().st_mode & 0o777 for place in (runtime, home / "jupyter")} == {0o700}
        wait_until(lambda: len([path for path in runtime.iterdir() if path.is_socket()]) == 5)
        sockets = [str(path) for path in runtime.iterdir() if path.is_socket()]
        assert {knock(path, another_user) for path in sockets} == {"PermissionError"}
    finally:
        lab.send_signal(signal.SIGINT)
        lab.communicate(timeout=60)
    assert not runtime.exists()


# -- the hub of a class: tests/classroom/test_hub.py starts one and knocks at its ports from a learner's account ----

# -- the service -------------------------------------------------------------------------------------------

SERVE = "import sys; from course_lib.cli import main; sys.argv[1:] = ['serve', '--port', '8400']; main()"
BOARD = """
import sys
from course_lib.cli import main
sys.argv[1:] = ['classroom', 'board', '--name', 'friday', '--page', '--port', '8420']
main()
"""
ASK = """
import sys, urllib.error, urllib.request
for path in ("", "livez", "account", "openapi.json", "events", "?token=guessed"):
    request = urllib.request.Request(sys.argv[1] + path, headers={"Authorization": "Bearer ada-demonstration-key"})
    try:
        print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def test_course_serve_answers_nobody_who_has_not_its_address(another_user: list[str]) -> None:
    """Its port is one that every user can call."""
    assert_closed(start_python(get_settings().home, SERVE), another_user)


def test_the_board_of_a_class_answers_nobody_who_has_not_its_address(folder: Path, another_user: list[str]) -> None:
    """There are names of learners on it."""
    server = YourServer(folder / "class")
    server.execute("CREATE EXTENSION vector", database="template1")
    server.execute(f"CREATE ROLE {TEACHER} LOGIN CREATEROLE CREATEDB PASSWORD '{WORD}'")
    address = make_class(server, "friday").teachers_url()
    assert_closed(start_python(folder / "home", BOARD, DATABASE_URL=address), another_user)


def assert_closed(service: subprocess.Popen[str], another_user: list[str]) -> None:
    """What has printed its address lets in nobody who does not know it; then it is ended."""
    try:
        assert service.stdout is not None
        address = next(found[1] for line in service.stdout if (found := re.search(r"(http://\S+/)\?token=", line)))
        python = shutil.which("python3", path="/usr/bin:/bin")
        if python is None:
            pytest.skip("no Python that every user can run")
        asked = [*(part for part in another_user if "caps=" not in part), python, "-c", ASK, address]
        assert subprocess.run(asked, capture_output=True, text=True).stdout.split() == ["401"] * 6
    finally:
        service.send_signal(signal.SIGINT)
        service.communicate(timeout=60)
