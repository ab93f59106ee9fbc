"""``course test``, ``lint`` and ``notebooks``: what authors and CI run."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import typer

from course_lib.cli.lab import jupyter_environment, leave_as_found
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.notebooks import execute
from course_lib.postgres import find_server
from course_lib.postgres.configuration import SHARED_MEMORY
from course_lib.postgres.files import OTHERS_MAY_WRITE
from course_lib.postgres.server import running_server, stop_embedded
from course_lib.postgres.watchdog import is_used
from course_lib.settings import REPOSITORY, get_settings

LINTERS = ("ruff", "mypy")
LEVELS = ("junior", "mid", "senior")
MYPY = [sys.executable, "-m", "mypy"]
TESTERS = ("libcst", "check_jsonschema", "schemathesis", "playwright")
ROOM = 4 * 2**30  # bytes in memory; the tests' server takes a tenth of it, and its log may grow to a half


def run_lint() -> int:
    """Ruff over code and notebooks, then mypy. Returns the first exit code that is not 0.

    Raises:
        CourseError: they are not installed.
    """
    _require(LINTERS, "lint")
    return _run_ruff() or subprocess.run(MYPY, cwd=REPOSITORY, check=False).returncode


def _run_ruff() -> int:
    for arguments in (["ruff", "check"], ["ruff", "format", "--check"]):
        code = subprocess.run([sys.executable, "-m", *arguments], cwd=REPOSITORY, check=False).returncode
        if code:
            return code
    return 0


def run_checks(arguments: list[str]) -> int:
    """Lint, then pytest with nbval, a process for each core and four at least; ``arguments`` go to pytest.

    Mypy is at work beside the tests, which wait for a good part of their time, and speaks after them.

    Raises:
        CourseError: the tools of authors are not installed, or there is no server.
    """
    _require(LINTERS + TESTERS, "test")
    code = _run_ruff()
    if code:
        return code
    command = [sys.executable, "-m", "pytest", "-n", "auto", *arguments]
    with tempfile.TemporaryFile() as said, _mypy(said) as types, server_in_memory():
        server = asyncio.run(find_server())
        try:
            code = subprocess.run(command, cwd=REPOSITORY, env=jupyter_environment(), check=False).returncode
        finally:
            leave_as_found(server)
        types_code = types.wait()
        said.seek(0)
        typer.echo(said.read().decode(errors="replace"), nl=False)
    return code or types_code


@contextmanager
def _mypy(said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Mypy in a process that does not outlive the block."""
    process = subprocess.Popen(MYPY, cwd=REPOSITORY, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _require(modules: tuple[str, ...], goal: str) -> None:
    """Raise the sentence for an environment in which learners learn, and authors' tools are missing."""
    missing = [module.replace("_", "-") for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise CourseError(
            f"{', '.join(missing)} {verb} not installed: authors' tools are not among what learners get.",
            f"Run: make {goal}   (or: uv run --extra authors course {goal})",
        )


@contextmanager
def server_in_memory() -> Iterator[None]:
    """On Linux, where there is room for it, the tests have a server to themselves that touches no disk.

    They make and drop thousands of databases of 300 files each, and before ext4 makes a file it looks at those that
    were deleted in the last minutes (`recently_deleted` in the kernel's fs/ext4/ialloc.c): after some hundreds
    CREATE DATABASE took .4 s instead of .02, which was half of the tests' time.
    """
    settings = get_settings()
    chosen = settings.database_url is not None or "home" in settings.model_fields_set
    if chosen or sys.platform != "linux" or not SHARED_MEMORY.exists() or shutil.disk_usage(SHARED_MEMORY).free < ROOM:
        yield
        return
    home = _folder_in_memory()
    os.environ["COURSE_HOME"] = str(home)
    get_settings.cache_clear()
    try:
        yield
    finally:
        cluster = running_server()
        if cluster is None or (not is_used(cluster) and stop_embedded()):
            shutil.rmtree(home, ignore_errors=True)
        del os.environ["COURSE_HOME"]
        get_settings.cache_clear()


def _folder_in_memory() -> Path:
    """Always the same one, so that what killed tests have left is found; another, should somebody else have made it."""
    home, mode = SHARED_MEMORY / f"databases-for-ai-engineers-tests-{os.getuid()}", 0o755 if not os.getuid() else 0o700
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()  # not stat: a link may lead anywhere
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & OTHERS_MAY_WRITE
    if not ours:
        home = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=SHARED_MEMORY))
    home.chmod(mode)  # the server of root runs as another user, who must pass
    return home


def execute_notebooks(numbers: list[str]) -> None:
    """Execute ``notebooks/`` and ``solutions/`` in place: all, those of the given numbers, or the drills of a level."""
    os.environ.update(jupyter_environment())
    if not all(number.isascii() and (number.isdigit() or number in LEVELS) for number in numbers):
        raise CourseError("A lesson has a number, like 02; drills have a level.", f"Try: {command('notebooks 02')}")
    prefixes = tuple(number if number in LEVELS else f"{number.zfill(2)}_" for number in numbers) or ("",)
    folders = ("notebooks", "solutions", "solutions/interview")
    paths = [path for folder in folders for path in sorted((REPOSITORY / folder).glob("*.ipynb"))]
    chosen = [path for path in paths if path.name.startswith(prefixes)]
    if not chosen:
        raise CourseError("No notebook has that number.", "Look into notebooks/ for the numbers there are.")
    with tempfile.TemporaryDirectory() as work:
        os.environ["COURSE_WORK"] = work  # solving the exercises here is not the author's progress
        for path in chosen:
            execute(path)
            typer.echo(f"{path.relative_to(REPOSITORY)} executed and stored.")
