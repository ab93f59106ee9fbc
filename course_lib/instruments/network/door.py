"""Where clients reach a proxy. Behind it the server may trust whoever comes, so nobody else gets in.

Before a server's Unix socket the door is a Unix socket, in a folder that only this user can enter, as the embedded
server's own is. Before a server on TCP it is a port of 127.0.0.1, so that encryption, which drivers speak over TCP
only, passes unread. Such a server asks for a password, or it trusts this machine and lets its users in anyway; but it
may also tell users apart by the connection's owner (ident, a firewall's rules), and ports of 127.0.0.1 are passed on
to other machines by editors and virtual machines. So that door lets in connections of this process and its children
only, which the system's table of connections shows.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from course_lib.postgres.configuration import SHARED_MEMORY
from course_lib.postgres.private_folder import is_private, new_private_folder

LOCAL = "127.0.0.1"
PORT = 5432  # names the socket's file; nothing listens on the network
SOCKET = f".s.PGSQL.{PORT}"
PREFIX = "course-network-"
BACKLOG = 1024  # clients that wait to be let in: on a Unix socket, one more is refused at once
JUST_MADE = 60  # seconds; a folder so young may be about to be held

Handler = Callable[[], asyncio.Protocol]


class Door(Protocol):
    """``host`` and ``port`` are what drivers take; known once it is open."""

    host: str
    port: int

    async def open(self, handler: Handler) -> asyncio.Server:
        """Listen. ``handler`` makes the protocol of each connection.

        Raises:
            OSError: the system does not allow it.
            CourseError: there is no place for it.
        """

    def admits(self, transport: asyncio.Transport) -> bool:
        """Whether this client may go on."""

    def close(self) -> None:
        """Leave nothing behind. Does nothing the second time."""


class SocketFolder:
    """A new folder of mode 0700 for one socket, which goes with it, or with this process at its exit.

    What a killed process leaves is a folder of ours with a dead socket; the next one removes it.

    Attributes:
        path: the folder, which drivers take for the host.
        socket: the file to listen at.

    Raises:
        CourseError: there is no place for it.
    """

    def __init__(self) -> None:
        self.path = new_private_folder(PREFIX, SOCKET, None, SHARED_MEMORY)  # no disk to wait for
        self.socket = self.path / SOCKET
        self._remove = weakref.finalize(self, _remove, self.path, _hold(self.path), os.getpid())
        _clear_away_the_dead(self.path.parent)

    def close(self) -> None:
        """Remove it. Does nothing the second time, nor in a fork."""
        self._remove()


class SocketDoor:
    """A Unix socket in a folder of its own."""

    def __init__(self) -> None:
        self.host, self.port = "", PORT
        self._folder: SocketFolder | None = None

    async def open(self, handler: Handler) -> asyncio.Server:
        self._folder = SocketFolder()
        self.host = str(self._folder.path)
        return await asyncio.get_running_loop().create_unix_server(handler, self._folder.socket, backlog=BACKLOG)

    def admits(self, transport: asyncio.Transport) -> bool:
        return True

    def close(self) -> None:
        if self._folder is not None:
            self._folder.close()

    def __str__(self) -> str:
        return "at a socket in a folder of its own"


class PortDoor:
    """A port of 127.0.0.1 for connections of this process and its children."""

    def __init__(self) -> None:
        self.host, self.port = LOCAL, 0

    async def open(self, handler: Handler) -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(handler, self.host, self.port, backlog=BACKLOG)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def admits(self, transport: asyncio.Transport) -> bool:
        theirs, ours = transport.get_extra_info("peername"), (self.host, self.port)
        this = psutil.Process()
        return _has_connection(this, theirs, ours) or any(
            _has_connection(child, theirs, ours) for child in this.children(recursive=True)
        )

    def close(self) -> None:
        pass

    def __str__(self) -> str:
        return f"on {LOCAL}"


def _has_connection(process: psutil.Process, start: tuple[str, int], end: tuple[str, int]) -> bool:
    try:
        return any((known.laddr, known.raddr) == (start, end) for known in process.net_connections("tcp4"))
    except (psutil.Error, OSError):
        return False


def _hold(folder: Path) -> int | None:
    """Lock the folder for as long as this process lives, however it ends; None where that cannot be done."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # some network file systems
        os.close(handle)
        return None
    return handle


def _remove(folder: Path, handle: int | None, owner: int) -> None:
    if os.getpid() != owner:  # a fork: the folder is its parent's
        return
    shutil.rmtree(folder, ignore_errors=True)
    if handle is not None:
        os.close(handle)


def _clear_away_the_dead(place: Path) -> None:
    """Remove what killed processes left in ``place``: folders of ours that no living process holds."""
    with suppress(OSError), os.scandir(place) as entries:
        for folder in [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX)]:
            with suppress(OSError):
                if is_private(folder) and time.time() - folder.lstat().st_mtime > JUST_MADE:
                    _remove_unless_held(folder)


def _remove_unless_held(folder: Path) -> None:
    handle = _hold(folder)
    if handle is None:
        return
    try:
        (folder / SOCKET).unlink(missing_ok=True)
        folder.rmdir()  # and not when something else lies in it: we did not put it there
    finally:
        os.close(handle)
