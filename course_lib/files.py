"""Files that belong to the learner: written whole or not at all, put aside, never lost; and why a folder refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from course_lib.errors import CourseError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
NO_PERMISSION = {errno.EACCES, errno.EPERM}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.ELOOP}


def write_whole(path: Path, text: str) -> None:
    """Write beside ``path``, then take its place: whoever reads, and whoever is interrupted, finds all or nothing.

    Raises:
        OSError: what was at ``path`` is as it was.
    """
    place = Path(os.path.realpath(path)) if path.exists() else path  # a link that leads somewhere stays one
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if place.exists():
            shutil.copymode(place, beside)
        beside.replace(place)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def put_aside(path: Path) -> Path:
    """Rename what cannot be understood to a name that nothing has yet, and return that: nothing is overwritten.

    Raises:
        OSError: it stays where it was.
    """
    number = 1
    while True:
        aside = path.with_name(f"{path.name}.unreadable" + (f"-{number}" if number > 1 else ""))
        if not os.path.lexists(aside):
            path.rename(aside)
            return aside
        number += 1


@contextlib.contextmanager
def answering_for(folder: Path, variable: str) -> Iterator[None]:
    """What the operating system refuses in ``folder`` is said as ``refusal`` does."""
    try:
        yield
    except OSError as error:
        raise refusal(error, folder, variable) from error


def refusal(error: OSError, folder: Path, variable: str) -> CourseError:
    """The sentence for what the operating system did not do in a folder.

    Args:
        error: what it raised; told apart by its number.
        folder: the folder, where the error names no place of its own.
        variable: the environment variable that leads elsewhere.
    """
    place = Path(error.filename) if isinstance(error.filename, str) and error.filename else folder
    elsewhere = f"set {variable} to a folder that you own."
    if error.errno in NO_ROOM:
        return _no_room(folder, variable)
    if error.errno == errno.EROFS:
        return CourseError(f"{folder} is on a disk that can only be read.", elsewhere[0].upper() + elsewhere[1:])
    if error.errno in NO_PERMISSION:
        return CourseError(f"You have no permission for {place}.", f"Give yourself that, or {elsewhere}")
    if error.errno in IN_THE_WAY and (obstacle := _obstacle(place)):
        what = "A link to nothing" if os.path.islink(obstacle) else "A file"  # noqa: PTH114 (Path's may raise)
        return CourseError(f"{what} is in the place of the folder {obstacle}.", f"Move it away, or {elsewhere}")
    if error.errno == errno.EISDIR:
        return CourseError(f"A folder is in the place of the file {place}.", f"Move it away, or {elsewhere}")
    said = os.strerror(error.errno) if error.errno else type(error).__name__
    return CourseError(f"{place} cannot be used: {said}.", f"To use another folder, {elsewhere}")


def _no_room(folder: Path, variable: str) -> CourseError:
    nearest = next((f for f in [folder, *folder.absolute().parents] if os.path.isdir(f)), None)  # noqa: PTH112
    mend = f"or set {variable} to a folder on another disk."
    if nearest is not None and hasattr(os, "statvfs"):
        disk = os.statvfs(nearest)
        if disk.f_files and not disk.f_favail:
            return CourseError(f"The disk of {folder} takes no more files.", f"Remove some there, {mend}")
    return CourseError(f"There is no room left on the disk of {folder}.", f"Free some space there, {mend}")


def _obstacle(place: Path) -> Path | None:
    """The first part of the way to ``place`` that should be a folder and is none."""
    way = [*reversed(place.absolute().parents), place]
    return next((part for part in way if os.path.lexists(part) and not os.path.isdir(part)), None)  # noqa: PTH112
