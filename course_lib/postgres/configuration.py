"""The settings of the embedded server, written anew at every start."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PARALLEL_BUILD_BYTES = 2**29  # a parallel index build shares its maintenance_work_mem between workers there

SETTINGS = """\
# Written by the course at every start. A disposable server: speed is worth more here than durability,
# which is off. Never copy these settings to a server whose data matter.
listen_addresses = {listen}
port = {port}
unix_socket_directories = {sockets}
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 256MB
maintenance_work_mem = 256MB
max_wal_size = 2GB
wal_level = minimal
max_wal_senders = 0
fsync = off
synchronous_commit = off
full_page_writes = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
client_connection_check_interval = {check_clients}
log_min_messages = fatal
"""


def settings_text(sockets: Path, port: int) -> str:
    """The whole file for a server on ``sockets``, or on Windows, which has no sockets here, on ``port``."""
    windows = os.name == "nt"
    text = SETTINGS.format(
        listen="'127.0.0.1'" if windows else "''",
        port=port,
        sockets="''" if windows else _directory(sockets),
        check_clients="0" if windows else "5s",
    )
    return text + "dynamic_shared_memory_type = mmap\n" if _shared_memory_is_small() else text


def _directory(path: Path) -> str:
    """A folder as the one element of a list setting: quoted as a list element, then as a setting."""
    element = str(path).replace('"', '""')
    value = element.replace("\\", "\\\\").replace("'", "''")
    return f"'\"{value}\"'"


def _shared_memory_is_small() -> bool:
    """True in a container with Docker's 64 MB of /dev/shm, where a parallel index build would fail."""
    try:
        return sys.platform == "linux" and shutil.disk_usage(SHARED_MEMORY).total < PARALLEL_BUILD_BYTES
    except OSError:
        return False
