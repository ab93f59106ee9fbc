"""Servers that a lesson has beside its own: a primary, its standbys, and what is restored from its backup.

They are of this process alone, and gone with it. What is made here is made by PostgreSQL's own programs, and can be
made so on any server: ``pg_basebackup``, ``standby.signal``, ``recovery.signal``, an archive of the write-ahead log.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_uri, parse_url
from course_lib.postgres.extra_cluster import ARCHIVE, ExtraCluster
from course_lib.postgres.obstacles import failure_of_start
from course_lib.postgres.server_folders import cluster_of, remove_server
from course_lib.postgres.starting import NotStarted

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
DATABASE = "course"
RECOVERY_SECONDS = 60
ARCHIVE_SECONDS = 20
TARGET_TOO_EARLY = "requested recovery stop point is before consistent recovery point"
TARGET_MISSED = "recovery ended before configured recovery target was reached"  # xlogrecovery.c


class NoSuchMoment(CourseError):
    """A restore was asked for a moment that the backup and the archive do not have, or that is none."""


@dataclass(frozen=True)
class Backup:
    """A base backup: a copy of all files of a server that was written meanwhile.

    ``size`` in bytes; ``finished`` by the server's clock: no earlier moment can be restored from it.
    """

    folder: Path
    size: int
    finished: datetime


@dataclass(frozen=True)
class ExtraServer:
    """A server of this process: ``url`` is the course's database on it, for SQLAlchemy with asyncpg."""

    cluster: ExtraCluster
    database: str = DATABASE

    @property
    def name(self) -> str:
        return self.cluster.folder.name

    @property
    def url(self) -> URL:
        return parse_url(self.cluster.address().dsn).set(database=self.database)

    @property
    def dsn(self) -> str:
        """The address for asyncpg and psycopg themselves."""
        return libpq_uri(self.url)

    @property
    def conninfo(self) -> str:
        """The same in the words that a standby or a subscription is given; without a quote, which paths may hold."""
        address = self.cluster.address()
        return f"host={_escaped(address.host)} port={address.port} user=postgres dbname={self.database}"

    @property
    def runs(self) -> bool:
        return self.cluster.accepts_clients()

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it on its data.

        Raises:
            CourseError: it does not start; the sentence says why.
        """
        await asyncio.to_thread(self.cluster.ensure_running)

    async def stop(self) -> None:
        """A fast shutdown: clients are sent away, and what is committed is on the disk."""
        await asyncio.to_thread(self.cluster.stop)

    async def crash(self) -> None:
        """An abrupt end, as by a loss of power."""
        await asyncio.to_thread(self.cluster.crash)

    async def remove(self) -> None:
        """Stop it and remove its data, its archive and its backups."""
        await asyncio.to_thread(remove_server, self.cluster)

    # -- replicas ------------------------------------------------------------------------------------------

    async def standby(self, name: str = "standby", **settings: str) -> ExtraServer:
        """A new server that follows this one: ``pg_basebackup``, then streaming replication.

        Args:
            name: of the server, which is its ``application_name`` in ``pg_stat_replication`` too.
            settings: of the new server, with values as postgresql.conf has them.
        """
        conninfo = f"{self.conninfo} application_name={name}"
        follow = {"primary_conninfo": _constant(conninfo), **settings}
        copy = await _new(name, follow)
        await self._copy_files_to(copy.cluster.data, "--no-manifest")
        await asyncio.to_thread(_touch, copy.cluster.data / "standby.signal")
        await copy.start()
        return ExtraServer(copy.cluster, self.database)

    async def promote(self) -> None:
        """End the recovery of a standby: it can be written from now on, and follows nobody any more."""
        await self._ask("SELECT pg_promote(true, 60)")

    # -- backups -------------------------------------------------------------------------------------------

    async def backup(self, name: str = "base") -> Backup:
        """A base backup by ``pg_basebackup``, with a manifest, while the server is at work."""
        folder = self.cluster.folder / "backups" / _named(name)
        await asyncio.to_thread(self.cluster.make_folder_of_account, folder)
        await self._copy_files_to(folder)
        finished = await self._ask("SELECT clock_timestamp()")
        return Backup(folder, await asyncio.to_thread(_size, folder), finished)

    async def archive(self) -> int:
        """Have everything written so far archived. Returns how many files the archive has then.

        Raises:
            CourseError: the archive does not get on.
        """
        last = await self._ask("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        patience = time.monotonic() + ARCHIVE_SECONDS
        while (await self._ask("SELECT last_archived_wal FROM pg_stat_archiver") or "")[: len(last)] < last:
            if time.monotonic() > patience:
                raise CourseError(f"The server {self.name} has not archived {last} in {ARCHIVE_SECONDS} seconds.")
            await asyncio.sleep(0.01)
        return len(list((self.cluster.folder / ARCHIVE).iterdir()))

    async def restore(
        self,
        backup: Backup,
        until: datetime | str | None = None,
        name: str = "restored",
        inclusive: bool = True,
    ) -> ExtraServer:
        """A new server from a base backup and the archive, as this one was at a moment; this one goes on meanwhile.

        Args:
            until: a time, or an LSN such as ``0/3000148``; without it, to the end of the archive.
            name: of the new server.
            inclusive: with what was committed at that very moment.

        Raises:
            NoSuchMoment: the archive ends before that moment, or the backup was finished after it.
        """
        target = _target(until, inclusive)
        if isinstance(until, datetime) and until < backup.finished:  # PostgreSQL would end at the backup's own state
            raise NoSuchMoment(f"The backup was finished after {until}.", "Restore to a later moment.")
        if self.runs:  # with a commit after that moment, since recovery ends only when it meets one
            await self._ask("SELECT pg_logical_emit_message(true, 'restore', '')")
            await self.archive()
        fetch = {"restore_command": f"'cp ../../{self.name}/{ARCHIVE}/%f %p'"}
        copy = await _new(name, fetch | target, backup.folder)
        await asyncio.to_thread(_touch, copy.cluster.data / "recovery.signal")
        restored = ExtraServer(copy.cluster, self.database)
        try:
            await restored.start()
            await restored._recovered()
        except CourseError as error:
            raise await asyncio.to_thread(_unreached, copy.cluster, until) or error from error
        return restored

    async def _recovered(self) -> None:
        """Wait until it may be written. It can be read before."""
        patience = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                if not await self._ask("SELECT pg_is_in_recovery()"):
                    return
            except (OSError, asyncpg.PostgresError):
                if self.cluster.process() is None:
                    raise CourseError(f"The server {self.name} ended while it was recovering.") from None
            if time.monotonic() > patience:
                raise CourseError(f"The server {self.name} was still recovering after {RECOVERY_SECONDS} seconds.")
            await asyncio.sleep(0.01)

    # -- inside --------------------------------------------------------------------------------------------

    async def _copy_files_to(self, folder: Path, *more: str) -> None:
        address = self.cluster.address()
        place = ["-h", address.host, "-p", str(address.port), "-U", "postgres", "-D", str(folder)]
        arguments = [*place, "--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-password", *more]
        try:
            await asyncio.to_thread(self.cluster.programs.run, "pg_basebackup", arguments)
        except NotStarted as error:
            raise failure_of_start(error.log, self.cluster.folder, self.cluster.installation) from error

    async def _ask(self, query: str) -> Any:
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()


async def new_server(name: str, settings: dict[str, str], data: Path) -> ExtraServer:
    """A server on a copy of ``data``, in place of this process's earlier one of that name."""
    server = await _new(name, settings, data)
    await server.start()
    return server


async def _new(name: str, settings: dict[str, str], copied: Path | None = None) -> ExtraServer:
    """Room for a new server; the earlier one of that name is removed."""
    cluster = await asyncio.to_thread(cluster_of, _named(name), **settings)
    if cluster.folder.exists():
        await asyncio.to_thread(remove_server, cluster)
    await asyncio.to_thread(cluster.prepare, copied)
    return ExtraServer(cluster)


def _named(name: str) -> str:
    if not NAME.match(name):
        raise CourseError(f"A server or a backup has a name of small letters, digits and _; {name!r} is none.")
    return name


def _target(until: datetime | str | None, inclusive: bool) -> dict[str, str]:
    if until is None:
        return {"recovery_target_action": "promote"}
    if isinstance(until, datetime) and until.tzinfo is None:
        raise NoSuchMoment("A moment to restore to needs its time zone.", "Try: datetime.now(timezone.utc)")
    kind = "time" if isinstance(until, datetime) else "lsn"
    value = until.isoformat() if isinstance(until, datetime) else until
    target = {f"recovery_target_{kind}": _constant(value), "recovery_target_action": "promote"}
    return target | {"recovery_target_inclusive": "on" if inclusive else "off"}


def _unreached(cluster: ExtraCluster, until: object) -> CourseError | None:
    """The sentence for a target that recovery did not meet."""
    log = cluster.log.read_text(errors="replace")
    if TARGET_TOO_EARLY in log:
        return NoSuchMoment(f"The backup was finished after {until}.", "Restore to a later moment.")
    if TARGET_MISSED not in log:
        return None
    return NoSuchMoment(
        f"Recovery did not come to {until}: the archive has nothing that was committed after it.",
        "Restore without a target, which goes to the end of the archive.",
    )


def _touch(signal: Path) -> None:
    signal.touch(mode=0o600)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _escaped(value: str) -> str:
    """A value of a connection string: blanks, quotes and backslashes with a backslash before them."""
    return re.sub(r"([\\' ])", r"\\\1", value)


def _constant(text: str) -> str:
    """A value in postgresql.conf."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
