"""Files and folders of the course are its owner's alone to write, whatever the umask, and only such are used."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from course_lib.cli import checks
from course_lib.errors import CourseError
from course_lib.postgres import find_server
from course_lib.postgres.server import embedded_cluster
from tests.postgres.places import cluster_in, run_python, stop_all_below

OPEN_WITH = """
import os; os.umask({umask})
import asyncio
from course_lib.postgres import find_server
print(asyncio.run(find_server()).started)
"""
SENTENCE = """
import asyncio
from course_lib.errors import CourseError
from course_lib.postgres import find_server
try:
    asyncio.run(find_server())
except CourseError as error:
    print(error)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")


def writable_by_others(folder: Path) -> list[str]:
    found = []
    for path in [folder, *folder.rglob("*")]:
        mode = path.lstat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
            found.append(str(path))
    return found


@pytest.mark.parametrize("umask", ["0o077", "0o002", "0o000"])
@pytest.mark.parametrize("who", ["root", "a user"])
@pytest.mark.soak(after=2)
def test_nobody_else_may_write_there_whatever_the_umask(
    folder: Path, umask: str, who: str, ordinary_user: list[str]
) -> None:
    folder.chmod(0o777)
    home = folder / "new" / "home"
    assert run_python(home, OPEN_WITH.format(umask=umask), ordinary_user if who == "a user" else None) == "True\n"
    assert writable_by_others(folder / "new") == []
    assert (home / "postgres-18" / "data").stat().st_mode & 0o777 == 0o700


async def test_a_folder_that_was_open_to_others_is_closed(home: Path) -> None:
    """As an earlier version left it under such a umask."""
    await find_server()
    cluster = embedded_cluster()
    cluster.stop()
    cluster.folder.chmod(0o777)
    assert (await find_server()).started
    assert writable_by_others(cluster.folder) == []


def test_a_home_that_everybody_may_write_to_is_refused(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    home.chmod(0o777)
    cluster = cluster_in(home)
    with pytest.raises(CourseError, match="Everybody may write") as caught:
        cluster.ensure_running()
    assert caught.value.mend.startswith(f"Run: chmod o-w '{home}'")
    subprocess.run(["chmod", "o-w", home], check=True)
    assert cluster.ensure_running(), "the mend mends it"


@pytest.mark.parametrize("mode", [0o700, 0o755])
@pytest.mark.soak(after=1)
def test_root_and_a_user_in_turn_on_one_home(folder: Path, ordinary_user: list[str], mode: int) -> None:
    folder.chmod(0o777)
    home = folder / "theirs"
    assert run_python(home, OPEN_WITH.format(umask="0o022"), ordinary_user) == "True\n"
    stop_all_below(folder)
    home.chmod(mode)
    said = run_python(home, SENTENCE)
    if mode == 0o755:
        assert f"The course's folder {home / 'postgres-18'} belongs to user nobody, and you are root." in said
        assert "Work as user nobody" in said
    else:
        assert "run the course as a normal user" in said
    assert run_python(home, OPEN_WITH.format(umask="0o022"), ordinary_user) == "True\n", "nothing of it was touched"
    stop_all_below(folder)


def test_a_user_on_the_home_of_root(folder: Path, ordinary_user: list[str]) -> None:
    home = folder / "mine"
    assert cluster_in(home).ensure_running()
    cluster_in(home).stop()
    assert "belongs to user root, and you are user nobody" in run_python(home, SENTENCE, ordinary_user)


@pytest.mark.parametrize("stranger", ["somebody's folder", "a link", "a file", "open to all"])
def test_a_folder_of_somebody_else_in_memory_is_not_used(
    folder: Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "SHARED_MEMORY", folder)
    usual = folder / f"databases-for-ai-engineers-tests-{os.getuid()}"
    assert checks._folder_in_memory() == usual == checks._folder_in_memory(), "its own is found again"
    usual.rmdir()
    target = folder / "target"
    target.mkdir(mode=0o755)
    if stranger == "a link":
        usual.symlink_to(target)
    elif stranger == "a file":
        usual.touch()
    else:
        usual.mkdir()
        usual.chmod(0o777 if stranger == "open to all" else 0o755)
        if stranger == "somebody's folder":
            if os.geteuid() != 0:
                pytest.skip("only root can make a folder of another user")
            os.chown(usual, 1, 1)
    other = checks._folder_in_memory()
    assert other != usual and other.parent == folder
    assert other.lstat().st_uid == os.getuid() and not writable_by_others(other)
    assert list(target.iterdir()) == []
