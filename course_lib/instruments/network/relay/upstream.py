"""The way to the server: a Unix socket or TCP, with TLS where the address asks for it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EINPROGRESS
from typing import TYPE_CHECKING

from course_lib.instruments.network.relay.end import End
from course_lib.instruments.network.relay.poller import WRITE, Poller

if TYPE_CHECKING:
    import ssl

PLAIN, SECURE, DIRECT = "plain", "TLS if the server speaks it", "TLS from the first byte"
QUESTION = struct.pack(">II", 8, 80877103)  # whether the server speaks TLS
PATIENCE = 5  # seconds, for a Unix socket's queue
OPTIONAL = ("allow", "prefer")


class Upstream:
    """A server.

    Args:
        host: a name or a number, or the path of a Unix socket when ``port`` is 0.
        port: its port.
        options: ``sslmode`` and what belongs to it, in libpq's words.
    """

    def __init__(self, host: str, port: int, options: Mapping[str, str]) -> None:
        self.host = host
        self.port = port
        self.mode = options.get("sslmode", "prefer")
        self.places: list[tuple[int, str | tuple[str, int]]] = []  # family and address, in the order to try them
        self.context: ssl.SSLContext | None = None
        if port == 0:
            self.mode = "disable"
            self.places = [(socket.AF_UNIX, host)]
        else:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.places = [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]
        self.first = DIRECT if options.get("sslnegotiation") == "direct" else SECURE
        if self.mode != "disable":
            from course_lib.instruments.network.relay.tls import context_for

            self.context = context_for({**options, "sslmode": self.mode})

    def ways(self) -> Ways:
        """The ways to try, in order."""
        modes = {"disable": [PLAIN], "allow": [PLAIN, SECURE], "prefer": [SECURE, PLAIN]}
        return Ways(self, modes.get(self.mode, [self.first]))


class Ways:
    """What was not tried yet for one client."""

    def __init__(self, upstream: Upstream, left: list[str]) -> None:
        self.upstream = upstream
        self.left = left

    def __next__(self) -> tuple[Upstream, str]:
        return self.upstream, self.left.pop(0)

    def close(self) -> None:
        """The server talks: there is no going back."""
        self.left = []


class Reaching:
    """One try to reach the server.

    ``reached`` is called with the server's end, or ``failed`` with a reason and whether it is one of this way only.
    """

    def __init__(
        self, poller: Poller, way: tuple[Upstream, str], reached: Callable[[End], object],
        failed: Callable[[str, bool], object],
    ) -> None:  # fmt: skip
        self._poller = poller
        self._upstream, self._way = way
        self._reached, self._failed = reached, failed
        self._places = list(self._upstream.places)
        self._sock: socket.socket | None = None
        self._end: End | None = None
        self.closed = False

    def start(self) -> None:
        """Connect to the first place that answers."""
        family, address = self._places.pop(0)
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM)
            if family == getattr(socket, "AF_UNIX", None):
                self._sock.settimeout(PATIENCE)
                self._sock.connect(address)
                self._connected()
                return
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poller.register(self._sock, WRITE, self)
            if (code := self._sock.connect_ex(address)) not in (0, EINPROGRESS, 10035):  # Windows: WSAEWOULDBLOCK
                raise OSError(code, _words(code))
        except OSError as error:
            self._next(error.strerror or str(error))

    def ready(self, mask: int) -> None:
        """The socket is connected, or will not be."""
        if self.closed or self._sock is None:
            return
        if code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._next(_words(code))
            return
        try:
            self._sock.getpeername()
        except OSError:  # what was ready had the same number before
            return
        self._poller.unregister(self._sock)
        self._connected()

    def _next(self, reason: str) -> None:
        self._drop_socket()
        if self._places:
            self.start()
        else:
            self._failed(reason, False)

    def _drop_socket(self) -> None:
        if self._sock is not None:
            with suppress(KeyError, ValueError):
                self._poller.unregister(self._sock)
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        self.closed = True
        if self._end is not None:
            self._end.close()
        self._drop_socket()

    # once connected

    def _connected(self) -> None:
        sock, self._sock = self._sock, None
        assert sock is not None
        if self._way == DIRECT:
            self._secure(sock)
            return
        self._end = End(self._poller, sock, lambda: self._fail("it hung up"))
        if self._way == PLAIN:
            self._reached(self._end)
        else:
            self._end.received = self._answer
            self._end.send(QUESTION)

    def _answer(self, data: bytes) -> None:
        end = self._end
        assert end is not None
        if data == b"N" and self._upstream.mode in OPTIONAL:
            self._reached(end)
        elif data == b"S":
            sock = end.sock.dup()  # another end takes it over
            end.close()
            self._secure(sock)
        else:
            self._fail("it does not speak TLS")

    def _secure(self, sock: socket.socket) -> None:
        from course_lib.instruments.network.relay.tls import SecureEnd

        context = self._upstream.context
        assert context is not None
        name = (
            self._upstream.host if self._upstream.mode == "verify-full" or not _is_number(self._upstream.host) else None
        )
        self._end = SecureEnd(
            self._poller, sock, lambda: self._fail("it hung up"), context, name, self._secured, self._fail
        )

    def _secured(self) -> None:
        if self._end is not None:
            self._reached(self._end)

    def _fail(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._failed(reason, True)


def _is_number(host: str) -> bool:
    """True for an IP address: TLS sends names only."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _words(code: int) -> str:
    import os

    return os.strerror(code)
