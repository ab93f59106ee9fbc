"""One end of a connection in the relay's loop: a socket that never waits, and what it could not take yet."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from course_lib.instruments.network.relay.poller import READ, WRITE, Poller

PIECE = 1 << 16  # bytes that are read at once


class End:
    """``received`` is called with what arrives, ``lost`` once when the other side is gone, ``drained`` when all that
    was sent is with the system. Each may be changed at any time.
    """

    def __init__(self, poller: Poller, sock: socket.socket, lost: Callable[[], object]) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.received: Callable[[bytes], object] = lambda data: None
        self.drained: Callable[[], object] = lambda: None
        self.lost = lost
        self.closed = False
        self._poller = poller
        self._backlog: deque[memoryview] = deque()
        self._reading = True
        self._closing = False
        self._watched = READ
        poller.register(sock, READ, self)

    @property
    def is_full(self) -> bool:
        """Whether something that was sent waits here for the other side to read."""
        return bool(self._backlog)

    def send(self, data: bytes) -> None:
        """Send, now or as soon as the system takes it."""
        if self.closed or self._closing:
            return
        if self._backlog:
            self._backlog.append(memoryview(data))
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._lose()
            return
        if sent < len(data):
            self._backlog.append(memoryview(data)[sent:])
            self._watch()

    def read(self, reading: bool) -> None:
        """Whether to go on reading."""
        if reading != self._reading:
            self._reading = reading
            self._watch()

    def close_when_sent(self) -> None:
        """Close, after what was sent."""
        self._closing = True
        if self._backlog:
            self._watch()
        else:
            self.close()

    def close(self) -> None:
        """Close now."""
        if not self.closed:
            self.closed = True
            if self._watched:
                self._poller.unregister(self.sock)
            self.sock.close()

    def ready(self, mask: int) -> None:
        """The system can go on."""
        if mask & WRITE and not self.closed:
            self._flush()
        if mask & READ and self._watched & READ and not self.closed:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self.sock.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self.received(data)
        else:
            self._lose()

    def _flush(self) -> None:
        try:
            while self._backlog:
                data = self._backlog[0]
                sent = self.sock.send(data)
                if sent < len(data):
                    self._backlog[0] = data[sent:]
                    return
                self._backlog.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lose()
            return
        if self._closing:
            self.close()
            return
        self._watch()
        self.drained()

    def _lose(self) -> None:
        self._backlog.clear()
        self.close()
        self.lost()

    def _watch(self) -> None:
        if self.closed:
            return
        wanted = READ * (self._reading and not self._closing) | WRITE * bool(self._backlog)
        if wanted == self._watched:
            return
        with suppress(KeyError):
            if not wanted:
                self._poller.unregister(self.sock)
            elif self._watched:
                self._poller.modify(self.sock, wanted, self)
            else:
                self._poller.register(self.sock, wanted, self)
        self._watched = wanted
