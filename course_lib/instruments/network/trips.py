"""When has the server answered, so that the client may go on? Read off the bytes that pass, without parsing them all.

A round trip is a burst of the client and the answer it waits for. PostgreSQL ends an answer with ReadyForQuery. A
large answer comes in many pieces and a long request goes out in many, so pieces alone would count too many. A COPY
into the server is one round trip, as asyncpg does it; libpq waits once more, before it sends the rows.
"""

from __future__ import annotations

READY_FOR_QUERY = b"Z\x00\x00\x00\x05"  # one byte with the transaction's state follows
FLUSH = b"H\x00\x00\x00\x04"  # the client wants what is there so far, without ReadyForQuery after it


class Trips:
    """The round trips of one connection.

    Until the first ReadyForQuery, that is while connecting, and on an encrypted connection for good, a round trip is
    a burst of the client followed by a burst of the server.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._flushed = False
        self._readable = False
        self._last = b""

    def asked(self, data: bytes) -> None:
        """The client's ``data`` goes to the server."""
        self._waiting = True
        self._flushed = data.endswith(FLUSH)

    def answered(self, data: bytes) -> bool:
        """True when ``data`` completes the answer that the client waits for."""
        self._last = (self._last + data[-6:])[-6:]
        ready = self._last.startswith(READY_FOR_QUERY)
        self._readable = self._readable or ready
        complete = ready or self._flushed or not self._readable
        if not (self._waiting and complete):
            return False
        self._waiting = self._flushed = False
        return True
