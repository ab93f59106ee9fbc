"""A class behind JupyterHub: two learners log in, work on their own databases, and do not reach each other's.

systemd does not run the machines of CI, so what it does is not tested here: limits of memory and processes, a temporary
folder for each, a disk that can only be read. As root, each server runs under an account of its own all the same; else
all run as the account of the test, and what needs accounts is skipped.
"""

from __future__ import annotations

import asyncio
import csv
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
import pytest
import pytest_asyncio

pytest.importorskip("jupyterhub", reason="the extra hub is not installed: make hub")

import tests.classroom.hub_alone  # noqa: F401 (for what it does)
from course_lib.notebooks.reading import digest
from course_lib.settings import REPOSITORY
from tests.classroom.accounts import accounts_can_be_had, python_is_everybodys
from tests.classroom.hubs import Browser, Kernel, RunningHub
from tests.postgres.places import YourServer, free_port, has_ended, run_course, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the hub's configuration is for Linux"),
    pytest.mark.asyncio(loop_scope="module"),
]
SECOND_CULLER = """
c.JupyterHub.services.append({"name": "hurried", "api_token": "%s"})
c.JupyterHub.load_roles[0]["services"].append("hurried")
"""
ACCOUNTS = """
import sys
sys.path.insert(0, %r)
c.JupyterHub.spawner_class = "tests.classroom.accounts.OwnAccount"
c.OwnAccount.home_dir_template = %r
"""
TEMPORARY = "c.Spawner.environment['TMPDIR'] = %r\n"
SAME_ACCOUNT = "import os\nc.Spawner.environment['PYTHONPATH'] = os.environ['PYTHONPATH']\n"
TOKEN = "0123456789abcdef0123456789abcdef"


class Class(NamedTuple):
    hub: RunningHub
    learners: dict[str, dict[str, str]]
    homes: Path


@pytest.fixture(scope="module")
def a_class(shared_folder: Path) -> Iterator[Class]:
    """A server, the class ``lab`` of Ada and Bruno on it, and their hub."""
    server = YourServer(shared_folder / "server")
    server.execute("CREATE EXTENSION vector", database="template1")
    roster, work, folder, port = (
        shared_folder / "roster.csv",
        shared_folder / "work",
        shared_folder / "hub",
        free_port(),
    )
    roster.write_text("Ada\nBruno\n")
    teacher = {"DATABASE_URL": server.url(), "COURSE_WORK": str(work)}
    for words in (["create", str(roster)], ["hub", "--to", str(folder), "--trial", "--port", str(port)]):
        done = run_course(shared_folder / "home", "classroom", *words, "--name", "lab", **teacher)
        assert done.returncode == 0, done.stdout + done.stderr
    homes = folder / "homes"
    temporary = shared_folder / "t"  # of a short name: sockets of kernels lie in it
    temporary.mkdir()
    temporary.chmod(0o1777)
    own = SAME_ACCOUNT
    if accounts_can_be_had():
        homes = shared_folder / "homes"
        homes.mkdir(mode=0o755)
        own = ACCOUNTS % (str(REPOSITORY), f"{homes}/{{username}}")
    (folder / "own.py").write_text(own + TEMPORARY % str(temporary) + SECOND_CULLER % TOKEN)
    with (folder / "learners.csv").open() as file:
        learners = {row["login"]: row for row in csv.DictReader(file)}
    hub = RunningHub(folder, port)
    try:
        yield Class(hub, learners, homes)
    finally:
        hub.end()


class Seat(NamedTuple):
    browser: Browser
    kernel: Kernel
    page: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seats(a_class: Class) -> AsyncIterator[dict[str, Seat]]:
    """Ada and Bruno, each before a kernel."""

    async def sit_down(learner: dict[str, str]) -> Seat:
        browser = Browser(a_class.hub)
        await browser.log_in(learner["login"], learner["password"])
        page = await browser.sit_down(learner["role"])
        return Seat(browser, await browser.kernel(), page)

    both = await asyncio.gather(*map(sit_down, a_class.learners.values()))
    found = dict(zip(a_class.learners, both, strict=True))
    a_class.hub.processes()
    yield found
    for seat in found.values():
        await seat.browser.client.aclose()


@pytest.mark.parametrize(("name", "password_of"), [("ada", "bruno"), ("lab_ada", "bruno"), ("nobody", "ada")])
async def test_only_the_password_of_the_sheet_lets_a_learner_in(a_class: Class, name: str, password_of: str) -> None:
    page = await Browser(a_class.hub).log_in(name, a_class.learners[password_of]["password"])
    assert page.status_code == 403 and "Invalid username or password" in page.text


async def test_learners_land_in_lesson_00_on_a_copy_of_their_own(seats: dict[str, Seat]) -> None:
    for login, seat in seats.items():
        assert seat.page == f"/user/lab_{login}/lab/tree/00_start_here.ipynb"
        lesson = (await seat.browser.ask("GET", "contents/00_start_here.ipynb")).json()
        assert lesson["writable"] and len(lesson["content"]["cells"]) > 20


async def test_kernels_run_lesson_00_on_their_own_databases(a_class: Class, seats: dict[str, Seat]) -> None:
    lesson = nbformat.read(REPOSITORY / "notebooks" / "00_start_here.ipynb", as_version=4)
    cells = [cell.source for cell in lesson.cells if cell.cell_type == "code"]
    for login, seat in seats.items():
        said = [await seat.kernel.run(cell) for cell in cells[:5]]
        assert "your server" in said[0] and "a fresh database for lesson 00" in said[0]
        assert "Bruno Castellani" in said[1] and "40" in said[3] and "Goran Vukelic" in said[4]
        asked = "for row in await lesson.sql('SELECT current_user, pg_get_userbyid(datdba) FROM pg_database "
        asked += "WHERE datname = current_database()'): print(*row)"
        assert await seat.kernel.run(asked) == f"lab_{login} lab_{login}"
        told = "import os; print(os.environ['DATABASE_URL'], os.environ['COURSE_CLASS'], os.environ['COURSE_WORK'])"
        assert await seat.kernel.run(told) == f"{a_class.learners[login]['url']} lab ~/work"


REACH = """
import os, psycopg
for name in NAMES:
    try:
        psycopg.connect(os.environ["DATABASE_URL"].rpartition("/")[0] + "/" + name)
        print("in")
    except psycopg.OperationalError as error:
        print("refused" if "permission denied for database" in str(error) else error)
"""


async def test_a_kernel_does_not_reach_the_others_databases(seats: dict[str, Seat]) -> None:
    lesson = await seats["bruno"].kernel.run("print(lesson.url.database)")
    names = ["lab_bruno", lesson]
    assert await seats["ada"].kernel.run(f"NAMES = {names}\n{REACH}") == "refused\nrefused"
    assert await seats["bruno"].kernel.run(f"NAMES = {names}\n{REACH}") == "in\nin"


READ = """
from pathlib import Path
for place in PLACES:
    try:
        print("read", len(Path(place).read_bytes()) if Path(place).is_file() else len(list(Path(place).iterdir())))
    except OSError as error:
        print(type(error).__name__)
"""


needs_accounts = pytest.mark.skipif(not accounts_can_be_had(), reason="needs root and setpriv, for other accounts")


@needs_accounts
async def test_a_kernel_does_not_read_the_others_environment(a_class: Class, seats: dict[str, Seat]) -> None:
    """As the same account, as with ``--trial``, it can: the address of the other's database stands in it."""
    pids = await seats["bruno"].kernel.run("import os; print(os.getpid(), os.getppid())")
    code = f"PLACES = {[f'/proc/{pid}/environ' for pid in pids.split()]}\n{READ}"
    assert await seats["ada"].kernel.run(code) == "PermissionError\nPermissionError"
    assert (await seats["bruno"].kernel.run(code)).count("read") == 2


@needs_accounts
async def test_a_kernel_does_not_read_the_others_files_nor_the_hubs(a_class: Class, seats: dict[str, Seat]) -> None:
    home, hub = a_class.homes / "lab_bruno", a_class.hub.folder
    for folder in (home, hub):
        assert folder.stat().st_mode & 0o077 == 0
    assert home.stat().st_uid not in (0, (a_class.homes / "lab_ada").stat().st_uid)
    if not python_is_everybodys():
        pytest.skip("Python lies where only root can go, so the accounts here may read all files")
    code = f"PLACES = {[str(home / 'work'), str(hub), str(hub / 'learners.csv')]}\n{READ}"
    assert set((await seats["ada"].kernel.run(code)).split("\n")) == {"PermissionError"}


async def test_the_others_server_and_the_hubs_own_ports_open_to_no_learner(
    a_class: Class, seats: dict[str, Seat]
) -> None:
    client = seats["ada"].browser.client
    assert (await client.get("/user/lab_bruno/api/contents")).status_code == 403
    assert (await client.get("/hub/api/users")).status_code == 403
    port = a_class.hub.port
    code = f"""
import urllib.request, urllib.error
for address in ("{port + 1}/api/rawdata", "{port + 2}/hub/api/users", "{port + 2}/hub/api/users/lab_bruno"):
    try:
        print(urllib.request.urlopen("http://127.0.0.1:" + address, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
    assert await seats["ada"].kernel.run(code) == "401\n403\n403"


async def test_all_listen_on_loopback_alone_and_kernels_speak_where_no_other_account_can_go(
    a_class: Class, seats: dict[str, Seat]
) -> None:
    """On ports, what a kernel prints could be read by every account of the machine.

    ipykernel has one port all the same, to which its children send what they print (``iostream.py``); it takes only
    what begins with its secret, and tells nothing.
    """
    kernels = 0
    for process in a_class.hub.processes():
        ports = [connection.laddr for connection in process.net_connections() if connection.status == "LISTEN"]
        assert {port.ip for port in ports} <= {"127.0.0.1"}
        if "ipykernel_launcher" in process.cmdline():
            kernels += 1
            assert len(ports) == 1
            sockets = {Path(connection.laddr) for connection in process.net_connections("unix") if connection.laddr}
            channels = [path for path in sockets if re.fullmatch(r"kernel-.*-ipc-\d", path.name)]
            assert len(channels) == 5
            assert {path.parent.stat().st_mode & 0o777 for path in channels} == {0o700}
    assert kernels == 2


async def test_what_a_learner_writes_is_kept_and_an_idle_server_ends(a_class: Class, seats: dict[str, Seat]) -> None:
    note = {"type": "file", "format": "text", "content": "mine"}
    assert (await seats["ada"].browser.ask("PUT", "contents/note.txt", note)).status_code == 201
    servers = [process for process in a_class.hub.processes() if "jupyterhub.singleuser" in " ".join(told(process))]
    assert len(servers) == 2
    with a_class.hub.hurried_culler(TOKEN):
        wait_until(lambda: all(map(has_ended, servers)), 60)
    assert (a_class.homes / "lab_ada" / "work" / "note.txt").read_text() == "mine"
    assert digest(a_class.homes / "lab_ada" / "work" / "00_start_here.ipynb"), "and the lessons"


def told(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def test_the_hub_ends_with_all_that_it_started(a_class: Class, seats: dict[str, Seat]) -> None:
    """The last test."""
    assert "GET /hub/api/users" in a_class.hub.log.read_text(), "the culler of the configuration asks, too"
    everything = a_class.hub.processes()
    assert len(everything) > 6
    wait_until(lambda: not a_class.hub.end(), 30)
    assert all(map(has_ended, everything))
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in a_class.hub.folder.iterdir() if path.is_file()}
    assert {modes[name] for name in ("learners.csv", "jupyterhub_cookie_secret", "jupyterhub.sqlite")} == {"0o600"}
    logged = a_class.hub.log.read_text()
    assert not any(learner["password"] in logged for learner in a_class.learners.values()), "no secret in the log"
