"""PostgreSQL addresses in the spellings that SQLAlchemy, asyncpg and libpq want."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from course_lib.errors import CourseError

# libpq's options that asyncpg would send to the server as settings, which refuses them
LIBPQ_ONLY = {"channel_binding", "gssencmode", "sslnegotiation", "connect_timeout"}


def parse_url(text: str) -> URL:
    """A ``postgresql://`` address of any driver, as an asyncpg URL; ``sslmode`` becomes asyncpg's ``ssl``.

    Raises:
        CourseError: it is no PostgreSQL address. The text itself is not repeated: it may hold a password.
    """
    wrong = CourseError(
        "DATABASE_URL is not the address of a PostgreSQL.",
        "Write it like postgresql://user:password@host:5432/database",
    )
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):
        raise wrong from None
    if url.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise wrong
    if url.port is not None and not 0 < url.port < 65536:
        raise wrong
    if "@" in (url.host or ""):  # the rest of a password: such a host must not be spoken
        raise CourseError(
            "The user or the password in DATABASE_URL holds an @ of its own.",
            "Write it as %40 there.",
        )
    query = {key: value for key, value in url.query.items() if key not in LIBPQ_ONLY}
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


def libpq_options(url: URL) -> dict[str, str | tuple[str, ...]]:
    """What stands after the question mark, in libpq's words: ``sslmode`` for asyncpg's ``ssl``."""
    return {("sslmode" if key == "ssl" else key): value for key, value in url.query.items()}


def libpq_uri(url: URL, database: str | None = None) -> str:
    """The same address as a URI for libpq and asyncpg, with the password in it: never print it."""

    def quoted(value: object) -> str:
        return quote(str(value), safe="")  # libpq takes "+" for a plus sign, so not quote_plus

    options = libpq_options(url)
    user = quoted(url.username) if url.username else ""
    password = f":{quoted(url.password)}" if url.password else ""
    host = (f"[{url.host}]" if url.host and ":" in url.host else url.host) or ""
    port = f":{url.port}" if url.port else ""
    name = quoted(database or url.database or "")
    query = "&".join(f"{key}={quoted(value)}" for key, value in options.items())
    account = f"{user}{password}@" if user else ""
    return f"postgresql://{account}{host}{port}/{name}" + (f"?{query}" if query else "")


def public_uri(url: URL, database: str) -> str:
    """The address for a person to read or to give to psql, which asks for the password: it is left out."""
    return libpq_uri(url._replace(password=None), database)


def spoken(url: URL) -> str:
    """The server as a person names it: host and port, nothing secret and no path."""
    return f"{url.host}:{url.port or 5432}" if url.host else "the local socket"


@dataclass(frozen=True)
class Address:
    """How to reach a running cluster: a socket folder, or 127.0.0.1 with a password (Windows)."""

    host: str
    port: int
    password: str | None = None

    @property
    def dsn(self) -> str:
        """A libpq URI of the maintenance database; ``quote``, since libpq takes ``+`` for a plus sign."""
        if self.password is None:
            return f"postgresql://postgres@/postgres?host={quote(self.host, safe='')}&port={self.port}"
        return f"postgresql://postgres:{quote(self.password, safe='')}@{self.host}:{self.port}/postgres"
