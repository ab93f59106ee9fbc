"""A folder that cannot be written, or a disk that is full: one sentence, and after the mend everything works."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_lib.data.seed import fingerprint
from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import ensure_template, find_server, room
from course_lib.postgres.server import embedded_cluster
from tests.postgres.conftest import course_home
from tests.postgres.places import OPEN, run_python, stop_all_below

FIND = "import asyncio; from course_lib.postgres import find_server; print(asyncio.run(find_server()).started)"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size, mounted in ``folder``."""
    folder.mkdir()
    if os.name == "nt" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        stop_all_below(folder)
        subprocess.run(["umount", "-l", folder], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Use up the disk but for ``leave`` megabytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave * 2**20)
    return ballast


@pytest.mark.parametrize("below", ["", "deeper/down"])
async def test_a_file_in_the_place_of_the_folder(folder: Path, below: str) -> None:
    (folder / "home").write_text("mine")
    with course_home(folder / "home" / below):
        with pytest.raises(CourseError, match="a file is in its place") as caught:
            await find_server()
        assert "COURSE_HOME" in caught.value.mend
        assert (folder / "home").read_text() == "mine"
        (folder / "home").unlink()
        assert (await find_server()).started


async def test_a_read_only_disk(folder: Path) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home") as home:
        remount(disk, "ro")
        with pytest.raises(CourseError, match="cannot write to") as caught:
            await find_server()
        assert str(home) in caught.value.sentence and "COURSE_HOME" in caught.value.mend
        remount(disk, "rw")
        assert (await find_server()).started


async def test_a_disk_that_becomes_read_only_keeps_its_data(folder: Path) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home"):
        await find_server()
        cluster = embedded_cluster()
        identity = (cluster.data / "PG_VERSION").stat().st_ino
        cluster.stop()
        remount(disk, "ro")
        with pytest.raises(CourseError, match="cannot write to"):
            await find_server()
        with pytest.raises(CourseError, match="cannot write to"):
            cluster.stop()
        remount(disk, "rw")
        await find_server()
        assert (cluster.data / "PG_VERSION").stat().st_ino == identity, "nothing was made anew"


async def test_too_small_a_disk_is_told_before_anything_is_made(folder: Path) -> None:
    with small_disk(folder / "disk", 100) as disk, course_home(disk / "home"):
        with pytest.raises(CourseError, match="not enough room") as caught:
            await find_server()
        assert "about 300 MB" in caught.value.sentence
        assert [path.name for path in (disk / "home" / "postgres-18").iterdir()] == ["lock"]
        remount(disk, "size=400m")
        assert (await find_server()).started


async def test_a_disk_that_fills_up_during_initdb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FREE_BYTES", 0)  # as if the room went while initdb ran
    with small_disk(folder / "disk", 20) as disk, course_home(disk / "home"):
        with pytest.raises(CourseError, match="not enough room"):
            await find_server()
        assert not list((disk / "home" / "postgres-18").glob("data*")), "nothing half-made is left"
        remount(disk, "size=400m")
        assert (await find_server()).started


@pytest.mark.parametrize("room", [2, 11], ids=lambda room: f"{room} MB")
async def test_a_disk_that_fills_up_while_a_lesson_opens(folder: Path, room: int) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home"):
        await find_server()
        ballast = fill(disk, leave=room)
        try:
            await open_lesson("02")
        except CourseError as error:
            assert "disk" in str(error) or "room" in str(error), error
        else:
            pytest.fail(f"{room} MB were enough: leave less")
        ballast.unlink()
        lesson = await open_lesson("02")
        async with lesson.engine.connect() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar() == 8
            names = await connection.exec_driver_sql(
                "SELECT datname FROM pg_database WHERE datname LIKE 'course_build%'"
            )
            assert names.all() == [], "no unfinished build is left"
        await lesson.close()


async def test_a_full_disk_does_not_cost_a_server_its_data(folder: Path) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home"):
        server = await find_server()
        async with server.connection() as connection:

            async def nothing(url: object) -> None:
                return

            kept = await ensure_template(server, connection, "kept", fingerprint(), nothing)
            await connection.execute("CHECKPOINT")  # commits are asynchronous here: the last ones may be lost
        cluster = embedded_cluster()
        process = cluster.process()
        assert process is not None
        process.kill()
        process.wait(5)
        fill(disk, leave=0)
        server = await find_server()  # it starts on the room that was kept for this
        assert not (cluster.folder / "data.aside").exists()
        async with server.connection() as connection:
            assert await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", kept)


def test_a_folder_of_somebody_else(folder: Path, ordinary_user: list[str]) -> None:
    """As an ordinary user, since nothing is forbidden to root."""
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o755)
    code = """
import asyncio
from course_lib.errors import CourseError
from course_lib.postgres import find_server
try:
    asyncio.run(find_server())
except CourseError as error:
    print(error)
"""
    said = run_python(theirs / "home", code, ordinary_user)
    assert said.startswith(f"The course cannot write to {theirs / 'home' / 'postgres-18'}.\n  → Set COURSE_HOME")
    assert not list(theirs.iterdir())
    theirs.chmod(0o777)
    assert "ready" not in said and "lesson 02" in run_python(theirs / "home", OPEN, ordinary_user)
