"""What runs on a data folder: the server that answers there, and what a dead one has left.

A server is looked for in three ways. Its pid file names a process of ours; its socket answers, whoever may see its
process; and a lock that its processes inherit is held until the last of them has ended, however it ended. The last two
find a server of another container on the same folder, whose pids mean nothing here.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.postgres.files import remove_inside
from course_lib.postgres.locks import is_held, take
from course_lib.postgres.sockets import Knock, knock, socket_folder


class Postmaster:
    """The server process of ``folder/data``, or what is left of one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._lock = folder / "alive"

    # -- alive and ours ------------------------------------------------------------------------------------

    def process(self) -> psutil.Process | None:
        """The running postmaster, or None. A recorded pid counts only when it is our postgres on our data."""
        try:
            process = psutil.Process(int(self.pid_file()[0]))
            ours = self._is_postmaster(process) and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, OverflowError, psutil.Error):
            return None
        return process if ours else None

    def _is_postmaster(self, process: psutil.Process) -> bool:
        return process.name().removesuffix(".exe") == "postgres" and any(
            argument.endswith(self.data.name) and Path(argument) == self.data  # a path, since pg_ctl turns \ into /
            for argument in process.cmdline()
        )

    def pid_file(self) -> list[str]:
        """Lines of postmaster.pid: pid, data, start time, port, socket folder, address, memory, state."""
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        except OSError:
            return [""]

    def state(self) -> str:
        """``starting``, ``stopping``, ``ready`` (a standby, too) or, where nothing runs, an empty string."""
        told = (self.pid_file()[7:8] or [""])[0].strip()
        return "ready" if told == "standby" else told

    def socket(self) -> tuple[str, int] | None:
        """The folder and the port that the pid file names; None when it names none, or is one of other data."""
        lines = [line.strip() for line in self.pid_file()]
        if len(lines) < 5 or lines[1] != str(self.data) or not lines[3].isdecimal() or not lines[4]:
            return None
        return lines[4], int(lines[3])

    # -- alive, and not ours to see ------------------------------------------------------------------------

    def hold(self) -> int | None:
        """A fresh lock for the next server's processes to inherit, as an open handle; None on Windows."""
        self._lock.unlink(missing_ok=True)  # a program that the last server started may hold the old one
        return take(self._lock)

    def lives(self) -> bool:
        """True when a server answers, or, where its socket cannot be tried from here, has not ended yet."""
        if os.name == "nt":
            return False
        # a pid file of other data is a copy, or from a container that has the folder elsewhere
        sockets, port = self.socket() or (str(socket_folder(self.folder)), 5432)
        told = knock(Path(sockets), port)
        return told is Knock.ANSWERED or (told is Knock.MISSING and bool(self.pid_file()[0]) and is_held(self._lock))

    def require_not_elsewhere(self) -> None:
        """Call it when no process of ours is left.

        Raises:
            CourseError: a server that we cannot see uses the folder.
        """
        if self.lives():
            raise CourseError(
                f"A server of another container, or of another part of this machine, uses {self.folder}.",
                f"Stop it there ({command('db down')}), or set COURSE_HOME here to a folder of its own.",
            )

    # -- dead ----------------------------------------------------------------------------------------------

    def clear_away_the_dead(self) -> None:
        """Forget a postmaster.pid that names nobody of ours, and end backends whose postmaster was killed.

        Raises:
            CourseError: a server that we cannot see uses the folder. Its files stay.
        """
        for _ in range(5):  # a postmaster may have made another child since we looked
            leftover = list(self._leftover())
            for process in leftover:
                with contextlib.suppress(psutil.Error):
                    process.kill()
                    ended(process, 5)
            if not leftover:
                break
        self.require_not_elsewhere()
        remove_inside(self.data, "postmaster.pid")

    def _leftover(self) -> Iterator[psutil.Process]:
        """PostgreSQL's processes on our data. By the arguments too: one so young that it has not gone there yet."""
        for process in psutil.process_iter(["name"]):
            if (process.info["name"] or "").removesuffix(".exe") != "postgres":
                continue
            with contextlib.suppress(psutil.Error):
                ours = Path(process.cwd()) == self.data or self._is_postmaster(process)
                if ours and process.status() != psutil.STATUS_ZOMBIE and not _is_contained(process.pid):
                    yield process


def _is_contained(pid: int) -> bool:
    """True for a process of a container inside this one, which has a pid of its own there: it is not ours to end."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("NSpid:") and len(line.split()) > 2 for line in lines)


def ended(process: psutil.Process, seconds: float) -> bool:
    """Wait for a process's end. A container's first process may leave it a zombie for long, which is end enough."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    return True
