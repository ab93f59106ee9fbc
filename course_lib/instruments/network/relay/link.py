"""One client's connection through the relay, and the one to the server that belongs to it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from course_lib.instruments.network.relay.conversation import HEADER, Conversation
from course_lib.instruments.network.relay.end import End
from course_lib.instruments.network.relay.poller import Poller
from course_lib.instruments.network.relay.record import Record
from course_lib.instruments.network.relay.upstream import Reaching, Upstream

LONGEST_GREETING = 10_000  # bytes; PostgreSQL's own limit
TLS_QUESTION, GSS_QUESTION, CANCEL = 80877103, 80877104, 80877102
AUTHENTICATION, ERROR = b"RE"
SASL = 10
BOUND_TO_TLS = b"SCRAM-SHA-256-PLUS"


class Link:
    """From a client that has just come to its end. ``ended`` is called once both sides are gone."""

    def __init__(
        self, poller: Poller, client: socket.socket, upstream: Upstream, record: Record,
        ended: Callable[[Link], object],
    ) -> None:  # fmt: skip
        self._poller = poller
        self._record = record
        self._ended = ended
        self._greeting = b""
        self._held = b""  # the server's, until a message is whole
        self._ways = upstream.ways()
        self._conversation: Conversation | None = None
        self._server: End | None = None
        self._reaching: Reaching | None = None
        self._client = End(poller, client, self._client_left)
        self._client.received = self._greet

    # what the client begins with

    def _greet(self, data: bytes) -> None:
        self._greeting += data
        while len(self._greeting) >= 8:
            length, code = struct.unpack_from(">II", self._greeting)
            if not 8 <= length <= LONGEST_GREETING:
                self.cut()
                return
            if len(self._greeting) < length:
                return
            if code not in (TLS_QUESTION, GSS_QUESTION):
                self._client.read(False)
                if code != CANCEL:
                    self._conversation = Conversation(self._record, self._record.connected())
                self._reach()
                return
            self._greeting = self._greeting[length:]
            self._client.send(b"N")  # in a folder of mode 0700 nobody else reads along

    # to the server

    def _reach(self) -> None:
        self._held = b""
        self._reaching = Reaching(self._poller, next(self._ways), self._reached, self._failed)
        self._reaching.start()

    def _failed(self, reason: str, another_way_may_do: bool) -> None:
        self._reaching = None
        if another_way_may_do and self._ways.left:
            self._reach()
            return
        fields = [b"SFATAL", b"VFATAL", b"C08001", b"MThe server cannot be reached: " + reason.encode(), b"", b""]
        body = b"\0".join(fields)
        self._client.send(b"E" + struct.pack(">I", len(body) + 4) + body)
        self._server_left()

    def _reached(self, server: End) -> None:
        self._reaching = None
        self._server = server
        server.lost = self._server_left
        server.drained = lambda: self._client.read(True)
        self._client.drained = lambda: server.read(True)
        self._client.received = self._pass_up
        server.received = self._authenticate
        self._record.bytes_sent += len(self._greeting)
        server.send(self._greeting)
        self._client.read(not server.is_full)

    def _authenticate(self, data: bytes) -> None:
        """Until the server has let the client in, whole messages are passed on: one of them may have to be changed."""
        self._held += data
        while len(self._held) >= 5:
            kind, length = HEADER(self._held)
            message, rest = self._held[: length + 1], self._held[length + 1 :]
            if len(message) <= length:
                return
            if kind == ERROR and self._ways.left:
                self._try_again()
                return
            self._held = rest
            code = struct.unpack_from(">I", message, 5)[0] if kind == AUTHENTICATION and length >= 8 else None
            if kind == AUTHENTICATION:
                self._ways.close()
            if code == 0:
                assert self._server is not None
                self._server.received = self._pass_down
                message, self._held = message + rest, b""
            self._pass_down(_without_binding(message) if code == SASL else message)

    def _try_again(self) -> None:
        """The server would not have this client with TLS, or without."""
        assert self._server is not None
        self._server.close()
        self._server = None
        self._client.read(False)
        self._reach()

    # both ways

    def _pass_up(self, data: bytes) -> None:
        server = self._server
        if server is None:
            return
        self._record.bytes_sent += len(data)
        if self._conversation is not None:
            self._conversation.asked(data)
        server.send(data)
        if server.is_full:
            self._client.read(False)

    def _pass_down(self, data: bytes) -> None:
        self._record.bytes_received += len(data)
        if self._conversation is not None:
            self._conversation.answered(data)
        self._client.send(data)
        if self._client.is_full and self._server is not None:
            self._server.read(False)

    # the end

    def _client_left(self) -> None:
        if self._server is not None and not self._server.closed:
            self._server.drained = lambda: None
            self._server.close_when_sent()
        self._leave()

    def _server_left(self) -> None:
        self._client.drained = lambda: None
        self._client.close_when_sent()
        self._leave()

    def _leave(self) -> None:
        if self._reaching is not None:
            self._reaching.close()
        if self._conversation is not None:
            self._conversation.lost()
        self._ended(self)

    def cut(self) -> None:
        """Both connections end now, whatever is on its way."""
        for end in (self._client, self._server):
            if end is not None:
                end.close()
        self._leave()


def _without_binding(message: bytes) -> bytes:
    """AuthenticationSASL without the mechanism that binds to TLS, which this client does not speak."""
    offered = [name for name in message[9:].split(b"\0") if name and name != BOUND_TO_TLS]
    body = message[5:9] + b"".join(name + b"\0" for name in offered) + b"\0"
    return message[:1] + struct.pack(">I", len(body) + 4) + body
