"""The folder of the embedded server's socket: inside its own folder, or, when that path is too long, a private one."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import tempfile
from enum import Enum
from hashlib import sha256
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.postgres.binaries import Account
from course_lib.postgres.files import FOLDER, remove_tree

LONGEST_SOCKET_PATH = 103  # bytes; the kernel's sun_path is 104 on macOS, 108 on Linux, with a closing NUL


SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""The one message that every server answers before it knows who asks: with a single byte."""


class Knock(Enum):
    """What a socket says to somebody who knocks."""

    ANSWERED = "somebody listens"
    REFUSED = "nobody listens any more"
    MISSING = "there is no socket"


def socket_folder(folder: Path) -> Path:
    """Where the server that lives in ``folder`` puts its socket."""
    inside = folder / "socket"
    longest = len(os.fsencode(inside / ".s.PGSQL.5432.lock"))
    if longest <= LONGEST_SOCKET_PATH and "," not in str(inside) and _is_text(inside):  # libpq reads "," as two hosts
        return inside
    name = f"pg-{os.geteuid()}-{sha256(os.fsencode(folder)).hexdigest()[:12]}"
    return Path(tempfile.gettempdir()) / name


def _is_text(path: Path) -> bool:
    """False for a path of bytes that are no UTF-8, which no address can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def knock(folder: Path, port: int = 5432, seconds: float = 1) -> Knock:
    """Connect to the server's socket and go away again. No process need be visible for that, nor its files right."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(seconds)
            client.connect(os.fsencode(folder / f".s.PGSQL.{port}"))
    except (FileNotFoundError, NotADirectoryError):
        return Knock.MISSING
    except OSError as error:
        if error.errno in {None, errno.ENAMETOOLONG}:
            return Knock.MISSING  # a path that no socket can have
        dead = error.errno in {errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE}
        return Knock.REFUSED if dead else Knock.ANSWERED  # a full queue, a right that is missing: somebody may live
    return Knock.ANSWERED


def answers(host: str, port: int, seconds: float) -> bool:
    """True when the server at that address says its first byte in time: it listens, and is not frozen."""
    try:
        with socket.socket(socket.AF_INET if os.name == "nt" else socket.AF_UNIX) as client:
            client.settimeout(seconds)
            client.connect((host, port) if os.name == "nt" else f"{host}/.s.PGSQL.{port}")
            client.sendall(SSL_REQUEST)
            return bool(client.recv(1))
    except OSError:
        return False


def make_private(folder: Path, account: Account | None, ours: bool = False) -> None:
    """Make the folder for the server's user alone, without a socket. Whoever may write there could pose as the server.

    Args:
        ours: the folder lies where only we can lay anything, so whatever is in its place may go.

    Raises:
        CourseError: there is a folder, a link or a file of that name which somebody else made.
    """
    users = {os.geteuid(), account.uid if account else os.geteuid()}
    if ours and (folder.is_symlink() or folder.exists()) and not _is_folder_of(folder, users):
        remove_tree(folder)
    stranger = CourseError(
        f"The socket folder {folder} belongs to somebody else.",
        "Ask its owner to remove it, or set COURSE_HOME to a shorter path.",
    )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        # through a handle, so that nobody can put a link in its place between the look and the change
        handle = os.open(folder, os.O_RDONLY | FOLDER)
    except OSError as error:
        raise stranger from error
    try:
        status = os.fstat(handle)
        if status.st_uid not in users:
            raise stranger
        if account is not None:
            os.fchown(handle, account.uid, account.gid)
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(handle, 0o700)
        for name in os.listdir(handle):  # noqa: PTH208 (a handle is no path)
            if name.startswith(".s.PGSQL."):
                os.unlink(name, dir_fd=handle)
    finally:
        os.close(handle)


def _is_folder_of(folder: Path, users: set[int]) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid in users
