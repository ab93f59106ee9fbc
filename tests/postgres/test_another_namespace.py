"""Containers that share a home folder: a server that nobody here can see is left alone, a dead one is cleared away."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from course_lib.errors import CourseError
from course_lib.postgres import find_server, stop_embedded
from course_lib.settings import REPOSITORY
from tests.postgres.conftest import course_home
from tests.postgres.places import environment, run_course, wait_until

LIVE = """
import asyncio, sys
from course_lib.postgres import find_server
for line in sys.stdin:
    print(asyncio.run(find_server()).started, flush=True)
"""


def running() -> Iterator[psutil.Process]:
    return psutil.process_iter(["cmdline"])


class Container:
    """A Python process in a PID namespace of its own, which opens a lesson's server when told to."""

    def __init__(self, home: Path, private: Path | None = None) -> None:
        """
        Args:
            private: a folder on which the container has a disk of its own, its temp folder.
        """
        self.home, self.server = home, ""
        if sys.platform != "linux" or not shutil.which("unshare"):
            pytest.skip("only Linux has PID namespaces")
        if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], check=False).returncode:
            pytest.skip("namespaces are not permitted here")
        mount = f"mount -t tmpfs -o mode=1777 tmpfs '{private}' && " if private else ""
        more = {"TMPDIR": str(private)} if private else {}
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--mount",
             "sh", "-c", f'{mount}exec "$0" -c "$1"', sys.executable, LIVE],
            cwd=REPOSITORY, env=environment(home, **more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def starts_it(self) -> bool:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("open\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().strip()
        assert line in ("True", "False"), "the container's opening failed"
        if line == "True":
            self.server = f"-D {self.home}"
        return line == "True"

    def end(self) -> None:
        """Everything in a PID namespace is killed with its first process, the server too, which takes a moment."""
        self.process.kill()
        self.process.communicate()
        if self.server:
            wait_until(lambda: not any(self.server in " ".join(each.info["cmdline"] or ()) for each in running()))


@contextlib.contextmanager
def container(home: Path, private: Path | None = None) -> Iterator[Container]:
    started = Container(home, private)
    try:
        yield started
    finally:
        started.end()


@pytest.mark.parametrize("where", ["in the folder", "in a temp folder of the container's own"])
async def test_a_server_of_another_container_is_left_alone_while_it_lives(folder: Path, where: str) -> None:
    private = None if where == "in the folder" else folder / "tmp"
    home = folder / ("home" if private is None else "deep" * 30)
    if private is not None:
        private.mkdir()
    with course_home(home), container(home, private) as other:
        assert other.starts_it()
        data = home / "postgres-18" / "data"
        before = (data / "postmaster.pid").read_text(), sorted(path.name for path in (home / "postgres-18").iterdir())
        with pytest.raises(CourseError, match="of another container") as caught:
            await find_server()
        assert "COURSE_HOME" in caught.value.mend
        with pytest.raises(CourseError, match="of another container"):
            stop_embedded()
        assert "of another container" in run_course(home, "db", "renew", "--yes").stderr
        after = (data / "postmaster.pid").read_text(), sorted(path.name for path in (home / "postgres-18").iterdir())
        assert before == after
        assert not other.starts_it(), "its own openings find it as if nothing had been"
        other.end()
        assert (await find_server()).started, "once it is dead, its files are in nobody's way"
        stop_embedded()


def test_two_containers_side_by_side(folder: Path) -> None:
    home = folder / "home"
    with container(home) as first, container(home) as second:
        assert first.starts_it()
        assert second.process.stdin is not None and second.process.stdout is not None
        second.process.stdin.write("open\n")
        second.process.stdin.flush()
        assert second.process.stdout.readline() == "", "it ends with a sentence"
        assert not first.starts_it()
    with container(home) as third:
        assert third.starts_it()
