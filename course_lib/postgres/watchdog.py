"""Stop the embedded server when nobody has used it for hours.

A small process of its own, started beside the server: no kernel can do this, since kernels are killed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import psutil
import psycopg
from filelock import FileLock, Timeout

from course_lib.postgres.starting import detach
from course_lib.settings import REPOSITORY

if TYPE_CHECKING:
    from course_lib.postgres.cluster import Cluster

CHECK_SECONDS = 60
HANDOVER_SECONDS = 10  # a watchdog of the server before this one ends with it
LOCK = "watchdog.lock"


def watch(cluster: Cluster, idle_hours: float) -> None:
    """Start a watchdog for the running server unless it has one, which holds a lock for as long as it lives."""
    try:
        with FileLock(cluster.folder / LOCK, timeout=0, mode=0o600):
            pass
    except (Timeout, OSError):
        return  # there is one; or a disk that is full or read-only now, and then the next opening tries again
    process = cluster.process()
    if process is None:
        return
    arguments = [str(cluster.folder), str(cluster.installation), str(process.pid), str(idle_hours * 3600)]
    detach([sys.executable, "-m", "course_lib.postgres.watchdog", *arguments], cwd=REPOSITORY)


def clients(dsn: str) -> int:
    """How many clients are connected, not counting the one that asks."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def stop_when_idle(cluster: Cluster, pid: int, idle_seconds: float, check_seconds: float = CHECK_SECONDS) -> None:
    """Return when the server of ``pid`` has ended, or after stopping it for want of clients.

    Args:
        pid: the postmaster this watchdog was started for; another one has its own.
        idle_seconds: how long without a client before it is stopped.
        check_seconds: how often to look.
    """
    last_used = time.monotonic()
    while (process := cluster.process()) is not None and process.pid == pid:
        try:
            process.wait(min(check_seconds, idle_seconds))
            return
        except psutil.TimeoutExpired:
            pass
        try:
            used = clients(cluster.address().dsn) > 0
        except psycopg.Error:
            used = True
        if used:
            last_used = time.monotonic()
        elif time.monotonic() - last_used >= idle_seconds:
            cluster.stop()
            return


def _main(folder: str, installation: str, pid: str, idle_seconds: str) -> None:
    """Be the only watchdog of this folder, until the server of ``pid`` has ended."""
    from pathlib import Path

    from course_lib.postgres.binaries import server_account
    from course_lib.postgres.cluster import Cluster

    if os.name != "nt":
        psutil.Process().nice(10)
    cluster = Cluster(Path(folder), Path(installation), server_account())
    try:
        with FileLock(cluster.folder / LOCK, timeout=HANDOVER_SECONDS, mode=0o600):
            stop_when_idle(cluster, int(pid), float(idle_seconds))
    except Timeout:
        return


if __name__ == "__main__":
    _main(*sys.argv[1:5])
