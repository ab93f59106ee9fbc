"""Where an engine's address leads, and the same address through a proxy's door."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.instruments.network.door import LOCAL

WAY = {"host", "port", "hostaddr"}
OF_THE_CONNECTION = {"ssl", "sslmode", "sslnegotiation", "gssencmode", "requirepeer"}  # and of who is at its other end
HOW_TO_NAME_A_HOST = "Name one in the address, like postgresql://user@localhost:5432/database"

OF_TLS = re.compile(r"ssl|target_session_attrs=")  # what the relay sees to, or the choice among several that is made


@dataclass(frozen=True)
class Upstream:
    """The server behind the proxy: a host and a port, or the path of a unix socket and port 0."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        return self.port == 0

    def __str__(self) -> str:
        return "the local socket" if self.is_socket else f"{self.host}:{self.port}"


def upstream_of(url: URL) -> Upstream:
    """The server that ``url`` names. What it leaves out is read from PGHOST and PGPORT, as drivers do.

    Raises:
        CourseError: it names no host, or several.
    """
    named = url.query.get("host")
    if isinstance(named, tuple) or "," in (named or ""):
        raise CourseError(
            "This engine's address names several hosts; the proxy stands in front of one.",
            "Make an engine whose address names one of them.",
        )
    host, port = named or url.host or os.environ.get("PGHOST"), url.query.get("port") or url.port
    if not host:
        raise CourseError("This engine's address names no host to put a proxy in front of.", HOW_TO_NAME_A_HOST)
    number = str(port or os.environ.get("PGPORT") or 5432)
    if host.startswith("/"):
        return Upstream(f"{host}/.s.PGSQL.{number}", 0)
    if named and named.count(":") == 1:  # SQLAlchemy's own spelling: ?host=name:port
        host, _, number = named.partition(":")
    return Upstream(host, int(number))


def through_proxy(url: URL, host: str, port: int) -> URL:
    """The address ``url`` with a proxy's door in the server's place: the folder of a Unix socket, or 127.0.0.1.

    Encryption passes through the proxy unread. Over a Unix socket no driver encrypts, so none is asked for there.

    Raises:
        CourseError: the server's certificate is to be checked for a name that the driver would not look for.
    """
    on_asyncpg = url.get_driver_name() == "asyncpg"
    query = {key: value for key, value in url.query.items() if key not in WAY}
    if host.startswith("/"):
        return _unencrypted(url, query | {"host": host, "port": str(port)})
    if (query.get("ssl") or query.get("sslmode")) == "verify-full":
        if on_asyncpg:
            raise CourseError(
                f"verify-full looks for {LOCAL} in the server's certificate, because the proxy stands there.",
                "Give network_delay an engine with ssl=verify-ca: same encryption, without the look at the name.",
            )
        host, query["hostaddr"] = upstream_of(url).host, host  # libpq checks the name of the one, connects to the other
    return url.set(host=host, port=port, query=query)


def through_relay(url: URL, host: str, port: int) -> URL:
    """The address ``url`` with a relay's door in the server's place: the folder of a Unix socket, or 127.0.0.1.

    The relay does not encrypt what its clients say to it, and encrypts what it says to the server. The address names
    no option where none is needed, so that its parts can be given to any driver.
    """
    query = {key: value for key, value in url.query.items() if key not in WAY}
    if host.startswith("/"):
        return _unencrypted(url, query | {"host": host, "port": str(port)})
    return _unencrypted(url, query).set(host=host, port=port)


def _unencrypted(url: URL, query: dict[str, str | tuple[str, ...]]) -> URL:
    query = {key: value for key, value in query.items() if key not in OF_THE_CONNECTION}
    if isinstance(dsn := query.get("dsn"), str):
        kept = [pair for pair in dsn.partition("?")[2].split("&") if not OF_TLS.match(pair)]
        del query["dsn"]
        query |= {"dsn": f"postgresql:///?{'&'.join(kept)}"} if kept else {}
    if str(query.get("host", "")).startswith("/") and not os.environ.get("PGSSLMODE", "").startswith("verify"):
        pass  # nobody encrypts over a Unix socket; asyncpg looks for certificates all the same if it is to verify them
    elif url.get_driver_name() == "asyncpg":
        query["ssl"] = "disable"
    else:
        query |= {"sslmode": "disable", "gssencmode": "disable"}
    return URL.create(url.drivername, url.username, url.password, database=url.database, query=query)
