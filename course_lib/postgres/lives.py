"""A file for each process that makes databases, locked for as long as the process lives.

Whoever can take the lock knows that the process has ended, whatever ended it. Its number would not tell: numbers are
given out again, and mean nothing in another container, on another machine, or after a restart. Locks of a folder on a
network file system reach over machines; where they cannot be asked, nobody is taken for dead.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from course_lib.errors import CourseError
from course_lib.postgres.binaries import server_account
from course_lib.postgres.files import OTHERS_MAY_WRITE, make_folder, require_ours
from course_lib.postgres.server import embedded_cluster, environment_names_a_server
from course_lib.settings import get_settings

LIFE_DIGITS = 8
UNTOLD = "0" * LIFE_DIGITS
"""Of a process that could hold no lock: nobody can tell when it ends, so nobody ever takes it for dead."""
KEPT_DAYS = 30  # so long a dead process's file may still be asked for, by a server not visited since

_own: dict[tuple[int, Path], tuple[str, FileLock | None]] = {}  # by process number: a forked child is another process
_guard = threading.Lock()


def own_life() -> str:
    """Eight hexadecimal digits that name this process; with its number they name its file."""
    with _guard:
        key = (os.getpid(), _folder())
        if key not in _own:
            _own[key] = _begin(key[1])
        return _own[key][0]


def ended(pid: int, life: str) -> bool | None:
    """Whether the process of that number and life has ended; None: never heard of it.

    Args:
        life: eight digits, or the first four.
    """
    folder = _folder()
    if UNTOLD.startswith(life):
        return False
    if not _is_ours(folder):
        return None
    exact = len(life) == LIFE_DIGITS
    files = [folder / f"{pid}-{life}.lock"] if exact else list(folder.glob(f"{pid}-{life}*.lock"))
    states = [_over(file) for file in files if file.exists()]
    return all(states) if states else None


def forget_own_life() -> None:
    """The process ends and leaves no database behind: its file goes too."""
    _, lock = _own.pop((os.getpid(), _folder()), ("", None))
    if lock is not None:
        lock.release()
        with suppress(OSError):
            Path(lock.lock_file).unlink()


def _folder() -> Path:
    """Beside the embedded server, for all who use it; for a server of one's own, in this user's course folder."""
    return (get_settings().home if environment_names_a_server() else embedded_cluster().folder) / "kernels"


def _is_ours(folder: Path) -> bool:
    """False for a folder in which somebody else could lay a file that speaks for a process of ours."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & OTHERS_MAY_WRITE)


def _begin(folder: Path) -> tuple[str, FileLock | None]:
    """Without a lock where the folder cannot be written, or its file system has none."""
    life = secrets.token_hex(LIFE_DIGITS // 2)
    if life.startswith(UNTOLD[:4]):
        return _begin(folder)
    try:
        make_folder(folder, server_account())
        require_ours(folder, None)
        _remove_old(folder)
        lock = FileLock(folder / f"{os.getpid()}-{life}.lock", mode=0o600)
        lock.acquire(timeout=0)
    except (OSError, NotImplementedError, Timeout, CourseError):
        return UNTOLD, None
    return life, lock


def _remove_old(folder: Path) -> None:
    long_ago = time.time() - KEPT_DAYS * 86_400
    for file in folder.glob("*.lock"):
        with suppress(OSError):
            if file.stat().st_mtime < long_ago and _over(file):
                file.unlink()


def _over(file: Path) -> bool:
    try:
        with FileLock(file, timeout=0):
            return True
    except (Timeout, OSError, NotImplementedError):
        return False
