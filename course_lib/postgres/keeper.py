"""Wait for the end of a process that has servers of its own, then stop them and remove what they leave.

It is told by a pipe that ends with the process, however that ends. Where nobody has used the servers for hours, it does
not wait for the end.
"""

from __future__ import annotations

import select
import time
from pathlib import Path

CHECK_SECONDS = 60


def keep(folder: str, idle_seconds: float, ended: bool, pipe: int = 0, check_seconds: float = CHECK_SECONDS) -> None:
    """Return when the servers in ``folder`` are gone.

    Args:
        folder: of the process, see ``server_folders``.
        idle_seconds: how long without a client on any of them.
        ended: the process is known to have ended.
        pipe: a handle that can be read when it has.
        check_seconds: how often to look.
    """
    from course_lib.postgres.server_folders import clusters_in, remove_servers
    from course_lib.postgres.watchdog import is_used

    place, last_used = Path(folder), time.monotonic()
    while not ended and place.exists():
        running = [cluster for cluster in clusters_in(place) if cluster.process()]
        if any(is_used(cluster) for cluster in running):
            last_used = time.monotonic()
        ended = time.monotonic() - last_used >= idle_seconds
        if not ended:
            ended = bool(select.select([pipe], [], [], check_seconds)[0])
    remove_servers(place)
