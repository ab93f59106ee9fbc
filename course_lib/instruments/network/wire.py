"""The wire: an address that leads to the same database through a relay, and a log of all that passes there.

Whatever talks to that address is seen: any engine, any driver, any process. The log lies in another process, so that
nothing that is done to SQLAlchemy or to ``QueryLog`` changes it.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from itertools import count
from typing import Any

import psycopg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.instruments.network.door import LOCAL, PORT, SocketFolder
from course_lib.instruments.network.relay_process import RelayFailed, RelayProcess, relay_process
from course_lib.instruments.network.route import Upstream, through_relay, upstream_of
from course_lib.instruments.network.wire_log import Traffic, WireLog
from course_lib.instruments.query_log import QueryLog
from course_lib.postgres.address import libpq_options, libpq_uri
from course_lib.postgres.failures import DOCTOR

_doors = count(1)


class Wire:
    """The way to one database through the relay. ``Wire.open(url)`` makes it, ``close`` cuts it.

    Attributes:
        url: the address through the relay, for the same driver; for another one, ``url.set(drivername=…)``. Nobody
            but this user's programs gets in there.
    """

    def __init__(self, url: URL, relay: RelayProcess, door: int, folder: SocketFolder | None) -> None:
        self.url = url
        self._relay = relay
        self._door = door
        self._folder = folder
        self._traffic = Traffic()
        self._taken = 0
        self._close = weakref.finalize(self, _close, relay, door, folder)

    @classmethod
    def open(cls, url: URL) -> Wire:
        """A way to the database of ``url``. Encryption that the address asks for is spoken by the relay.

        Raises:
            CourseError: the address names no server, its certificates cannot be read, or the system does not let the
                relay start or listen.
        """
        upstream, relay, door = _chosen(url), relay_process(), next(_doors)
        folder = SocketFolder() if os.name != "nt" else None
        try:
            path = str(folder.socket) if folder is not None else ""
            port = relay.ask("open", door, path, upstream.host, upstream.port, _encryption(url))
        except RelayFailed as failure:
            if folder is not None:
                folder.close()
            raise CourseError(
                f"There is no way through a relay to {upstream}: {failure.strerror}.", DOCTOR
            ) from failure
        host = str(folder.path) if folder is not None else LOCAL
        return cls(through_relay(url, host, port or PORT), relay, door, folder)

    def log(self, beside: QueryLog | None = None) -> WireLog:
        """What passes from now on, until the log's ``close``, or the end of its block.

        Args:
            beside: a log of the engine that uses this wire; it tells which line issued a statement.
        """
        return WireLog(self, beside)

    @property
    def traffic_so_far(self) -> Traffic:
        """What was read the last time."""
        return self._traffic

    def traffic(self) -> Traffic:
        """Everything that has passed so far.

        Raises:
            CourseError: the relay has ended, or lost track.
        """
        if self._close.alive:
            news = self._relay.ask("read", self._door, self._taken)
            self._traffic.add(*news[1:])
            self._taken = news[0]  # last: what an interrupt keeps from being taken in is told again
        return self._traffic

    def connections(self) -> int:
        """How many connections are open now."""
        return sum(closed is None for _, closed in self.traffic().connections)

    def close(self) -> None:
        """Cut every connection and leave nothing behind. What was read can still be read."""
        self._close()


def _close(relay: RelayProcess, door: int, folder: SocketFolder | None) -> None:
    if relay.owner == os.getpid() and not relay.broken:
        with suppress(CourseError, RelayFailed):
            relay.ask("close", door)
    if folder is not None:
        folder.close()


def _chosen(url: URL) -> Upstream:
    """The one server that the relay stands in front of; of several, the one that a driver takes."""
    hosts = str(url.query.get("host", ""))
    if "," not in hosts and not isinstance(url.query.get("host"), tuple):
        return upstream_of(url)
    try:
        with psycopg.connect(libpq_uri(url)) as connection:
            host, port = connection.info.host, connection.info.port
    except psycopg.Error as error:
        raise CourseError(f"None of the servers that the address names can be used: {error}", DOCTOR) from error
    return upstream_of(URL.create("postgresql", host=host, port=port))


def _encryption(url: URL) -> dict[str, str]:
    """``sslmode`` and its company, from the address or from libpq's variables."""
    given: dict[str, Any] = libpq_options(url)
    found = {name: value for name, value in given.items() if name.startswith("ssl")}
    for name in ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation"):
        if value := os.environ.get(f"PG{name.upper()}"):
            found.setdefault(name, value)
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if value := given.get(name) or os.environ.get(f"PG{name.replace('_', '').upper()}"):
            found[name] = value
    return found
