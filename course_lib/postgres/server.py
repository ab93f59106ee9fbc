"""Find the server of this course: the embedded one, started if need be, or the one ``DATABASE_URL`` names."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import psutil
import psycopg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_options, libpq_uri, parse_url, spoken
from course_lib.postgres.binaries import MAJOR, reachable_installation, server_account
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.failures import connection_failure
from course_lib.postgres.fitness import ask_fitness
from course_lib.postgres.losing import causes, refuses_its_owner, server_went_away
from course_lib.postgres.reliance import AMONG_STRANGERS, AT_ONCE, ONLY_CATALOG, SET
from course_lib.postgres.restoring import restore_defaults
from course_lib.postgres.watchdog import watch
from course_lib.settings import get_settings

CONNECT_SECONDS = 10
SETTLE_SECONDS = 10  # how long the embedded server may take to come back by itself, or to be gone
NETWORK = ("nfs", "cifs", "smb", "afs", "afpfs", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "fuse.gluster")


Connection: TypeAlias = "asyncpg.Connection[Any]"


@dataclass(frozen=True)
class Server:
    """A checked PostgreSQL with pgvector. ``url`` is its maintenance database, which is only connected to.

    ``settings`` is what a database made on it has to be given because this role's defaults differ, see ``reliance``.
    ``pooled``: this role may make no databases, and takes those that were made for it, see ``database_pool``.
    """

    url: URL
    embedded: bool
    version: str
    pgvector: str
    started: bool = False
    settings: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    pooled: bool = False

    def describe(self) -> str:
        """``PostgreSQL 18.4 · pgvector 0.8.5 · embedded``."""
        kind = "embedded" if self.embedded else "your server"
        return f"PostgreSQL {self.version} · pgvector {self.pgvector} · {kind}"

    @asynccontextmanager
    async def connection(
        self, database: str | None = None, as_in: Connection | None = None
    ) -> AsyncIterator[asyncpg.Connection[Any]]:
        """An administrative connection, outside any pool.

        Args:
            as_in: a connection of ours elsewhere, for a database that somebody else may own: we are who we are there,
                and names mean what PostgreSQL means by them, whatever has been set for the database.

        Raises:
            CourseError: nobody answers, or access is refused.
        """
        if as_in is None:
            connection = await connect(self.url, database)
        else:
            connection = await _connect_among_strangers(self.url, database, as_in)
        try:
            yield connection
        finally:
            await _leave(connection)


async def connect(url: URL, database: str | None = None, **greeting: str) -> asyncpg.Connection[Any]:
    """Connect with asyncpg, putting a refusal into a sentence; ``greeting`` are settings from the very beginning."""
    try:
        try:
            return await _enter(url, database, **greeting)
        except asyncpg.QueryCanceledError:  # a limit of the role's that is over before it can be set
            return await _enter(url, database, **AT_ONCE | greeting)
    except Exception as error:
        sslmode = libpq_options(url).get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
        embedded = not environment_names_a_server()
        failure = connection_failure(error, spoken(url), embedded=embedded, sslmode=sslmode)
        if failure is None:
            raise
        if isinstance(error, ValueError | TypeError):
            raise failure from None  # its text may quote the address, and the password with it
        raise failure from error


async def _enter(url: URL, database: str | None, **at_once: str) -> asyncpg.Connection[Any]:
    """A connection with the settings that the course relies on; ``at_once`` is sent with the greeting."""
    settings = {"application_name": "course", **at_once}
    connection = await asyncpg.connect(libpq_uri(url, database), timeout=CONNECT_SECONDS, server_settings=settings)
    try:
        # first, as an owner of a database can set one whose functions stand before the server's own
        await connection.execute(f"SET search_path = pg_catalog;{SET}")
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _connect_among_strangers(url: URL, database: str | None, as_in: Connection) -> Connection:
    us = await _who(as_in)
    connection = await connect(url, database, **AMONG_STRANGERS, **us)
    try:
        await connection.execute(ONLY_CATALOG)  # in the place of what SET has said
        if await _who(connection) != us:
            raise CourseError(f"In the database {database} your role acts as another one, so nothing is done there.")
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _who(connection: Connection) -> dict[str, str]:
    """As settings. These are words of SQL's grammar, not names that are looked up."""
    row = await connection.fetchrow("SELECT current_user AS role, session_user AS session_authorization")
    assert row is not None
    return dict(row)


def server_home() -> Path:
    """The folder of the embedded server. As root, one that the server's account can enter.

    Raises:
        CourseError: root set COURSE_HOME to a place that account cannot enter.
    """
    settings, account = get_settings(), server_account()
    home = settings.home
    if account is None or account.can_enter(home):
        return home
    if "home" in settings.model_fields_set:
        raise CourseError(
            f"COURSE_HOME is {home}, which user '{account.name}' cannot enter; PostgreSQL has to run as that user.",
            "Choose a folder outside root's home, or run the course as a normal user.",
        )
    return Path("/var/cache/databases-for-ai-engineers")


@cache
def embedded_cluster() -> Cluster:
    """The one embedded server of this operating-system user."""
    home, account = server_home(), server_account()
    name = f"postgres-{MAJOR}"
    if is_shared(home):  # no machine can tell whether another one's server runs there
        name += f"-{socket.gethostname()}"
    return Cluster(home / name, reachable_installation(home, account), account)


def is_shared(folder: Path) -> bool:
    """True when the folder lies on a network file system, where several machines may see it."""
    folder = folder.resolve()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    nearest = next((step for step in (folder, *folder.parents) if step in mounts), None)
    return nearest is not None and mounts[nearest].startswith(NETWORK)


def running_server() -> Cluster | None:
    """The embedded server if it runs now; starts nothing."""
    cluster = embedded_cluster()
    return cluster if cluster.process() else None


def renew_embedded() -> Path | None:
    """Make the embedded server's data anew. Returns where the old ones are, None when none were kept."""
    cluster = embedded_cluster()
    aside = cluster.renew()
    watch(cluster, get_settings().idle_hours, started=True)
    return aside


def stop_embedded() -> bool:
    """Stop the embedded server. Returns False when it was not running."""
    return embedded_cluster().stop()


async def find_server() -> Server:
    """The server for lessons: started when it is the embedded one, checked in either case.

    Raises:
        CourseError: it cannot be started or reached, is too old, or lacks pgvector or a right.
    """
    server, connection = await _find()
    if connection is not None:
        await connection.close()
    return server


@asynccontextmanager
async def enter_server() -> AsyncIterator[tuple[Server, Connection]]:
    """The same with a connection to it: the one that asked it, where it had to be asked."""
    server, connection = await _find()
    if connection is None:
        try:
            connection = await connect(server.url)
        except CourseError:  # it is no longer what it was when it was asked
            forget_checked()
            server, connection = await _find()
    assert connection is not None
    try:
        yield server, connection
    finally:
        await _leave(connection)


async def _leave(connection: Connection) -> None:
    """Close a connection, whatever has become of its server."""
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.close()


async def _find() -> tuple[Server, Connection | None]:
    configured = get_settings().database_url
    if configured is not None:
        return await _checked(parse_url(configured.get_secret_value()), embedded=False)
    started = silent = restored = False
    patience = time.monotonic() + SETTLE_SECONDS
    while True:
        cluster, started_now = await asyncio.to_thread(_start_and_watch, silent)
        started = started or started_now
        try:
            url = parse_url(cluster.address().dsn)
            server, connection = await _checked(url, embedded=True, process=cluster.process())
            return replace(server, started=started), connection
        except CourseError as error:
            if server_went_away(error) and time.monotonic() < patience:
                # it recovers from the loss of a backend, was ended since we looked, or is frozen
                silent = any(isinstance(step, TimeoutError) for step in causes(error))
            elif refuses_its_owner(error) and not restored:
                restored = True
                await asyncio.to_thread(_restore, cluster)
            else:
                raise
        await asyncio.sleep(0.05)


def _start_and_watch(suspect: bool = False) -> tuple[Cluster, bool]:
    cluster = embedded_cluster()
    started = cluster.ensure_running(suspect)
    watch(cluster, get_settings().idle_hours, started)
    return cluster, started


def _restore(cluster: Cluster) -> None:
    """Put back what SQL has done to the embedded server's own role and databases while it ran."""
    try:
        restore_defaults(cluster.address())
    except psycopg.Error:
        cluster.stop()  # what nobody who logs in can mend, the next start does


_known: dict[object, Server] = {}


def forget_checked() -> None:
    """Look again at the server when it is next wanted: its answers may have changed."""
    _known.clear()


async def _checked(
    url: URL, *, embedded: bool, process: psutil.Process | None = None
) -> tuple[Server, Connection | None]:
    """The server at ``url``, asked once in this process, and again when it is another ``process``."""
    key = (url, process)
    if key in _known:
        return _known[key], None
    connection = await connect(url)
    try:
        fit = await ask_fitness(connection, spoken(url))
        _known[key] = Server(url, embedded, fit.version, fit.pgvector, settings=fit.settings, pooled=fit.pooled)
    except BaseException:
        await connection.close()
        raise
    return _known[key], connection


def environment_names_a_server() -> bool:
    """True when DATABASE_URL is set, in the environment or in ``.env``."""
    return get_settings().database_url is not None or bool(os.environ.get("DATABASE_URL"))
