"""The address by which learners reach the server of their class, which need not be the teacher's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import URL

from course_lib.classroom.server import HOST, class_cluster
from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_options, libpq_uri, parse_url
from course_lib.postgres.server import Server

HOST_NAME = re.compile(r"[\w.:%-]+\Z")
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Address:
    """A host, a port, and whether the wire has to be encrypted (libpq's ``sslmode``, where the teacher's has one)."""

    host: str
    port: int
    sslmode: str | None = None

    @classmethod
    def of(cls, url: str) -> Address:
        """That in a DATABASE_URL which was handed out."""
        parsed = parse_url(url)
        return cls(str(parsed.host), parsed.port or 5432, libpq_options(parsed).get("sslmode"))

    def url(self, role: str, password: str) -> str:
        """A learner's DATABASE_URL: their home database, with the password in it."""
        query = {"ssl": self.sslmode} if self.sslmode else {}
        url = URL.create("postgresql+asyncpg", role, password, self.host, self.port, role, query)
        return str.__str__(libpq_uri(url))

    @property
    def local(self) -> bool:
        """True when only programs on the server's own machine can use it."""
        return self.host in LOCAL


def learners_address(server: Server, given: str | None, earlier: str | None) -> Address:
    """How learners reach ``server``.

    Args:
        given: ``host`` or ``host:port``, where the teacher says so.
        earlier: a DATABASE_URL of a role on this server that was handed out before: its address stays good.

    Raises:
        CourseError: ``given`` is no address, or the teacher's own is a socket that only this machine has.
    """
    sslmode = libpq_options(server.url).get("sslmode")
    if given:
        return _given(given, sslmode)
    if server.embedded:
        return Address(HOST, int(class_cluster().settings["port"]))
    if earlier and not (handed_out := Address.of(earlier)).local:  # that would be the embedded server, tried before
        return handed_out
    if not server.url.host or "," in server.url.host:
        raise CourseError(
            "DATABASE_URL names no single host, so the course cannot tell how learners reach the server.",
            "Say it: --address HOST:PORT",
        )
    return Address(server.url.host, server.url.port or 5432, sslmode)


def _given(text: str, sslmode: str | None) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port or 5432
    except ValueError:
        host, port = "", 0
    if not HOST_NAME.match(host) or parts.path or parts.username is not None or parts.query:
        raise CourseError("The address has to be a host and a port.", "For example: --address db.example.org:5432")
    return Address(host, port, sslmode)
