"""PostgreSQL addresses in the spellings that SQLAlchemy, asyncpg and libpq want."""

from __future__ import annotations

import configparser
import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.masking import SecretText, is_secret, short
from course_lib.postgres.spellings import Parameters, read_parameters, unusable
from course_lib.postgres.url_options import ENGINE_ONLY, settle_options

SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")
"""Where asyncpg looks; libpq looks only where its builder thought best."""


def parse_url(text: str) -> URL:
    """A PostgreSQL address in any spelling, as an asyncpg URL: complete, and with the password in its own field.

    What SQLAlchemy would hand to ``asyncpg.connect`` as an argument that it does not have, such as ``sslrootcert``
    or ``options``, stands in an address within the address, the argument ``dsn``, where asyncpg reads it.

    Raises:
        CourseError: it is no PostgreSQL address. The text itself is not repeated: it may hold a password.
    """
    found = _completed(settle_options(_with_service(read_parameters(text))))
    host, port = found.pop("host"), found.pop("port", None)
    account = {"username": found.pop("user"), "password": found.pop("password", None)}
    place: dict[str, str | int | None] = {"host": host, "port": int(port) if port and port.isdigit() else None}
    query = {key: found.pop(key) for key in ENGINE_ONLY if key in found}
    if host.startswith("/") or "," in host:
        place = {}
        query |= {"host": host} | ({"port": port} if port else {})
    database = found.pop("dbname")
    if "sslmode" in found:
        query["ssl"] = found.pop("sslmode")
    if found:
        query["dsn"] = "postgresql:///?" + _query(found)
    return URL.create("postgresql+asyncpg", **account, **place, database=database, query=query)  # type: ignore[arg-type]


def _with_service(given: Parameters) -> Parameters:
    """With what the service file says about ``service``; what the address says itself goes before it."""
    name = given.get("service")
    if name is None:
        return given
    file = os.environ.get("PGSERVICEFILE") or Path("~/.pg_service.conf").expanduser()
    services = configparser.RawConfigParser(delimiters="=", comment_prefixes="#", strict=False)
    try:
        services.read(file, encoding="utf-8")
        found = dict(services[name])
    except (KeyError, configparser.Error, UnicodeError, OSError):
        raise CourseError(
            "The service that DATABASE_URL names is not in your service file.",
            "Add it to ~/.pg_service.conf or to the file that PGSERVICEFILE names, or write the address itself.",
        ) from None
    return found | {key: value for key, value in given.items() if key != "service"}


def _completed(found: Parameters) -> Parameters:
    """What is left out is taken from libpq's variables, then as libpq guesses it: once, for every driver."""
    given = os.environ.get
    if not found.get("port") and (port := given("PGPORT", "")).isdigit():
        found["port"] = port
    if not found.get("host"):
        socket = f".s.PGSQL.{found.get('port') or 5432}"
        folders = [folder for folder in SOCKET_FOLDERS if os.path.exists(f"{folder}/{socket}")]  # noqa: PTH110
        found["host"] = given("PGHOST") or (folders[0] if folders and os.name != "nt" else "localhost")
    found["user"] = found.get("user") or given("PGUSER") or getpass.getuser()
    found["dbname"] = found.get("dbname") or given("PGDATABASE") or found["user"]
    if "," in found["host"] and "," not in found.get("port", ""):
        raise unusable("it names several hosts in PGHOST")
    return found


def _query(options: Parameters) -> str:
    # libpq takes "+" for a plus sign, so not quote_plus
    return "&".join(f"{key}={quote(value, safe='')}" for key, value in options.items())


def libpq_options(url: URL) -> dict[str, str]:
    """What stands after the question mark, in libpq's words: ``sslmode`` for asyncpg's ``ssl``."""
    found: dict[str, str] = {}
    for key, value in url.query.items():
        if key == "dsn":
            found |= parse_qsl(urlsplit(str(value)).query)
        elif key not in ENGINE_ONLY:
            found["sslmode" if key == "ssl" else key] = str(value)
    return found


def libpq_uri(url: URL, database: str | None = None) -> str:
    """The same address as a URI for libpq and asyncpg, with the password in it: never print it."""
    return SecretText(_uri(url, libpq_options(url), database))


def public_uri(url: URL, database: str) -> str:
    """The address for a person to read or to give to psql, which asks for the password: it is left out."""
    options = {key: value for key, value in libpq_options(url).items() if not is_secret(key)}
    return _uri(url._replace(password=None), options, database)


def _uri(url: URL, options: Parameters, database: str | None) -> str:
    user = quote(url.username, safe="") if url.username else ""
    password = f":{quote(url.password, safe='')}" if url.password else ""
    place = _before_slash(url.host or "") + (f":{url.port}" if url.port else "")
    if "," in options.get("host", ""):  # asyncpg and libpq agree on several only before the slash
        endpoints = zip(options.pop("host").split(","), options.pop("port").split(","), strict=True)
        place = ",".join(f"{_before_slash(host)}:{port}" for host, port in endpoints)
    account = f"{user}{password}@" if user else ""
    name = quote(database or url.database or "", safe="")
    return f"postgresql://{account}{place}/{name}" + (f"?{_query(options)}" if options else "")


def _before_slash(host: str) -> str:
    return f"[{host.replace('%', '%25')}]" if ":" in host else quote(host, safe="")


def libpq_environment(url: URL) -> dict[str, str]:
    """This process's environment with the address as libpq's variables, so that no password is in a command line."""
    from psycopg.pq import Conninfo

    variables = {option.keyword.decode(): (option.envvar or b"").decode() for option in Conninfo.get_defaults()}
    fields = {
        "host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database,
    }  # fmt: skip
    address = {key: str(value) for key, value in fields.items() if value} | libpq_options(url)
    elsewhere = {"PGSERVICE", "PGHOSTADDR"}  # which would lead psql to another server
    mine = {name: value for name, value in os.environ.items() if name not in elsewhere}
    return mine | {variables[key]: value for key, value in address.items() if variables.get(key)}


def spoken(url: URL) -> str:
    """The server as a person names it: host and port, nothing secret and no path."""
    hosts = (url.host or str(url.query.get("host", ""))).split(",")
    ports = str(url.port or url.query.get("port", 5432)).split(",")
    if not url.host and all(host.startswith("/") or not host for host in hosts):
        return "the local socket"
    named = zip(hosts, ports, strict=True)
    return short(", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in named))


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
