"""Locks that a process inherits and holds until its end, however it ends: they say that it lives, in any container."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from course_lib.postgres.files import NOFOLLOW

if sys.platform != "win32":
    import fcntl


def take(path: Path) -> int | None:
    """The lock of that file as an open handle, for a child to inherit; None when somebody holds it, or on Windows."""
    if sys.platform == "win32":
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks: the handle does no harm, and tells nothing
        return handle
    return handle


def is_held(path: Path) -> bool:
    """True while a process holds the lock of that file."""
    if not path.exists():
        return False
    try:
        handle = take(path)
    except OSError:
        return False
    if handle is not None:
        os.close(handle)
    return handle is None and sys.platform != "win32"
