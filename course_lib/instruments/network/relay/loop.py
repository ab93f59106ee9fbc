"""The relay's loop: doors that are opened and closed on request, links through them, and what is asked about them.

A request is a length and ``marshal.dumps((number, command, *arguments))``; so is its answer, ``(number, result)`` or
``(number, None, reason)``. Whoever lost the thread, because a signal came between, sends a request whose command is
``sync`` with a token, and reads on behind the token.
"""

from __future__ import annotations

import gc
import marshal
import os
import socket
import struct
from contextlib import suppress
from typing import Any

from course_lib.instruments.network.relay.end import End
from course_lib.instruments.network.relay.link import Link
from course_lib.instruments.network.relay.poller import READ, Poller, Ready, new_poller
from course_lib.instruments.network.relay.record import Record
from course_lib.instruments.network.relay.upstream import Upstream

LENGTH = struct.Struct(">I")
BACKLOG = 1024  # clients that wait to be let in: on a Unix socket, one more is refused at once


class Door:
    """A place where clients come in to one server, and the record of what passes there."""

    def __init__(self, poller: Poller, path: str, upstream: Upstream) -> None:
        self._poller = poller
        self._path = path
        self._upstream = upstream
        self._links: set[Link] = set()
        self.record = Record()
        if path:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(path)
        else:  # Windows, where a Unix socket is not to be had from Python: the server behind asks for a password
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self.port = 0 if path else self._listener.getsockname()[1]
        poller.register(self._listener, READ, self)

    def ready(self, mask: int) -> None:
        """Somebody knocks."""
        with suppress(OSError):  # gone again, or no handle left: the next one may have more luck
            client, _ = self._listener.accept()
            self._links.add(Link(self._poller, client, self._upstream, self.record, self._links.discard))

    def close(self) -> None:
        """Cut everybody off and take the door away."""
        self._poller.unregister(self._listener)
        self._listener.close()
        for link in list(self._links):
            link.cut()

    def remove_folder(self) -> None:
        """Of a process that was killed and cannot do it itself."""
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108
                os.rmdir(os.path.dirname(self._path))  # noqa: PTH106, PTH120


class Relay:
    """Serves one control socket until its other side is gone."""

    def __init__(self, control: socket.socket) -> None:
        self._poller = new_poller()
        self._doors: dict[int, Door] = {}
        self._asked = b""
        self._control = End(self._poller, control, self._left)
        self._control.received = self._read
        self._running = True

    def run(self) -> None:
        """Until nobody asks any more."""
        while self._running:
            for who, mask in self._poller.wait():
                try:
                    who.ready(mask)
                except Exception as error:
                    self._note(error, who)

    def _note(self, error: Exception, source: Ready) -> None:
        """A mistake of ours ends a connection, not the relay; the record says that something is missing from it."""
        if source is self._control:
            raise error
        line, place = 0, error.__traceback__
        while place is not None:
            line, place = place.tb_lineno, place.tb_next
        for door in self._doors.values():
            door.record.trouble = f"{type(error).__name__}: {error} (line {line})"
        lost = getattr(source, "lost", None)
        if isinstance(source, End):
            source.close()
        if lost is not None:
            lost()

    def _left(self) -> None:
        self._running = False
        for door in self._doors.values():
            door.close()
            door.remove_folder()

    def _read(self, data: bytes) -> None:
        self._asked += data
        while len(self._asked) >= 4:
            length = LENGTH.unpack_from(self._asked)[0]
            if len(self._asked) < 4 + length:
                return
            request, self._asked = self._asked[4 : 4 + length], self._asked[4 + length :]
            number, command, *arguments = marshal.loads(request)
            if command == "sync":
                self._control.send(arguments[0])
                continue
            try:
                answer: tuple[Any, ...] = (number, self._do(command, *arguments))
            except (OSError, ValueError) as error:
                answer = (number, None, getattr(error, "strerror", None) or str(error))
            packed = marshal.dumps(answer)
            self._control.send(LENGTH.pack(len(packed)) + packed)
            if command == "close":
                gc.collect()  # now, when nobody waits for us

    def _do(self, command: str, name: int, *arguments: Any) -> Any:
        if command == "open":
            path, host, port, options = arguments
            self._doors[name] = Door(self._poller, path, Upstream(host, port, options))
            return self._doors[name].port
        if command == "read":
            return self._doors[name].record.news(*arguments)
        if command == "close" and name in self._doors:
            self._doors.pop(name).close()
        return None


def main(control: socket.socket) -> None:
    """The process: serve until the parent lets go of its side."""
    gc.disable()
    gc.freeze()
    Relay(control).run()
