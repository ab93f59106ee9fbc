"""The folder of the embedded server's socket: inside its own folder, or, when that path is too long, a private one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.postgres.binaries import Account

LONGEST_SOCKET_PATH = 103  # bytes; the kernel's sun_path is 104 on macOS, 108 on Linux, with a closing NUL


def socket_folder(folder: Path) -> Path:
    """Where the server that lives in ``folder`` puts its socket."""
    inside = folder / "socket"
    longest = len(os.fsencode(inside / ".s.PGSQL.5432.lock"))
    if longest <= LONGEST_SOCKET_PATH and "," not in str(inside):  # libpq reads a comma as two hosts
        return inside
    name = f"pg-{os.geteuid()}-{sha256(os.fsencode(folder)).hexdigest()[:12]}"
    return Path(tempfile.gettempdir()) / name


def make_private(folder: Path, account: Account | None) -> None:
    """Make the folder for the server's user alone. Whoever may write there could pose as the server.

    Raises:
        CourseError: there is a folder, a link or a file of that name which somebody else made.
    """
    stranger = CourseError(
        f"The socket folder {folder} belongs to somebody else.",
        "Remove it, or set COURSE_HOME to a shorter path.",
    )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        # through a handle, so that nobody can put a link in its place between the look and the change
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise stranger from error
    try:
        status = os.fstat(handle)
        if status.st_uid not in {os.geteuid(), account.uid if account else os.geteuid()}:
            raise stranger
        if account is not None:
            os.fchown(handle, account.uid, account.gid)
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(handle, 0o700)
    finally:
        os.close(handle)
