"""A new folder that nobody else can enter: a Unix socket in it need not ask who is there.

It is made where nobody else can move it away and put another in its place, with a path that is short enough for a
socket's and that every driver reads as one host.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.postgres.binaries import Account
from course_lib.postgres.sockets import LONGEST_SOCKET_PATH
from course_lib.settings import get_settings

UNREADABLE = set(",:")  # a comma separates hosts, a colon a host from its port
OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def new_private_folder(prefix: str, socket: str, account: Account | None = None, *places: Path) -> Path:
    """Make a folder of mode 0700 and an unguessable name that begins with ``prefix``.

    Args:
        prefix: of its name.
        socket: the file name of the socket that will lie in it.
        account: somebody else who can reach it, so that it may be given to them; it is made ours.
        places: where to make it rather than in the folder for temporary files.

    Raises:
        CourseError: no folder for temporary files will do.
    """
    for place in (*places, *_places()):
        fits = _can_hold(place, f"{prefix}12345678/{socket}")
        if fits and _is_safe(place) and (account is None or account.can_enter(place)):
            folder = _made(place, prefix)
            if folder is not None:
                return folder
    raise CourseError(
        "There is no folder for temporary files in which nobody else could reach a socket.",
        "Set TMPDIR to a folder of your own with a short path and room on its disk, and start Python again.",
    )


def is_private(folder: Path) -> bool:
    """True for a folder of ours, not a link to one, that nobody else can enter."""
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return ours and stat.S_IMODE(status.st_mode) == 0o700


def _places() -> Iterator[Path]:
    with suppress(FileNotFoundError):  # there is none that can be written to
        yield Path(tempfile.gettempdir()).resolve()
    yield Path("/tmp").resolve()
    yield get_settings().home.resolve()


def _can_hold(place: Path, name: str) -> bool:
    path = str(place / name)
    return path.isprintable() and not UNREADABLE & set(path) and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH


def _is_safe(place: Path) -> bool:
    """Nobody but the system's administrator and we can rename what lies there, nor any folder above it."""
    try:
        steps = [step.stat() for step in (place, *place.parents)]
    except OSError:
        return False
    trusted = {0, os.geteuid(), steps[-1].st_uid}  # in some containers the root folder's owner has another number
    return all(
        step.st_uid in trusted and (not step.st_mode & OPEN_TO_OTHERS or step.st_mode & stat.S_ISVTX) for step in steps
    )


def _made(place: Path, prefix: str) -> Path | None:
    """None where it cannot be made, or does not become private: some file systems know no owners."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    except OSError:
        return None
    with suppress(OSError):
        folder.chmod(0o700)  # whatever the umask has taken from us, or the folder above has added
        if is_private(folder):
            return folder
    folder.rmdir()
    return None
