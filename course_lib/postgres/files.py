"""Files and folders of the embedded server: made with modes of our own, whatever the umask, and never through a link.

The folder is ours alone. What lies in it may belong to an account without rights, as which root runs the server; so
that account's folders are only entered through a handle, and nothing in them is followed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.commands import command
from course_lib.errors import CourseError

if TYPE_CHECKING:
    from course_lib.postgres.binaries import Account

OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither of the two
FOLDER = getattr(os, "O_DIRECTORY", 0) | NOFOLLOW


def make_folder(folder: Path, account: Account | None) -> None:
    """Make a folder and the missing ones above it: ours to write, and for ``account``, when there is one, to pass."""
    missing = [step for step in (folder, *folder.parents) if not step.exists()]
    for step in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another program of ours was faster
            step.mkdir()
            step.chmod(0o755 if account is not None else 0o700)
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file")


def require_ours(folder: Path, account: Account | None) -> None:
    """The server's folder, and the one it lies in, are such that nobody else can lay anything there.

    Raises:
        CourseError: somebody else owns the folder, or everybody may write to the one above.
    """
    if os.name == "nt":
        return
    above = folder.parent.stat()
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise CourseError(
            f"Everybody may write to {folder.parent}, so anybody could replace the course's server there.",
            f"Run: chmod o-w '{folder.parent}'   or set COURSE_HOME to a folder of your own.",
        )
    handle = os.open(folder, os.O_RDONLY | FOLDER)
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            raise _not_ours(folder, status.st_uid)
        wanted = (status.st_mode | (0o055 if account is not None else 0)) & ~OTHERS_MAY_WRITE
        if wanted != status.st_mode:
            os.fchmod(handle, stat.S_IMODE(wanted))
    finally:
        os.close(handle)


def _not_ours(folder: Path, owner: int) -> CourseError:
    us = "you are root" if os.geteuid() == 0 else f"you are {user_name(os.geteuid())}"
    return CourseError(
        f"The course's folder {folder} belongs to {user_name(owner)}, and {us}.",
        f"Work as {user_name(owner)}, or set COURSE_HOME to a folder of your own.",
    )


def user_name(uid: int) -> str:
    """``user ada``, or ``user 1007`` for one that the system does not know."""
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def write_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Put ``text`` into a file, all at once; a link in its place is replaced, not followed."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.write(text)
        partial.chmod(mode)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_inside(folder: Path, *names: str) -> None:
    """Remove entries of a folder, whoever owns it, without following a link."""
    if os.name == "nt":
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return
    try:
        handle = os.open(folder, os.O_RDONLY | FOLDER)
    except OSError:
        return  # not there, or no folder
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                try:
                    os.unlink(name, dir_fd=handle)
                except (IsADirectoryError, PermissionError):  # macOS says the latter of a folder
                    shutil.rmtree(name, dir_fd=handle)
    finally:
        os.close(handle)


def empty_inside(folder: Path, name: str, owner: Account | None) -> None:
    """Put an empty file into a folder that ``owner`` has, in place of whatever has that name there."""
    remove_inside(folder, name)
    if os.name == "nt":
        (folder / name).touch()
        return
    handle = os.open(folder, os.O_RDONLY | FOLDER)
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600, dir_fd=handle)
        if owner is not None:
            os.fchown(file, owner.uid, owner.gid)
        os.close(file)
    finally:
        os.close(handle)


def own_data(data: Path, account: Account | None) -> None:
    """Give data that were copied back (``cp -r``, an archive) the owner and the mode that PostgreSQL insists on.

    Raises:
        CourseError: they belong to somebody else, or their owner may not read them.
    """
    if os.name == "nt":
        return
    runner = account.uid if account is not None else os.geteuid()
    handle = os.open(data, os.O_RDONLY | FOLDER)
    try:
        status = os.fstat(handle)
        if status.st_uid == os.geteuid() != runner and account is not None:
            _give(data, account)
        elif status.st_uid != runner:
            raise CourseError(
                f"The server's data in {data} belong to {user_name(status.st_uid)}.",
                f"Run: {command('db renew')}   (it puts them aside and makes them anew)",
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(handle, 0o700)
        _require_readable(handle, data)
    finally:
        os.close(handle)


def _give(data: Path, account: Account) -> None:
    """Root's own files become the account's. They were root's alone so far, so no link of the account is among them."""
    for _, folders, files, handle in os.fwalk(data, topdown=False):
        for name in [*folders, *files]:
            os.chown(name, account.uid, account.gid, dir_fd=handle, follow_symlinks=False)
    os.chown(data, account.uid, account.gid, follow_symlinks=False)


def _require_readable(handle: int, data: Path) -> None:
    """PostgreSQL has no code for a control file that it may not read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = os.stat("global/pg_control", dir_fd=handle, follow_symlinks=False)
        if not status.st_mode & stat.S_IRUSR:
            raise CourseError(
                f"The server may not read its own data in {data}.",
                f"Run: chmod -R u+rwX '{data}'   or, to have them made anew: {command('db renew')}",
            )


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as it is ours to remove; folders without rights are opened."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    for here, folders, _ in os.walk(folder):
        for name in folders:
            with contextlib.suppress(OSError, NotImplementedError):
                (Path(here) / name).lchmod(0o700) if hasattr(os, "lchmod") else _open_up(Path(here) / name)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    if not folder.is_symlink():
        folder.chmod(0o700)
