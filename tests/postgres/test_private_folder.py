"""A folder for a socket is private wherever it is made, and nothing of it stays, however the program ends."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments import network_delay
from course_lib.instruments.network.door import JUST_MADE, PREFIX, SOCKET, SocketDoor
from course_lib.postgres.private_folder import new_private_folder
from course_lib.settings import get_settings
from tests.postgres.places import names_in, run_python, start_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no Unix sockets there")

LISTEN = """
import asyncio, os, pathlib, sys
from course_lib.instruments.network import door
door.SHARED_MEMORY = pathlib.Path("{place}")
door = door.SocketDoor()

async def main():
    await door.open(asyncio.Protocol)
    print(door.host, flush=True)
    {then}

asyncio.run(main())
"""


@pytest.fixture
def temp(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``temp(name)`` is a new folder of that name, and the folder for temporary files until the test ends."""

    def use(name: str) -> Path:
        place = folder / name
        place.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(place))
        monkeypatch.setattr("course_lib.instruments.network.door.SHARED_MEMORY", place)
        return place

    return use


def made() -> Path:
    folder = new_private_folder(PREFIX, SOCKET)
    folder.rmdir()
    return folder


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_it_is_private_whatever_the_umask(umask: int, temp: Callable[[str], Path]) -> None:
    place = temp("place")
    before = os.umask(umask)
    try:
        folder = new_private_folder(PREFIX, SOCKET)
    finally:
        os.umask(before)
    assert (folder.parent, stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (place, 0o700, os.geteuid())


def test_it_is_made_nowhere_where_somebody_else_could_put_another_in_its_place(temp: Callable[[str], Path]) -> None:
    place = temp("open to all")
    for mode, used in ((0o755, True), (0o777, False), (0o775, False), (0o1777, True)):
        place.chmod(mode)
        assert (made().parent == place) == used, oct(mode)
    inner = temp("open to all/mine")
    assert made().parent == inner
    place.chmod(0o777)
    assert made().parent != inner, "the folder above can be moved away"


def test_it_is_made_in_nobody_elses_folder(temp: Callable[[str], Path], another_user: list[str]) -> None:
    place = temp("theirs")
    os.chown(place, 1, 1)
    assert made().parent != place


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("it's \"a\" ü%41+ $x;#&?=@\\ ", True),
        ("a,b", False), ("a:b", False), ("two\nlines", False), ("no\udcffutf8", False), ("deep" * 25, False),
    ],
)  # fmt: skip
async def test_every_driver_finds_it_whatever_the_temp_folder_is_called(
    name: str, used: bool, driver: str, temp: Callable[[str], Path], seeded_url: URL
) -> None:
    place = temp(name)
    url = seeded_url.set(drivername=f"postgresql+{driver}")
    async with network_delay(make_engine(url) if driver == "asyncpg" else create_engine(url)) as network:
        folder = Path(str(network.engine.url.query["host"]))
        assert (folder.parent == place) == used
        # and by its spelling in one line, which SQLAlchemy quotes
        address = network.engine.url.render_as_string(hide_password=False)
        again = create_async_engine(address)
        async with again.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        await again.dispose()
    assert names_in(place) == []


def test_where_no_place_will_do_the_sentence_says_what_would(
    temp: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = temp("open to all")
    place.chmod(0o777)
    monkeypatch.setattr("course_lib.postgres.private_folder.Path", lambda path: place if path == "/tmp" else Path(path))
    monkeypatch.setenv("COURSE_HOME", str(place))
    get_settings.cache_clear()
    with pytest.raises(CourseError, match="no folder for temporary files") as caught:
        new_private_folder(PREFIX, SOCKET)
    get_settings.cache_clear()
    mine = temp("mine")  # the mend
    assert "TMPDIR" in str(caught.value.mend) and made().parent == mine


@pytest.mark.parametrize(
    "then",
    ["", "sys.exit(3)", "1 / 0", "os.fork() or sys.exit()", "globals().update(door=None)"],
    ids=["its loop is closed", "it exits", "it raises", "a fork of it exits", "it forgets the door"],
)
@pytest.mark.soak(after=2)
def test_nothing_stays_of_a_program_that_ends_with_the_door_open(then: str) -> None:
    process = start_python(None, LISTEN.format(place="/tmp", then=then))
    folder = Path(process.communicate(timeout=30)[0].split("\n")[0])
    assert folder.name.startswith(PREFIX) and not folder.exists()


def test_a_fork_that_ends_leaves_its_parent_the_folder() -> None:
    then = "child = os.fork()\n    child or sys.exit()\n    os.waitpid(child, 0)\n    print(os.path.exists(door.host))"
    assert run_python(None, LISTEN.format(place="/tmp", then=then)).split()[-1] == "True"


def aged(folder: Path) -> Path:
    then = time.time() - JUST_MADE - 1
    os.utime(folder, (then, then))
    return folder


async def test_what_a_killed_program_left_goes_with_the_next_door(temp: Callable[[str], Path]) -> None:
    place = temp("place")
    programs = [start_python(None, LISTEN.format(place=place, then="sys.stdin.read()")) for _ in range(2)]
    killed, alive = (aged(Path(program.stdout.readline().strip())) for program in programs if program.stdout)
    programs[0].kill()
    programs[0].wait()
    assert killed.parent == place and names_in(killed) == [SOCKET]
    door = SocketDoor()
    server = await door.open(asyncio.Protocol)
    assert not killed.exists() and alive.exists()
    server.close()
    door.close()
    programs[1].communicate("")
    assert names_in(place) == []


async def test_what_is_not_ours_or_holds_something_else_stays(temp: Callable[[str], Path]) -> None:
    place = temp("place")
    open_to_all, full, young, link = (place / f"{PREFIX}{name}" for name in ("open", "full", "young", "link"))
    for folder, mode in ((open_to_all, 0o755), (full, 0o700), (young, 0o700)):
        folder.mkdir(mode=mode)
    (full / "notes").touch()
    for folder in (open_to_all, full):
        aged(folder)
    link.symlink_to(full)
    expected = names_in(place)
    if os.geteuid() == 0:
        theirs = place / f"{PREFIX}theirs"
        theirs.mkdir(mode=0o700)
        os.chown(theirs, 1, 1)
        aged(theirs)
        expected = names_in(place)
    door = SocketDoor()
    (await door.open(asyncio.Protocol)).close()
    door.close()
    assert names_in(place) == expected and names_in(full) == ["notes"]
