"""The settings of the embedded server, written anew at every start, beside the data and not among them.

The server is pointed to these files, so what became of those in its data does not matter. Only what ALTER SYSTEM
wrote is read from there whatever one does: it is removed at each start.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from course_lib.postgres.binaries import Account
from course_lib.postgres.files import empty_inside, write_file

FILE, RULES_FILE, NAMES_FILE = "course.conf", "course_hba.conf", "course_ident.conf"
OPTION = ["-c", f"config_file={FILE}"]
"""For the command line of a program that runs in the server's folder: a relative path needs no quoting anywhere."""

SHARED_MEMORY = Path("/dev/shm")
PARALLEL_BUILD_BYTES = 2**29  # a parallel index build shares its maintenance_work_mem between workers there

SETTINGS = """\
# Written by the course at every start. A disposable server: speed is worth more here than durability,
# which is off. Never copy these settings to a server whose data matter.
hba_file = '{rules}'
ident_file = '{names}'
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
default_text_search_config = 'pg_catalog.english'
lc_messages = 'C'
log_min_messages = fatal
log_line_prefix = '%e '
"""

RULES = "host all all 127.0.0.1/32 scram-sha-256\n" if os.name == "nt" else "local all all trust\n"
"""Who may connect. The socket lies in a folder that nobody else can enter, and there is no other way in."""


def write_configuration(folder: Path, settings: str, rules: str, account: Account | None) -> None:
    """Write the server's files anew into ``folder``, and forget what ALTER SYSTEM left in its data.

    Args:
        account: as which the server runs, when not as ourselves: then everybody may read them.
    """
    mode = 0o600 if account is None else 0o644
    for name, text in {FILE: settings, RULES_FILE: rules, NAMES_FILE: ""}.items():
        write_file(folder / name, text, mode)
    empty_inside(folder / "data", "postgresql.auto.conf", account)


def choose_port(folder: Path) -> int:
    """A free port, written down for clients: where there are no sockets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    write_file(folder / "port", str(port))
    return port


def settings_text(sockets: Path, port: int, more: Mapping[str, str]) -> str:
    """The whole file for a server on ``sockets``, or on Windows, which has no sockets here, on ``port``.

    Args:
        more: settings that come last and win, with their values as PostgreSQL wants them written.
    """
    windows = os.name == "nt"
    text = SETTINGS.format(
        listen="'127.0.0.1'" if windows else "''",
        port=port,
        sockets="''" if windows else _directory(sockets),
        check_clients="0" if windows else "5s",
        rules=RULES_FILE,
        names=NAMES_FILE,
    )
    if _shared_memory_is_small():
        text += "dynamic_shared_memory_type = mmap\n"
    return text + "".join(f"{name} = {value}\n" for name, value in more.items())


def _directory(path: Path) -> str:
    """A folder as the one element of a list setting: quoted as a list element, then as a setting."""
    element = str(path).replace('"', '""')
    value = element.replace("\\", "\\\\").replace("'", "''")
    value = "".join(f"\\{ord(letter):03o}" if letter < " " else letter for letter in value)
    return f"'\"{value}\"'"


def _shared_memory_is_small() -> bool:
    """True in a container with Docker's 64 MB of /dev/shm, where a parallel index build would fail."""
    try:
        return sys.platform == "linux" and shutil.disk_usage(SHARED_MEMORY).total < PARALLEL_BUILD_BYTES
    except OSError:
        return False
