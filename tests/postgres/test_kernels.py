"""Real Jupyter kernels: each has its own database, and none is left behind, however the kernel ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import databases, drop, find_server, list_databases, lives, sweep
from course_lib.postgres.binaries import server_account
from course_lib.postgres.databases import BIRTHMARK
from course_lib.postgres.files import make_folder
from course_lib.postgres.marks import Mark
from course_lib.postgres.server import embedded_cluster
from tests.kernels import Kernel
from tests.postgres.places import cluster_in, count_databases, dead_process, run_python, wait_until

OPEN_IN_CELL = (
    "from course_lib import open_lesson\nlesson = await open_lesson('02', 'migrated')\nprint(lesson.database)"
)


@pytest.fixture
def kernel(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Kernel]]:
    """``kernel()`` starts one."""
    kernels: list[Kernel] = []

    def start() -> Kernel:
        kernels.append(Kernel(shared_home))
        return kernels[-1]

    yield start
    for each in kernels:
        each.end()


def test_two_kernels_on_one_lesson_do_not_meet_and_a_proper_end_drops_the_database(
    shared_home: Path, kernel: Callable[[], Kernel]
) -> None:
    first, second = kernel(), kernel()
    mine, theirs = first.run(OPEN_IN_CELL), second.run(OPEN_IN_CELL)
    assert mine != theirs and mine.startswith("lesson_02_") and theirs.startswith("lesson_02_")
    write = "async with lesson.engine.begin() as c: await c.exec_driver_sql('CREATE TABLE note (line text)')"
    look = (
        "async with lesson.engine.connect() as c:\n"
        "    print((await c.exec_driver_sql(\"SELECT to_regclass('note')\")).scalar())"
    )
    first.run(write)
    assert (first.run(look), second.run(look)) == ("note", "None")
    again = first.run(OPEN_IN_CELL)
    assert again not in (mine, theirs)
    assert (first.run(look), second.run(look)) == ("None", "None")
    cluster = cluster_in(shared_home)
    assert count_databases(cluster, mine) == 0, "opening again has dropped the earlier one"
    first.manager.shutdown_kernel()
    wait_until(lambda: count_databases(cluster, again) == 0)
    assert count_databases(cluster, theirs) == 1
    second.run(look)


async def test_a_killed_kernels_database_is_gone_after_the_next_opening(
    shared_home: Path, kernel: Callable[[], Kernel]
) -> None:
    doomed = kernel()
    database = doomed.run(OPEN_IN_CELL)
    os.kill(doomed.pid, signal.SIGKILL)
    wait_until(lambda: not doomed.manager.is_alive())
    cluster = cluster_in(shared_home)
    assert count_databases(cluster, database) == 1, "nothing in a killed kernel can clean up"
    lesson = await open_lesson("03", "migrated")
    assert count_databases(cluster, database) == 0
    await lesson.close()


@pytest.mark.parametrize("maker", ["dead", "living", "dead, of another folder"])
async def test_a_kernel_killed_between_create_and_comment(
    shared_home: Path, monkeypatch: pytest.MonkeyPatch, maker: str
) -> None:
    server = await find_server()
    pid, life = os.getpid(), lives.own_life()
    if maker != "living":
        gone = dead_process(shared_home)
        pid, life = gone.pid, gone.life
    if "another" in maker:
        life = "ffffffff" if life[:4] != "ffff" else "00000000"
    name = f"lesson_04_{pid}_{life[:4]}0000"

    async def killed(*_: object) -> None:
        return

    async with server.connection() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(databases, "_let_its_owner_in", killed)
            await databases.create(connection, name, "template0", Mark.of_this_process("lesson", "04"))
        query = "SELECT datconnlimit, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1"
        assert tuple(await connection.fetchrow(query, name)) == (BIRTHMARK, None)
        assert (name in await sweep(connection)) is (maker == "dead")
        assert (name in [database.name for database in await list_databases(connection)]) is (maker != "dead")
        await drop(connection, name)


async def test_a_maker_that_nobody_knows_is_dead_on_the_embedded_server_only(shared_home: Path) -> None:
    """All who use the embedded server have a file in its folder, which a loss of power may have taken."""
    server = await find_server()
    unknown = Mark("lesson", "05", "somewhere", 4194303, "0123abcd")
    name = "lesson_05_4194303_0123abcd"
    async with server.connection() as connection:
        await databases.create(connection, name, "template0", unknown)
        assert name not in await sweep(connection)
        assert name in await sweep(connection, embedded=True)


def test_a_new_process_with_a_dead_kernels_number_does_not_keep_its_database(shared_home: Path) -> None:
    """Process ids come round again, and in another container they mean another process."""
    gone = dead_process(shared_home)
    assert gone.maker_ended() is True
    assert Mark.of_this_process("lesson", "05").maker_ended() is False
    assert Mark("lesson", "05", gone.host, os.getpid(), gone.life).maker_ended() is None


def test_a_fork_is_a_process_of_its_own(shared_home: Path) -> None:
    code = """
import os
from course_lib.postgres.binaries import server_account
from course_lib.postgres.files import make_folder
from course_lib.postgres.marks import Mark
from course_lib.postgres.server import embedded_cluster
parent = Mark.of_this_process("lesson", "02")
reading, writing = os.pipe()
if os.fork() == 0:
    own = Mark.of_this_process("lesson", "02")
    os.write(writing, f"{own.life != parent.life} {own.maker_ended()} {parent.maker_ended()}".encode())
    os._exit(0)
os.wait()
print(os.read(reading, 100).decode(), parent.maker_ended())
"""
    assert run_python(shared_home, code).split() == ["True", "False", "False", "False"]


async def test_another_host_name_changes_nothing(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop in another network, a container that was made again on the same volume."""
    server = await find_server()
    gone = dead_process(shared_home)
    name = f"lesson_05_{gone.pid}_{gone.life[:4]}0000"
    async with server.connection() as connection:
        await databases.create(connection, name, "template0", gone)
        monkeypatch.setattr("socket.gethostname", lambda: "renamed")
        assert name in await sweep(connection)


async def test_a_database_that_was_renamed_is_kept_and_said_so(
    shared_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await find_server()
    gone = dead_process(shared_home)
    async with server.connection() as connection:
        await databases.create(connection, f"lesson_05_{gone.pid}_{gone.life[:4]}0000", "template0", gone)
        await connection.execute(f"ALTER DATABASE lesson_05_{gone.pid}_{gone.life[:4]}0000 RENAME TO my_notes")
        for said in ("my_notes is yours now", ""):
            assert await sweep(connection, embedded=True) == []
            printed = capsys.readouterr().out
            assert said in printed and bool(said) == bool(printed)
        (kept,) = [database for database in await list_databases(connection) if database.name == "my_notes"]
        assert kept.mark and kept.mark.kind == "kept"
        with pytest.raises(CourseError, match="leaves it alone"):
            await drop(connection, "my_notes")
        await connection.execute("DROP DATABASE my_notes")


LOST = [
    OPEN_IN_CELL,
    """
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
own, sync = create_async_engine(lesson.url), create_engine(lesson.sync_url)
async with lesson.session() as session, own.connect() as connection:
    await session.execute(text("SELECT 1"))
    await connection.execute(text("SELECT 1"))
with sync.connect() as connection:
    connection.execute(text("SELECT 1"))
""",
    """
from course_lib.postgres.server import embedded_cluster
server = embedded_cluster().process()
server.kill()
_ = server.wait(5)
""",
    "async with lesson.session() as session: await session.execute(text('SELECT 1'))",
    "async with own.connect() as connection: await connection.execute(text('SELECT 1'))",
    "with sync.connect() as connection: connection.execute(text('SELECT 1'))",
    "async with create_async_engine(lesson.url).connect() as connection: pass",
    OPEN_IN_CELL.strip() + "\nown_again = create_async_engine(lesson.url)",
    "async with own_again.connect() as connection: print((await connection.execute(text('SELECT 6 * 7'))).scalar())",
]


def test_a_notebook_whose_server_is_killed_shows_one_sentence_and_the_first_cell_mends_it(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(folder / "jupyter"))
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in LOST]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
    for cell in (*cells[:3], *cells[7:]):
        assert not [output for output in cell.outputs if output.output_type == "error"], cell
    for cell in cells[3:7]:
        (error,) = [output for output in cell.outputs if output.output_type == "error"]
        assert error.ename == "CourseError"
        assert error.traceback == [
            "The course's PostgreSQL has stopped, and the databases of open notebooks with it.",
            "  → Run the notebook's first cell again: it starts the server and gives you a fresh database.",
        ]
    assert cells[8].outputs[0].text == "42\n"


@pytest.mark.parametrize("place", ["everybody's", "somebody else's"])
def test_files_that_others_could_remove_say_nothing_about_a_process(home: Path, place: str) -> None:
    """Whoever could take a living kernel's file away could have its database dropped."""
    kernels = embedded_cluster().folder / "kernels"
    make_folder(kernels, server_account())
    kernels.chmod(0o777)
    if place == "somebody else's":
        if os.geteuid() != 0:
            pytest.skip("only root can make a folder of another user")
        os.chown(kernels, 1, 1)
    mark = Mark.of_this_process("lesson", "02")
    if place == "everybody's":
        assert not kernels.stat().st_mode & 0o022, "it is ours, so nobody else may write to it from now on"
        assert mark.maker_ended() is False
    else:
        assert list(kernels.iterdir()) == []
        assert mark.maker_ended() is False, "without a file of its own a process is never taken for dead"
        (kernels / f"{mark.pid}-0123abcd.lock").touch()  # which nobody holds, and somebody else has laid
        assert replace(mark, life="0123abcd").maker_ended() is None
