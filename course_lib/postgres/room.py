"""Room on the disk of the embedded server: how much there is, and what of the course's own can go.

A server whose disk is full cannot even start, and what fills the disk is then often a database of its own that only
a running server can drop. So a reserve is kept beside the data, and released when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from course_lib.postgres.files import NOFOLLOW, remove_tree

MB = 2**20
FREE_BYTES = 300 * MB  # a new cluster, its templates and a few clones
FREE_FILES = 3000  # the same in files
START_BYTES = 32 * MB  # for an existing cluster: two segments of its log
RESERVE_BYTES = 48 * MB
ASIDE = "data.aside"


def free_bytes(folder: Path) -> int:
    """What an ordinary user can still write there."""
    return shutil.disk_usage(folder).free


def free_files(folder: Path) -> int | None:
    """How many more files the disk can hold; None where it has no such limit, or does not say."""
    if os.name == "nt":
        return None
    status = os.statvfs(folder)
    return status.f_favail if status.f_files else None


def is_roomy(folder: Path) -> bool:
    """True when a new cluster and what lessons need fits there."""
    files = free_files(folder)
    return free_bytes(folder) >= FREE_BYTES and (files is None or files >= FREE_FILES)


def make_room(folder: Path, installation: Path) -> int:
    """Remove what of the course's own nobody needs. Returns how many bytes that has freed.

    These are the old data, half-made ones, the programs of other versions, and last the reserve.

    Args:
        folder: the server's, whose lock is held, or whose server runs.
        installation: the programs in use, which stay.
    """
    before = free_bytes(folder)
    for leftover in folder.glob("data.*"):
        remove_tree(leftover)
    for copy in folder.parent.glob("postgresql-*"):
        if copy not in installation.parents and copy.is_dir() and not copy.is_symlink():
            remove_tree(copy)
    (folder / "reserve").unlink(missing_ok=True)
    return max(free_bytes(folder) - before, 0)


def keep_reserve(folder: Path) -> None:
    """Set room aside for a bad day, where there is plenty of it."""
    reserve = folder / "reserve"
    if reserve.exists() or free_bytes(folder) < FREE_BYTES + RESERVE_BYTES:
        return
    with contextlib.suppress(OSError):
        handle = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600)
        try:
            _allocate(handle)
        except OSError:
            reserve.unlink()
        finally:
            os.close(handle)


def _allocate(handle: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, RESERVE_BYTES)
        return
    for _ in range(RESERVE_BYTES // MB):
        os.write(handle, bytes(MB))
