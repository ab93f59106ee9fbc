"""PgBouncer between a program and the lesson's server, for the length of a block.

A keeper, a few lines of shell, is PgBouncer's parent. It waits on a pipe from this process, so it notices when this
process is killed as well: then it ends PgBouncer and removes its folder. No other PgBouncer is ever signalled.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_options, libpq_uri
from course_lib.postgres.binaries import Account, server_account
from course_lib.postgres.failures import DOCTOR
from course_lib.postgres.private_folder import new_private_folder
from course_lib.postgres.server import Server

PoolMode = Literal["session", "transaction", "statement"]

PORT = 6432  # names the socket's file; nothing listens on the network
START_SECONDS = 10
END_SECONDS = 5
TRACKS_SINCE = (1, 21)  # max_prepared_statements, see PgBouncer's NEWS
SYSTEM_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin")
SERVER_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/private/tmp", "/tmp")

ALWAYS = {
    "listen_addr": "", "listen_port": PORT, "auth_type": "any", "query_wait_timeout": 20,
    "log_connections": 0, "log_disconnections": 0,
}  # fmt: skip

# killed, not asked to end: it has nothing to save, and what SIGTERM means has changed with its versions
KEEPER = """
exec 3<&0
"$@" 3<&- &
bouncer=$!
(read -r _; kill -KILL $bouncer) <&3 2>/dev/null &
wait $bouncer
code=$?
kill $! 2>/dev/null
rm -rf -- "$0"
exit $code
"""


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer. It asks clients for no password: only this user can enter the folder of its socket.

    Whatever database a client asks for, it gets the lesson's.
    """

    url: URL
    """The address for SQLAlchemy with asyncpg."""
    version: str

    @property
    def sync_url(self) -> URL:
        """The address for SQLAlchemy with psycopg, the synchronous driver."""
        return self.url.set(drivername="postgresql+psycopg")

    @property
    def dsn(self) -> str:
        """The address for asyncpg and psycopg themselves."""
        return libpq_uri(self.url)

    async def show(self, what: str, *columns: str) -> list[dict[str, Any]]:
        """What ``SHOW`` answers on PgBouncer's console about the lesson's database, one dict for each row.

        Args:
            what: ``"pools"``, ``"servers"``, ``"clients"``, ``"stats"``, ``"config"``, …
            columns: which to keep, in this order; by default all.

        Raises:
            CourseError: the console has nothing of that name.
        """
        try:
            async with await _console(self.url) as console:
                cursor = console.cursor(row_factory=dict_row)
                rows = await (await cursor.execute(f"SHOW {what}".encode())).fetchall()
        except (psycopg.ProgrammingError, psycopg.errors.ProtocolViolation) as error:
            raise CourseError(f"PgBouncer has nothing to show for {what!r}.", 'Try: show("pools")') from error
        rows = [row for row in rows if row.get("database") in (None, self.url.database)]
        return [{name: row[name] for name in columns or row} for row in rows]


def pgbouncer_is_installed() -> bool:
    """True when ``pgbouncer(…)`` can be used on this machine."""
    return _program() is not None


def pgbouncer_version() -> str:
    """The installed version, ``1.24.1``.

    Raises:
        CourseError: there is none.
    """
    program = _program()
    if program is None:
        raise CourseError(
            "PgBouncer is not installed on this machine.",
            "Run: sudo apt-get install pgbouncer   (macOS: brew install pgbouncer)",
        )
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "of an unknown version"


def _program() -> str | None:
    """Where the program is. Debian puts it where an ordinary user's PATH does not lead."""
    if os.name == "nt":  # no Unix sockets there
        return None
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_PLACES]))


@asynccontextmanager
async def pgbouncer(
    server: Server,
    database: str,
    *,
    pool_mode: PoolMode = "transaction",
    default_pool_size: int = 2,
    max_client_conn: int = 100,
    track_prepared_statements: bool = False,
) -> AsyncIterator[PgBouncer]:
    """Run a PgBouncer in front of one database: ``async with pgbouncer(lesson.server, lesson.database) as bouncer``.

    Args:
        server: where the database is.
        database: its name.
        pool_mode: how long a client keeps a server connection: for its session, a transaction or a statement.
        default_pool_size: how many connections to the server it opens at most.
        max_client_conn: how many clients it lets in.
        track_prepared_statements: make clients' prepared statements known on whichever server connection they get.
            Only versions from 1.21 on can; older ones ignore it.

    Raises:
        CourseError: it is not installed, or does not start.
    """
    version, account = pgbouncer_version(), server_account()
    settings: dict[str, object] = {
        **ALWAYS, "pool_mode": pool_mode, "default_pool_size": default_pool_size, "max_client_conn": max_client_conn,
        **(_encryption(server.url, server.url.host) if server.url.host else {}),
    }  # fmt: skip
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= TRACKS_SINCE:
        settings["max_prepared_statements"] = 200 if track_prepared_statements else 0
    # a name in the first place could hold no blanks, quotes or umlauts, however it is written
    ini = _ini(databases={"*": _server_line(server.url, database)}, pgbouncer=settings)
    folder = new_private_folder("pgbouncer-", f".s.PGSQL.{PORT}", account)
    url = URL.create(
        "postgresql+asyncpg", server.url.username or getpass.getuser(), database=database,
        query={"host": str(folder), "port": str(PORT)},
    )  # fmt: skip
    with _kept(folder, f"{ini}unix_socket_dir = {folder}\n", account) as (keeper, log):
        await _until_ready(url, keeper, log)
        yield PgBouncer(url, version)


def _ini(**sections: Mapping[str, object]) -> str:
    """The text of a configuration file. A value ends with its line and cannot be quoted.

    Raises:
        CourseError: a value has several lines: what follows the first would be settings of their own.
    """
    text = ""
    for section, values in sections.items():
        text += f"[{section}]\n"
        for name, value in values.items():
            if set("\n\r\0") & set(str(value)):
                raise CourseError(
                    "PgBouncer's configuration cannot hold a line break, and a name or password here has one.",
                    "Give the database, the role or the password in DATABASE_URL a name of one line.",
                )
            text += f"{name} = {value}\n"
    return text


def _server_line(url: URL, database: str) -> str:
    """How PgBouncer reaches the server. The password stands in it."""
    port = str(url.port or url.query.get("port") or 5432)
    sockets = (folder for folder in SERVER_SOCKETS if Path(folder, f".s.PGSQL.{port}").exists())
    host = url.host or url.query.get("host") or next(sockets, "127.0.0.1")
    values = {"host": host, "port": port, "dbname": database, "user": url.username or getpass.getuser()}
    if url.password:
        values["password"] = url.password
    return " ".join(f"{key}='{str(value).replace(chr(39), chr(39) * 2)}'" for key, value in values.items())


def _encryption(url: URL, host: str) -> dict[str, object]:
    """As the address asks for it; without a word, as libpq and asyncpg do: encrypted where the server can."""
    options = libpq_options(url)
    mode = options.get("sslmode", "disable" if host in ("localhost", "127.0.0.1", "::1") else "prefer")
    authority = options.get("sslrootcert")
    return {"server_tls_sslmode": mode, **({"server_tls_ca_file": authority} if authority else {})}


@contextmanager
def _kept(folder: Path, text: str, account: Account | None) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run the keeper, and PgBouncer below it; yields the keeper and what PgBouncer says."""
    ini, program = folder / "pgbouncer.ini", _program()
    with tempfile.TemporaryFile() as log:
        try:
            ini.touch(mode=0o600)
            ini.write_text(text, encoding="utf-8")
            identity: dict[str, Any] = {}
            if account is not None:  # PgBouncer refuses to run as root
                for path in (ini, folder):  # the folder last: until then nobody else can lay a link in it
                    os.chown(path, account.uid, account.gid)
                identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
            keeper = subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, str(folder), str(program), str(ini)], cwd=folder, start_new_session=True,
                stdin=subprocess.PIPE, stdout=log, stderr=log, **identity,
            )  # fmt: skip
            try:
                yield keeper, log
            finally:
                _end(keeper)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _end(keeper: subprocess.Popen[bytes]) -> None:
    try:
        keeper.communicate(b"\n", timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(keeper.pid, signal.SIGKILL)  # the group of the keeper, which is ours
        keeper.wait()


async def _until_ready(url: URL, keeper: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    patience = time.monotonic() + START_SECONDS
    while keeper.poll() is None and time.monotonic() < patience:
        try:
            await (await _console(url)).close()
            return
        except psycopg.OperationalError:
            await asyncio.sleep(0.005)
    log.seek(0)
    said = re.search(r"(?:ERROR|FATAL):? (.+)", log.read().decode(errors="replace"))
    raise CourseError(f"PgBouncer did not start: {said[1] if said else 'it did not say why'}.", DOCTOR)


async def _console(url: URL) -> psycopg.AsyncConnection[Any]:
    """A connection to PgBouncer's own console, which knows no prepared statements, and no PGOPTIONS."""
    address = libpq_uri(url.set(drivername="postgresql"), "pgbouncer")
    return await psycopg.AsyncConnection.connect(address, autocommit=True, prepare_threshold=None, options="")
