"""Fixtures for the tests of the disposable server: a course folder of their own, and servers stopped behind them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import course_lib.lesson
import course_lib.postgres.server
from course_lib.cli.checks import ROOM
from course_lib.postgres.binaries import wheel_installation
from course_lib.postgres.configuration import SHARED_MEMORY
from course_lib.settings import get_settings
from tests.postgres.places import YourServer, cluster_in, copy_of_installation, stop_all_below


def _place() -> str | None:
    """Memory, where programs may run in it: a server's 1,500 files take ten times as long to copy on ext4."""
    if os.name == "nt":
        return None
    memory = SHARED_MEMORY.exists() and shutil.disk_usage(SHARED_MEMORY).free > ROOM
    return str(SHARED_MEMORY) if memory and not os.statvfs(SHARED_MEMORY).f_flag & os.ST_NOEXEC else "/tmp"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that any account can enter: pytest's own lie below one for root only, and the server is not root."""
    place = _place()  # one length wherever it is: tests of long paths count its letters
    prefix = "courses-" if place == str(SHARED_MEMORY) else "course-test-"
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place)).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        stop_all_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def course_home(home: Path) -> Iterator[Path]:
    """Let this process's course live in ``home``, with the embedded server and no watchdog."""
    forget = [get_settings, course_lib.postgres.server.embedded_cluster]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_HOME", str(home))
        for name in [name for name in os.environ if name.startswith("PG")] + ["DATABASE_URL"]:
            patch.delenv(name, raising=False)
        patch.setattr(course_lib.postgres.server, "watch", lambda cluster, hours, started=False: None)
        for cached in forget:
            cached.cache_clear()
        course_lib.postgres.server.forget_checked()
        try:
            yield home
        finally:
            course_lib.lesson._open.clear()
    for cached in forget:
        cached.cache_clear()


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder; servers below it are stopped when the test ends."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """The same for all tests of a module."""
    with temporary_folder() as path:
        yield path


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    """A course folder in which nothing has been started yet."""
    with course_home(folder / "home") as path:
        yield path


@pytest.fixture
def used_home(folder: Path, used_data: Path) -> Iterator[Path]:
    """A course folder with a copy of the data of a server that was used, in a tenth of the time of new ones."""
    with course_home(folder / "home") as path:
        shutil.copytree(used_data, cluster_in(path).data)
        yield path


@pytest.fixture
def shared_home(shared_folder: Path, used_data: Path) -> Iterator[Path]:
    """Another whose server outlives the test, for tests that leave it as they found it."""
    with course_home(shared_folder / "home") as path:
        if not path.exists():
            shutil.copytree(used_data, cluster_in(path).data)
        yield path


@pytest.fixture(scope="module")
def your_server(shared_folder: Path) -> YourServer:
    """Somebody's PostgreSQL 18 with pgvector, with a shop's orders on it."""
    server = YourServer(shared_folder / "yours")
    server.execute("CREATE DATABASE shop")
    server.execute(
        "CREATE TABLE orders (id int, what text)", "INSERT INTO orders VALUES (1, 'tea'), (2, 'cups')", database="shop"
    )
    return server


@pytest.fixture
def installation(folder: Path) -> Path:
    """A copy of the PostgreSQL programs that the test may change."""
    return copy_of_installation(folder / "programs", wheel_installation())


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[object]:
    """``point_at(url)`` sets DATABASE_URL for this process."""

    def set_url(url: str) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        get_settings.cache_clear()

    yield set_url
    get_settings.cache_clear()


def as_user(uid: str) -> list[str]:
    """The start of a command line that runs a program as another user, who may read everything but write nothing."""
    if os.name == "nt" or os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to become an ordinary user")
    capability = "+dac_read_search"  # Python itself may lie below root's home
    return ["setpriv", f"--reuid={uid}", "--regid=nogroup", "--clear-groups",
            f"--inh-caps={capability}", f"--ambient-caps={capability}"]  # fmt: skip


@pytest.fixture
def ordinary_user() -> list[str]:
    return as_user("nobody")


@pytest.fixture
def another_user() -> list[str]:
    return as_user("daemon")
