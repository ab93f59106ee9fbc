"""Where servers live that a lesson has beside the lessons' own: a folder for each process, gone with the process.

A process holds the lock of its folder until it ends, however it ends. A keeper, a process of its own, waits for that
end and then stops the servers and removes the folder; where the keeper was killed too, whoever makes servers next does.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from course_lib.errors import CourseError
from course_lib.postgres.binaries import reachable_installation, server_account
from course_lib.postgres.extra_cluster import ExtraCluster
from course_lib.postgres.files import OTHERS_MAY_WRITE, make_folder, remove_tree, require_ours
from course_lib.postgres.locks import is_held, take
from course_lib.postgres.server import is_shared, server_home
from course_lib.settings import REPOSITORY, get_settings

NAME = re.compile(r"([0-9]{1,10})-[0-9a-f]{6}\Z")
LOCK = "owner"
WAIT = """
import os, select, sys
os.nice(10)
ended, _, _ = select.select([0], [], [], 60)
sys.path.insert(0, sys.argv[1])
from course_lib.postgres.keeper import keep
keep(sys.argv[2], float(sys.argv[3]), bool(ended))
"""
"""The keeper waits before it imports anything: a check is over by then, and a lesson has its processor."""


@dataclass
class _Own:
    """This process's folder."""

    folder: Path
    lock: int | None
    keeper: subprocess.Popen[bytes]

    def dismiss(self) -> None:
        """Its keeper has nothing left to wait for."""
        self.keeper.kill()
        self.keeper.communicate()
        if self.lock is not None:
            os.close(self.lock)


@dataclass(frozen=True)
class ServerOf:
    """A server beside the lessons' own, as ``course db list`` shows it."""

    cluster: ExtraCluster
    pid: int
    owner_ended: bool

    @property
    def name(self) -> str:
        return self.cluster.folder.name


_own: dict[tuple[int, Path], _Own] = {}  # by process number: a forked child is another process
_guard = threading.Lock()


def servers_folder() -> Path:
    """The folder of all processes' servers. On a network file system, of this machine's."""
    home = server_home()
    return home / (f"servers-{socket.gethostname()}" if is_shared(home) else "servers")


def require_programs() -> None:
    """Servers beside the lessons' own can be had on this machine.

    Raises:
        CourseError: they cannot: the system has no Unix sockets, or there are no programs for it.
    """
    if os.name == "nt":
        raise CourseError(
            "This takes servers of its own behind Unix sockets, which the course does not have on Windows.",
            "Go on with what comes next, or run the course in WSL.",
        )
    programs = reachable_installation(server_home(), server_account())
    for name in ("postgres", "initdb", "pg_basebackup"):
        if not (programs / "bin" / name).exists():
            raise CourseError(
                f"The PostgreSQL that comes with the course lacks {name} on this machine, which this takes.",
                "Go on with what comes next.",
            )


def own_folder() -> Path:
    """This process's folder, made at the first call, after what dead processes left has been swept.

    Raises:
        CourseError: it cannot be made.
    """
    with _guard:
        key = (os.getpid(), servers_folder())
        if key in _own and not _own[key].folder.exists():  # somebody has stopped all servers
            _own.pop(key).dismiss()
        if key not in _own:
            base = key[1]
            make_folder(base, server_account())
            require_ours(base, server_account())
            sweep_servers()
            _own[key] = _begin(base)
        return _own[key].folder


def cluster_of(name: str, **settings: str) -> ExtraCluster:
    """The server of that name of this process, whether it is there yet or not."""
    account = server_account()
    return ExtraCluster(own_folder() / name, reachable_installation(server_home(), account), account, settings)


def _begin(base: Path) -> _Own:
    """A sweep sees the folder only once it is locked."""
    name = f"{os.getpid()}-{secrets.token_hex(3)}"
    folder, unlocked = base / name, base / f".{name}"
    make_folder(unlocked, server_account())
    lock = take(unlocked / LOCK)
    unlocked.rename(folder)
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-c", WAIT, str(REPOSITORY), str(folder), str(get_settings().idle_hours * 3600)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return _Own(folder, lock, keeper)


# -- all of them -------------------------------------------------------------------------------------------


def list_servers() -> list[ServerOf]:
    """All servers beside the lessons' own, of every process of this user; folders of others are not looked into."""
    found = []
    for folder, pid in _folders():
        over = _is_over(folder, pid)
        found += [ServerOf(cluster, pid, over) for cluster in clusters_in(folder)]
    return found


def sweep_servers() -> int:
    """Stop and remove those whose process has ended. Returns how many folders that were."""
    swept = 0
    for folder, pid in _folders():
        with suppress(OSError):  # another process sweeps, too
            swept += _is_over(folder, pid) and remove_servers(folder)
    return swept


def stop_all_servers() -> int:
    """Stop and remove all, those of running notebooks too. Returns how many servers ran."""
    running = 0
    for folder, _ in _folders():
        running += sum(cluster.process() is not None for cluster in clusters_in(folder))
        remove_servers(folder)
    return running


def remove_servers(folder: Path) -> bool:
    """Stop the servers of a process's folder and remove it. Returns False where one could not be stopped."""
    done = True
    for cluster in clusters_in(folder):
        done &= remove_server(cluster)
    if done:
        remove_tree(folder)
    return done


def remove_server(cluster: ExtraCluster) -> bool:
    """Stop a server at once, since nobody needs its data any more, and remove them. Returns False if it goes on."""
    try:
        if not cluster.crash():
            cluster.postmaster.clear_away_the_dead()
    except CourseError:  # of another container: it is looked after there
        return False
    cluster.remove_socket()
    remove_tree(cluster.folder)
    return True


def _folders() -> Iterator[tuple[Path, int]]:
    """Folders of processes, of this user alone, in a folder that nobody else may write to."""
    base = servers_folder()
    if not _is_ours(base):
        return
    for folder in sorted(base.iterdir()):
        named = NAME.match(folder.name)
        if named and _is_ours(folder):
            yield folder, int(named[1])


def clusters_in(folder: Path) -> list[ExtraCluster]:
    """The servers of a process's folder."""
    account = server_account()
    programs = reachable_installation(server_home(), account)
    places: list[Path] = []
    with suppress(FileNotFoundError):
        places = sorted(place for place in folder.iterdir() if _is_ours(place))
    return [ExtraCluster(place, programs, account, {}) for place in places]


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & OTHERS_MAY_WRITE)
    return mine and stat.S_ISDIR(status.st_mode)


def _is_over(folder: Path, pid: int) -> bool:
    """Whether the process that made a folder has ended. Where files have no locks, its number has to be nobody's."""
    if is_held(folder / LOCK):
        return False
    return not psutil.pid_exists(pid) or _knows_locks(folder)


def _knows_locks(folder: Path) -> bool:
    """True where a second taker of a lock is refused."""
    probe = folder / f"{LOCK}.probe"
    first = take(probe)
    try:
        return is_held(probe)
    finally:
        if first is not None:
            os.close(first)
        probe.unlink(missing_ok=True)


@atexit.register
def _remove_at_exit() -> None:
    for (pid, _), own in list(_own.items()):
        if pid == os.getpid():
            with suppress(CourseError, OSError):
                remove_servers(own.folder)
            own.dismiss()
