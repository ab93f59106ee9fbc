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

from course_lib.postgres.locks import take
from course_lib.postgres.starting import detach
from course_lib.settings import REPOSITORY

if TYPE_CHECKING:
    from course_lib.postgres.cluster import Cluster

CHECK_SECONDS = 60
HANDOVER_SECONDS = 2
LOCK = "watchdog.lock"


def watch(cluster: Cluster, idle_hours: float, started: bool = False) -> None:
    """Start a watchdog for the running server unless it has one, which holds a lock for as long as it lives.

    Args:
        started: the server has just been started, so a watchdog of the one before may still be about to end.
    """
    patience = time.monotonic() + (HANDOVER_SECONDS if started and os.name != "nt" else 0)
    if os.name != "nt" and cluster.folder.stat().st_uid != os.geteuid():
        return  # root, on the running server of a user, who watches over it
    try:
        while (lock := take(cluster.folder / LOCK)) is None and time.monotonic() < patience:
            time.sleep(0.01)
    except OSError:
        return  # a disk that is full or read-only now: the next opening tries again
    if lock is None and (os.name != "nt" or not started):
        return
    try:
        if process := cluster.process():
            arguments = [str(cluster.folder), str(cluster.installation), str(process.pid), str(idle_hours * 3600)]
            inherited = {"pass_fds": (lock,)} if lock is not None else {}
            detach([sys.executable, "-m", "course_lib.postgres.watchdog", *arguments], cwd=REPOSITORY, **inherited)
    finally:
        if lock is not None:
            os.close(lock)


def clients(dsn: str) -> int:
    """How many clients are connected, not counting the one that asks."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def is_used(cluster: Cluster) -> bool:
    """True when somebody is connected. A server that cannot be asked may well be in use."""
    try:
        return clients(cluster.address().dsn) > 0
    except (psycopg.Error, OSError):
        return True


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
        if is_used(cluster):
            last_used = time.monotonic()
        elif time.monotonic() - last_used >= idle_seconds:
            cluster.stop()
            return


if __name__ == "__main__":
    from pathlib import Path

    from course_lib.postgres.binaries import server_account
    from course_lib.postgres.cluster import Cluster

    if os.name != "nt":
        psutil.Process().nice(10)
    cluster = Cluster(Path(sys.argv[1]), Path(sys.argv[2]), server_account())
    stop_when_idle(cluster, int(sys.argv[3]), float(sys.argv[4]))
