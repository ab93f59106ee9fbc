"""The options of an address: carried to every driver, left out where that changes nothing, or refused by name.

Four readers take a lesson's address: SQLAlchemy with asyncpg, SQLAlchemy with psycopg, asyncpg and psycopg themselves
(https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS, asyncpg's ``connect``).
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from functools import cache
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.masking import is_secret, short

Parameters = dict[str, str]

PLACE = {"host", "port", "user", "password", "dbname"}
ENGINE_ONLY = {"prepared_statement_cache_size"}
"""SQLAlchemy's own, in a URL for asyncpg."""

SSL_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
SHARED = {
    *SSL_FILES, "sslmode", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version", "passfile",
    "target_session_attrs", "krbsrvname", "gsslib", "application_name", "options",
}  # fmt: skip
"""What asyncpg reads in a URL with the meaning that libpq gives it."""

NEEDLESS = {
    "client_encoding",  # each driver speaks UTF-8 to the server by itself
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
    "channel_binding", "sslcompression", "sslsni", "load_balance_hosts", "fallback_application_name", "gssdelegation",
    "min_protocol_version", "max_protocol_version",
}  # fmt: skip
"""libpq's own, about a connection and not about what a session does or whom it trusts. asyncpg has none of them."""

NEEDLESS_VALUES = {
    "gssencmode": {"disable", "prefer"}, "sslcertmode": {"disable", "allow"},
    "replication": {"false", "off", "no", "0"},
}  # fmt: skip

TLS = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VALUES = {
    "sslmode": set(MODES), "sslnegotiation": {"postgres", "direct"}, "gsslib": {"gssapi", "sspi"},
    "ssl_min_protocol_version": TLS, "ssl_max_protocol_version": TLS,
    "target_session_attrs": {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
}  # fmt: skip
SSL_WORDS = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}

INSTEAD = {
    "sslpassword": "Name a key without a passphrase: openssl pkey -in old.key -out new.key",
    "sslcrldir": "Join its lists into one file and name that as sslcrl.",
    "hostaddr": "Write the number as the host, and leave hostaddr out.",
    "ssl": f"Write sslmode, with one of: {', '.join(MODES)}",
}


def refused(option: str, why: str, mend: str = "") -> CourseError:
    """The option ``option`` cannot be used. Its value is not repeated."""
    return CourseError(
        f"The option {short(option, 40)} in DATABASE_URL {why}.",
        INSTEAD.get(option, mend) or "Take it out of DATABASE_URL.",
    )


def settle_options(given: Parameters) -> Parameters:
    """The same address with options that mean one thing to every driver.

    Raises:
        CourseError: an option that cannot be kept and must not be dropped, or a value that cannot be.
    """
    found = dict(given)
    if word := found.pop("ssl", None):
        found.setdefault("sslmode", SSL_WORDS.get(word.lower(), word))
        if found["sslmode"] not in MODES:
            raise refused("ssl", "is neither true nor false nor a word of sslmode")
    if "host" not in found and "hostaddr" in found:
        found["host"] = found.pop("hostaddr")
    settings = [found["options"].replace("+", " ") if "-c+" in found["options"] else found["options"]] \
        if "options" in found else []  # fmt: skip
    for option in [option for option in found if option not in PLACE | SHARED | ENGINE_ONLY]:
        value = found.pop(option)
        if option in NEEDLESS or value in NEEDLESS_VALUES.get(option, ()):
            continue
        settings.append(_as_setting(option, value))
    if settings:
        found["options"] = " ".join(settings)
    for option, values in VALUES.items():
        if found.get(option, next(iter(values))) not in values:
            raise refused(
                option,
                "has a value that it cannot have",
                f"Write one of these in DATABASE_URL: {', '.join(sorted(values))}",
            )
    return _settle_encryption(found)


@cache
def _words_of_libpq() -> frozenset[str]:
    from psycopg.pq import Conninfo

    return frozenset(option.keyword.decode() for option in Conninfo.get_defaults())


def _as_setting(name: str, value: str) -> str:
    """A word that libpq does not know is a setting of the server, as asyncpg has it: for ``options``."""
    if name in _words_of_libpq():
        raise refused(name, "is one that asyncpg does not know")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name) or is_secret(name):
        raise refused(name, "is neither libpq's nor a setting of a server")
    escaped = re.sub(r"([\\\s])", r"\\\1", value)
    return f"-c {name}={escaped}"


def _settle_encryption(found: Parameters) -> Parameters:
    if found.get("host") and all(host.startswith("/") for host in found["host"].split(",")):
        return {key: value for key, value in found.items() if not key.startswith("ssl")}  # as libpq does
    if found.get("sslrootcert") == "system":
        if found.setdefault("sslmode", "verify-full") != "verify-full":
            raise refused("sslrootcert", "asks for the system's certificates", "Write sslmode=verify-full with it.")
        paths = ssl.get_default_verify_paths()
        if paths.cafile is None:
            raise refused("sslrootcert", "asks for the system's certificates, and Python finds no file of them",
                          "Name a file with the certificate of your server's authority.")  # fmt: skip
        found["sslrootcert"] = paths.cafile
    if found.get("sslnegotiation") == "direct" and found.get("sslmode") not in MODES[3:]:
        raise refused("sslnegotiation", "is direct, which sslmode does not permit", "Write sslmode=require with it.")
    authority = found.get("sslrootcert") or os.environ.get("PGSSLROOTCERT") or Path.home() / ".postgresql" / "root.crt"
    if found.get("sslmode") in ("verify-ca", "verify-full") and not Path(authority).is_file():
        raise refused(
            "sslmode", "asks to check the server's certificate, and there is no file to check it against",
            "Add sslrootcert=/path/to/authority.pem, or sslrootcert=system for those that your system trusts.",
        )  # fmt: skip
    _try_files(found)
    return found


def _try_files(found: Parameters) -> None:
    """Load the files as a driver will: afterwards nobody can tell such a failure from one of the connection."""
    for option in SSL_FILES:
        if option not in found:
            continue
        try:
            Path(found[option]).read_bytes()
        except (OSError, ValueError):
            raise refused(option, "names a file that cannot be read", "Give its whole path.") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    option = "sslrootcert"
    try:
        for option in ("sslrootcert", "sslcrl"):
            if option in found:
                context.load_verify_locations(found[option])
        option = "sslcert"
        if option in found:
            context.load_cert_chain(found[option], found.get("sslkey"), password=lambda: "")
    except (ssl.SSLError, ValueError):
        raise refused(option, "names a file that holds no usable certificate", "Name a file in PEM form.") from None
    key = found.get("sslkey")
    if key and os.name != "nt" and stat.S_IMODE(Path(key).stat().st_mode) & 0o037:
        raise refused("sslkey", "names a file that others may read, which libpq refuses", f"Run: chmod 600 {key}")
