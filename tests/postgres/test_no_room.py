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
from tests.postgres.places import OPEN, count_databases, run_course, run_python, start_python, stop_all_below

FIND = "import asyncio; from course_lib.postgres import find_server; print(asyncio.run(find_server()).started)"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int, more: str = "mode=755") -> Iterator[Path]:
    """A disk of that size, mounted in ``folder``."""
    folder.mkdir()
    if os.name == "nt" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755,{more}", "tmpfs", folder],
        check=False,
        capture_output=True,
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
    ballast = disk / f"ballast{len(list(disk.iterdir()))}"
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
@pytest.mark.soak(after=1)
async def test_a_disk_that_fills_up_while_a_lesson_opens(folder: Path, room: int) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home"):
        await find_server()
        (embedded_cluster().folder / "reserve").unlink()  # another opening has needed it
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

            kept = (await ensure_template(server, connection, "kept", fingerprint(), nothing)).name
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
    said = run_python(theirs / "home", SENTENCE, ordinary_user)
    assert said.startswith(f"The course cannot write to {theirs / 'home' / 'postgres-18'}.\n  → Set COURSE_HOME")
    assert not list(theirs.iterdir())
    theirs.chmod(0o777)
    assert "ready" not in said and "lesson 02" in run_python(theirs / "home", OPEN, ordinary_user)


FILL = """
import asyncio, sys
from course_lib import open_lesson
async def fill():
    lesson = await open_lesson("02", "migrated")
    try:
        while True:
            await lesson.sql("CREATE TABLE IF NOT EXISTS large (filler text)")
            await lesson.sql("INSERT INTO large SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
    except Exception as error:
        print(type(error).__name__, flush=True)
async def again():
    lesson = await open_lesson("02", "migrated")
    print(*(await lesson.sql("SELECT count(*) FROM users")), flush=True)
asyncio.run(fill())
sys.stdin.readline()
asyncio.run(again())
"""


@pytest.mark.parametrize("server_killed", [False, True])
@pytest.mark.parametrize("kernel", ["killed", "the same"])
@pytest.mark.soak(after=1)
async def test_a_disk_that_a_learners_own_table_filled(folder: Path, kernel: str, server_killed: bool) -> None:
    """Only a running server can drop the database that fills the disk, and a server on a full disk does not start."""
    with small_disk(folder / "disk", 440) as disk, course_home(disk / "home") as home:
        learner = start_python(home, FILL)
        assert learner.stdout is not None
        assert "02" in learner.stdout.readline()
        assert "Error" in learner.stdout.readline()
        process = embedded_cluster().process()
        if server_killed and process is not None:
            process.kill()  # the worst case: it has to recover, for which it needs room
        if kernel == "killed":
            learner.kill()
            learner.wait()
            await (await open_lesson("02", "migrated")).close()
        else:
            out, err = learner.communicate("\n", timeout=60)
            assert out.splitlines()[-1] == "(0,)", out + err
        assert not (embedded_cluster().folder / "data.aside").exists()
        assert count_databases(embedded_cluster(), "lesson\\_%") == 0


async def test_a_disk_that_others_have_filled_is_said_with_numbers_and_where(folder: Path) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home"):
        await find_server()
        fill(disk, leave=2)
        lesson = await open_lesson("02", "migrated")  # in the room that was kept for this
        fill(disk, leave=2)
        with pytest.raises(CourseError, match=r"not enough room in .*postgres-18: \d+ MB are free, .* about \d+ MB"):
            await open_lesson("02")
        await lesson.close()


async def test_the_courses_own_old_things_go_before_anybody_is_told_of_a_full_disk(folder: Path) -> None:
    with small_disk(folder / "disk", 400) as disk, course_home(disk / "home") as home:
        await find_server()
        cluster = embedded_cluster()
        cluster.stop()
        assert (cluster.folder / "reserve").stat().st_size == room.RESERVE_BYTES
        for name in ("data.aside", "data.broken", "data.4194303"):
            (cluster.folder / name).mkdir()
            (cluster.folder / name / "old").write_bytes(bytes(2**20))
        (home / "postgresql-0.1").mkdir()
        fill(disk, leave=0)
        assert (await find_server()).started
        assert sorted(path.name for path in cluster.folder.glob("data*")) == ["data"]
        assert not (home / "postgresql-0.1").exists() and not (cluster.folder / "reserve").exists()


async def test_no_room_for_further_files_is_no_lack_of_bytes(folder: Path) -> None:
    with small_disk(folder / "disk", 1000, "nr_inodes=600") as disk, course_home(disk / "home") as home:
        with pytest.raises(CourseError, match="no room for further files") as caught:
            await find_server()
        assert "3,000" in caught.value.sentence and "another disk" in caught.value.mend
        said = run_course(home, "doctor").stdout
        assert "[FAIL] cache folder: There is no room for further files" in said
        remount(disk, "nr_inodes=9000")
        assert (await find_server()).started


def test_a_system_without_shared_memory_is_no_full_disk(folder: Path) -> None:
    """In a namespace of its own, where a limit of it can be lowered to nothing."""
    wrapped = ["unshare", "--ipc", "sh", "-c", 'echo 0 > /proc/sys/kernel/shmmni && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the limit cannot be lowered here")
    said = run_python(folder / "home", SENTENCE, wrapped)
    assert said.startswith("The system gives PostgreSQL no System V shared memory")
    assert "ipcs" in said and "room" not in said


SENTENCE = """
import asyncio
from course_lib.errors import CourseError
from course_lib.postgres import find_server
try:
    asyncio.run(find_server())
except CourseError as error:
    print(error)
"""
