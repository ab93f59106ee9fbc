"""What a person may write into DATABASE_URL, read into libpq's words: ``host``, ``port``, ``user``, ``dbname``, …

libpq, SQLAlchemy and asyncpg each take a URL, and none takes all that the others do: several hosts before the slash,
``host=a:1`` behind the question mark, a slash in a password. libpq's ``key=value`` form is read by libpq itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

from course_lib.errors import CourseError

LIKE_THIS = "Write it like postgresql://user:password@host:5432/database"
SCHEME = re.compile(r"([a-z][a-z0-9]*)(\+[a-z0-9_]+)?://(.*)", re.I)
HOST = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]*)(?::(\d*))?")
ALIASES = {"database": "dbname"}

Parameters = dict[str, str]
Endpoint = tuple[str, str]
"""A host, or the folder of a socket, and a port; either may be empty."""


def unusable(why: str = "", mend: str = LIKE_THIS) -> CourseError:
    """DATABASE_URL is refused. ``why`` repeats nothing of it that could be a secret."""
    return CourseError(f"DATABASE_URL is not the address of a PostgreSQL{': ' if why else ''}{why}.", mend)


def read_parameters(text: str) -> Parameters:
    """The address in libpq's words; several hosts and their ports are separated by commas.

    Raises:
        CourseError: it is no PostgreSQL address. The text itself is not repeated: it may hold a password.
    """
    text = text.strip().strip("\ufeff")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
        text = text[1:-1].strip()
    if text.lower().startswith("jdbc:"):
        raise CourseError("DATABASE_URL is written in the way of JDBC, which no driver here reads.", LIKE_THIS)
    match = SCHEME.fullmatch(text)
    try:
        if match and match[1].lower() in ("postgresql", "postgres"):
            found = _url(match[3], unquote_plus if match[2] else unquote)
        elif match is None and re.match(r"\w+\s*=", text):
            found = _key_value(text)
        else:
            raise unusable()
        "".join(found.values()).encode()
    except UnicodeError:
        raise unusable("its bytes are not UTF-8") from None
    if any(ord(sign) < 32 for key, value in found.items() if key != "host" or value[:1] != "/" for sign in value):
        raise unusable("it holds a line break or another sign that cannot be printed")
    return {key: value for key, value in found.items() if value}


def _key_value(text: str) -> Parameters:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = {key: str(value) for key, value in conninfo_to_dict(text).items()}
    except psycopg.Error:
        raise unusable("it is not a list of libpq's options either, like host=… user=… dbname=…") from None
    return found | _endpoints(_listed(found.get("host", ""), found.get("port", "")))


def _url(rest: str, decoded: Callable[..., str]) -> Parameters:
    """Of what follows the scheme. Behind the question mark a + is a space to SQLAlchemy, and a + to libpq."""
    account, hosts, database, query = _parts(rest)
    user, _, password = account.partition(":")
    found = {"user": unquote(user, errors="strict"), "password": unquote(password, errors="strict")}
    found["dbname"] = unquote(database, errors="strict")
    endpoints = [_endpoint(host) for host in hosts.split(",")]
    named: list[str] = []
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise unusable("what follows its question mark is not a list of name=value, joined by &")
        key, value = decoded(key, errors="strict"), decoded(value, errors="strict")
        if key == "host":
            named.append(value)
        elif key == "dsn":  # as ``parse_url`` writes it
            found |= parse_qsl(urlsplit(value).query)
        else:
            found[ALIASES.get(key, key)] = value
    port = found.pop("port", "")
    if named:
        endpoints = _listed(",".join(named), port or ",".join(port for _, port in endpoints))
    elif port:
        endpoints = [(host, port) for host, _ in endpoints]
    return found | _endpoints(endpoints)


def _parts(rest: str) -> tuple[str, str, str, str]:
    """Account, hosts, database and query. A ``/`` or ``?`` in a password, which SQLAlchemy permits, is one there."""
    head = re.split(r"[/?]", rest, maxsplit=1)[0]
    account = ""
    if "@" not in head and "@" in rest and not all(HOST.fullmatch(host) for host in head.split(",")):
        account, _, rest = rest.partition("@")
        head = re.split(r"[/?]", rest, maxsplit=1)[0]
    elif "@" in head:
        account, _, rest = rest.partition("@")
        head = head[len(account) + 1 :]
    path, _, query = rest[len(head) :].partition("?")
    if "@" in head or "%40" in head:
        raise CourseError("The user or the password in DATABASE_URL holds an @ of its own.", "Write it as %40 there.")
    strays = [pair for pair in query.split("&") if "@" in pair and not pair.startswith(("user=", "password="))]
    if "@" in path or (strays and not account):
        raise CourseError(
            "DATABASE_URL can be read in two ways: an @ stands behind a slash or a question mark.",
            "In the user, the password and the database's name write @ as %40, / as %2F and ? as %3F.",
        )
    return account, head, path.removeprefix("/"), query


def _endpoint(text: str) -> Endpoint:
    match = HOST.fullmatch(text)
    if match is None:
        raise unusable("its port is no number from 1 to 65535, or an IPv6 address lacks its brackets")
    return unquote(match[1], errors="strict").strip("[]"), match[2] or ""


def _listed(hosts: str, ports: str) -> list[Endpoint]:
    """Of lists with commas, in libpq's way, or with each port behind its host, in SQLAlchemy's and asyncpg's."""
    listed, numbers = hosts.split(","), ports.split(",")
    if len(numbers) == 1:
        numbers *= len(listed)
    if len(numbers) != len(listed):
        raise unusable("it names not as many ports as hosts")
    found = []
    for host, port in zip(listed, numbers, strict=True):
        bare = host.startswith("/") or (host.count(":") > 1 and not host.startswith("["))
        name, own = (host, "") if bare else _endpoint(host)
        found.append((name, own or port))
    return found


def _endpoints(endpoints: list[Endpoint]) -> Parameters:
    for host, port in endpoints:
        if "@" in host and not host.startswith(
            "/"
        ):  # the rest of a password, or Linux's abstract sockets, which asyncpg does not know
            raise unusable("its host holds an @")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise unusable("its port is no number from 1 to 65535")
        if len(endpoints) > 1 and not host:
            raise unusable("one of its hosts has no name")
    several = len(endpoints) > 1
    return {
        "host": ",".join(host for host, _ in endpoints),
        "port": ",".join((port or "5432") if several else port for _, port in endpoints),
    }
