"""Stop the embedded server when nobody has used it for hours.

A small process of its own, started beside the server: no kernel can do this, since kernels are killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import psycopg

from course_lib.settings import REPOSITORY

if TYPE_CHECKING:
    from course_lib.postgres.cluster import Cluster

CHECK_SECONDS = 60


def watch(cluster: Cluster, idle_hours: float) -> None:
    """Start the watchdog of a server that has just been started."""
    process = cluster.process()
    if process is None:
        return
    folder, installation = str(cluster.folder), str(cluster.installation)
    arguments = [folder, installation, str(process.pid), str(idle_hours * 3600)]
    subprocess.Popen(
        [sys.executable, "-m", "course_lib.postgres.watchdog", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd=REPOSITORY,
    )  # fmt: skip


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


if __name__ == "__main__":
    from pathlib import Path

    from course_lib.postgres.cluster import Cluster

    if os.name != "nt":
        psutil.Process().nice(10)
    stop_when_idle(Cluster(Path(sys.argv[1]), Path(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4]))
