"""A server of its own for tables that the lessons' server is too small for: the same programs, more memory.

The lessons' server has 256 MB of shared buffers, and PostgreSQL takes that setting at its start only. An HNSW index of
a million vectors is five times as large, and searching it from outside the buffers would measure the operating system.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
from filelock import FileLock, Timeout
from sqlalchemy import URL

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_uri, parse_url
from course_lib.postgres.binaries import reachable_installation, server_account
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.configuration import SHARED_MEMORY
from course_lib.postgres.files import make_folder
from course_lib.postgres.server import server_home
from course_lib.postgres.watchdog import watch

MB = 2**20
DATABASE = "bench"
IDLE_HOURS = 0.25  # then it stops by itself, should this process have been killed
ROW_BUFFERS = 4_000  # bytes: the row, its place in the indexes, and their fill
ROW_GRAPH = 2_000  # bytes while an index is built: the vector and its links
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
ROW_DISK = 9_600  # bytes: table, indexes, write-ahead log, and the vectors for the engines beside it


@dataclass(frozen=True)
class Memory:
    """What the server gets, in MB. ``graph`` is maintenance_work_mem."""

    shared_buffers: int
    graph: int

    @classmethod
    def for_rows(cls, rows: int) -> Memory:
        """Room for everything, up to a third of this machine's memory for each of the two."""
        most = psutil.virtual_memory().total // 3
        buffers, graph = (max(256 * MB, min(rows * size, most)) // MB for size in (ROW_BUFFERS, ROW_GRAPH))
        return cls(buffers, graph)

    def __str__(self) -> str:
        return f"shared_buffers {self.shared_buffers} MB, maintenance_work_mem {self.graph} MB"


@dataclass(frozen=True)
class LargeServer:
    """A running server with an empty database, and a folder for files beside it; all gone at the end."""

    url: URL
    memory: Memory
    folder: Path
    cluster: Cluster


@asynccontextmanager
async def large_server(rows: int, durable: bool = False) -> AsyncIterator[LargeServer]:
    """Start one with memory for ``rows`` vectors of 256 dimensions; stop it and remove its data in the end.

    Args:
        durable: a COMMIT is on the disk when it returns, as on a server whose data matter.

    Raises:
        CourseError: the disk is too full, or another measurement is running.
    """
    folder, account = server_home() / "bench", server_account()
    make_folder(folder, account)
    try:
        with FileLock(folder.with_name("bench.lock"), timeout=0):
            memory = Memory.for_rows(rows)
            programs = reachable_installation(server_home(), account)
            cluster = Cluster(folder / "postgres", programs, account, _settings(memory) | (DURABLE if durable else {}))
            _clear(cluster, folder)  # of a run that was killed
            make_folder(folder, account)
            _require_room(folder, rows)
            try:
                yield await _started(cluster, memory, folder)
            finally:
                _clear(cluster, folder)
    except Timeout as error:
        raise CourseError("Another `course bench` measures vectors now.", "Wait for its end.") from error


async def _started(cluster: Cluster, memory: Memory, folder: Path) -> LargeServer:
    await asyncio.to_thread(cluster.ensure_running)
    watch(cluster, IDLE_HOURS, started=True)
    url = parse_url(cluster.address().dsn)
    connection = await asyncpg.connect(libpq_uri(url))
    await connection.execute(f"CREATE DATABASE {DATABASE}")
    await connection.close()
    url = url.set(database=DATABASE)
    connection = await asyncpg.connect(libpq_uri(url))
    await connection.execute("CREATE EXTENSION vector")
    await connection.close()
    return LargeServer(url, memory, folder, cluster)


def _settings(memory: Memory) -> dict[str, str]:
    settings = {"shared_buffers": f"{memory.shared_buffers}MB"}
    return settings | ({"dynamic_shared_memory_type": "mmap"} if _has_no_shared_memory_for(memory) else {})


def _has_no_shared_memory_for(memory: Memory) -> bool:
    """On Linux a parallel build keeps its graph in /dev/shm, of which containers often have 64 MB."""
    if sys.platform != "linux":
        return False
    return not SHARED_MEMORY.exists() or shutil.disk_usage(SHARED_MEMORY).free < 2 * memory.graph * MB


def _require_room(folder: Path, rows: int) -> None:
    needed, free = rows * ROW_DISK // MB + 300, shutil.disk_usage(folder).free // MB
    if free < needed:
        raise CourseError(
            f"Measuring {rows:,} rows takes {needed:,} MB of disk for a while, and {free:,} MB are free.",
            f"Ask for fewer: {command('bench --only vectors --rows 100000')}",
        )


def _clear(cluster: Cluster, folder: Path) -> None:
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)
