"""What keeps the embedded server from starting, asked of the system itself: rights, room, memory, programs.

PostgreSQL's log carries an SQLSTATE in front of each line (``log_line_prefix``), which says what the server met. For
what has no SQLSTATE, initdb's failures above all, the same thing is tried here and the system's errno is read.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import NO_ROOM
from course_lib.postgres.room import FREE_BYTES, FREE_FILES, MB, START_BYTES, free_bytes, free_files

ANOTHER_SERVER = "Set DATABASE_URL to a PostgreSQL 18 with pgvector, for instance with: docker compose up -d"
MEMORY_BYTES = 320 * MB  # shared_buffers and what comes with them
LINE = re.compile(r"^([0-9A-Z]{5}) (?:FATAL|PANIC|ERROR): +(.*)$", re.MULTILINE)

NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}
IN_PLACE = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}

DISK_FULL, OUT_OF_MEMORY, NO_RIGHT, IO_ERROR = "53100", "53200", "42501", "58030"
OBSTACLES = {
    DISK_FULL, OUT_OF_MEMORY, NO_RIGHT, IO_ERROR,
    "53000", "53300", "53400",  # other resources: connections, limits
    "F0000", "F0001",  # a setting, a lock file
}  # fmt: skip
"""Classes of failure that are no damage: with the obstacle out of the way, the same data serve again."""


PASSING = {"57P01", "57P02", "57P03"}
"""What a server says while it recovers or stops: alone no reason for anything, beside another code what follows it."""


def is_damage(log: str) -> bool:
    """True when a server that ended said something that the system does not explain. New data then have to prove it."""
    codes = sqlstates(log)
    return bool(log.strip()) and not codes & OBSTACLES and not (codes and codes <= PASSING)


def sqlstates(log: str) -> set[str]:
    """The codes of the failures in a server's log."""
    return {match[1] for match in LINE.finditer(log)}


def failure_of(error: OSError, folder: Path) -> CourseError:
    """The sentence for what the file system answered while the server's folder was being prepared."""
    if error.errno in NO_ROOM:
        return no_room(folder)
    if error.errno in NO_ACCESS:
        return no_access(folder)
    if error.errno in IN_PLACE:
        return _file_in_place(folder)
    if error.errno == errno.ENOMEM:
        return _no_memory()
    return CourseError(
        f"The course cannot use the folder {folder}: {error.strerror or error}.", "Set COURSE_HOME to another folder."
    )


def failure_of_start(log: str, folder: Path, installation: Path) -> CourseError:
    """Why the server, or initdb, ended at once.

    Args:
        log: what it wrote.
    """
    codes = sqlstates(log)
    if DISK_FULL in codes:
        return no_room(folder, START_BYTES)
    if sentence := obstacle(folder, installation):
        return sentence
    if NO_RIGHT in codes:
        return CourseError(
            f"The server may not read or write some of its own files in {folder / 'data'}.",
            f"Run: {command('db renew')}",
        )
    if OUT_OF_MEMORY in codes:
        return _no_memory()
    if IO_ERROR in codes:
        return CourseError(
            f"The disk under {folder} failed to read or write (an input/output error).",
            "Set COURSE_HOME to a folder on another disk.",
        )
    said = [match[2] for match in LINE.finditer(log)] or [line.strip() for line in log.splitlines() if line.strip()]
    if not said:
        return CourseError(
            "The embedded PostgreSQL ended twice while it started, and wrote no reason: something else ended it.",
            "Try again; if it happens again, close what takes much memory, or restart the computer.",
        )
    return CourseError(
        f"The embedded PostgreSQL did not start: {said[-1]}",
        "Set COURSE_HOME to another folder, or DATABASE_URL to another PostgreSQL 18 with pgvector.",
    )


def obstacle(folder: Path, installation: Path) -> CourseError | None:
    """The first thing that keeps any server from starting in ``folder``; None when nothing does."""
    if any(step.exists() and not step.is_dir() for step in (folder, *folder.parents)):
        return _file_in_place(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        return no_access(folder)
    if is_full(folder) or _quota_is_used_up(folder):
        return no_room(folder)
    if not _runs(installation):
        return CourseError("The embedded PostgreSQL does not run on this system.", ANOTHER_SERVER)
    return _no_shared_memory() or _no_free_memory()


def no_room(folder: Path, needed: int = FREE_BYTES) -> CourseError:
    """The sentence for a full disk, with the numbers, and for one that has no room for further files."""
    place = next(step for step in (folder, *folder.parents) if step.exists())
    files, free = free_files(place), free_bytes(place)
    mend = "set COURSE_HOME to a folder on another disk."
    if files is not None and files < FREE_FILES:
        return CourseError(
            f"There is no room for further files in {folder}: the disk can hold {files:,} more, "
            f"and the course needs about {FREE_FILES:,}.",
            f"Remove files (df -i shows how many there are), or {mend}",
        )
    if free >= needed:
        return CourseError(
            f"There is not enough room in {folder}: {free // MB} MB are free, and yet the system lets no more be "
            "written: a quota does that.",
            f"Remove files of yours on that disk, or {mend}",
        )
    return CourseError(
        f"There is not enough room in {folder}: {free // MB} MB are free, and the course needs "
        f"about {needed // MB} MB.",
        f"Free some space, or {mend}",
    )


def no_access(folder: Path) -> CourseError:
    return CourseError(f"The course cannot write to {folder}.", "Set COURSE_HOME to a folder that you own.")


def is_full(folder: Path) -> bool:
    """True when the disk has no room for what a start writes, be it bytes or files."""
    files = free_files(folder)
    return free_bytes(folder) < START_BYTES or (files is not None and files < 50)


def _quota_is_used_up(folder: Path) -> bool:
    """True when the system lets us write no more, although the disk has room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(probe.fileno(), 0, START_BYTES)
    except OSError as error:
        return error.errno in NO_ROOM
    return False


def _file_in_place(folder: Path) -> CourseError:
    return CourseError(
        f"The course cannot make the folder {folder}: a file is in its place.",
        "Move that file away, or set COURSE_HOME to a folder.",
    )


def _runs(installation: Path) -> bool:
    executable = installation / "bin" / ("postgres.exe" if os.name == "nt" else "postgres")
    try:
        return subprocess.run([executable, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _no_memory() -> CourseError:
    return CourseError("There is not enough free memory for PostgreSQL.", "Close something large and try again.")


def _no_free_memory() -> CourseError | None:
    try:
        mmap.mmap(-1, MEMORY_BYTES).close()
    except OSError:
        return _no_memory()
    return None


def _no_shared_memory() -> CourseError | None:
    """Ask for a segment of System V shared memory as PostgreSQL does at each start: 56 bytes, given back at once."""
    if os.name == "nt":
        return None
    system = ctypes.CDLL(None, use_errno=True)
    if not hasattr(system, "shmget"):
        return None
    private, create, remove = 0, 0o1600, 0
    segment = system.shmget(private, ctypes.c_size_t(56), create)
    if segment >= 0:
        system.shmctl(segment, remove, None)
        return None
    limits = "sysctl kern.sysv" if sys.platform == "darwin" else "ipcs -l"
    return CourseError(
        "The system gives PostgreSQL no System V shared memory, of which it needs one small segment "
        f"({os.strerror(ctypes.get_errno())}).",
        f"See the limits with: {limits}   and what is in use with: ipcs -m   then raise the one, or remove the other "
        "(ipcrm), or restart the computer.",
    )
