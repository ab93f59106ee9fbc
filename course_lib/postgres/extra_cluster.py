"""A cluster whose data are given, as a copy or a backup of another's: durable, replicated, archived, and small.

Where the lessons' server makes new data when it cannot read the old, this one says so: new data would be no standby.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg

from course_lib.errors import CourseError
from course_lib.postgres.binaries import Account
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.configuration import settings_text, write_configuration
from course_lib.postgres.files import make_folder
from course_lib.postgres.obstacles import is_full, no_room
from course_lib.postgres.postmaster import ended
from course_lib.postgres.room import MB, free_bytes
from course_lib.postgres.sockets import socket_folder

ARCHIVE = "archive"
SECONDS = 10  # for a server to read its settings again
NEEDED = 160 * MB  # of a server: 40 at first, and what a lesson writes
DURABLE = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
    "wal_level": "logical", "max_wal_senders": "8", "max_replication_slots": "8", "wal_keep_size": "'64MB'",
    "archive_mode": "on", "archive_command": f"'test ! -f ../{ARCHIVE}/%f && cp %p ../{ARCHIVE}/%f'",
    "shared_buffers": "'16MB'", "maintenance_work_mem": "'32MB'", "min_wal_size": "'4MB'", "max_wal_size": "'64MB'",
    "max_connections": "60", "track_commit_timestamp": "on",
}  # fmt: skip
"""Beyond the settings of the lessons' server. Programs of a server run in its data folder, hence the short paths."""
RULES = "local all all trust\nlocal replication all trust\n"
"""As for the lessons' server, the folder of the socket lets nobody else in."""


class ExtraCluster(Cluster):
    """A server on ``folder/data``, with its archive in ``folder/archive``; both are there before it starts."""

    def __init__(self, folder: Path, installation: Path, account: Account | None, settings: Mapping[str, str]) -> None:
        super().__init__(folder, installation, account, DURABLE | dict(settings), RULES)

    def prepare(self, copied: Path | None = None) -> None:
        """Make its folder, with an empty archive, and data that are a copy of ``copied``, or empty.

        Raises:
            CourseError: the disk has too little room, or something lies in the way.
        """
        with self._at_work():
            if free_bytes(self.folder) < NEEDED:
                raise no_room(self.folder, NEEDED)
            self.make_folder_of_account(self.folder / ARCHIVE)
            if copied is None:
                self.make_folder_of_account(self.data)
            else:  # ours until it starts; a link is copied as one, wherever it leads
                shutil.copytree(copied, self.data, symlinks=True)

    def make_folder_of_account(self, place: Path) -> None:
        """Make a folder below the server's own for whom it runs as, and nobody else."""
        make_folder(place, self.account)
        place.chmod(0o700)
        if self.account is not None:
            os.chown(place, self.account.uid, self.account.gid)

    def keep_reserve(self) -> None:
        """It keeps none: it is gone with its kernel."""

    def ensure_running(self, suspect: bool = False) -> bool:
        if not self.data_folder.exists():
            raise CourseError("This server has been stopped, and its data are gone.", "Make it again.")
        return super().ensure_running(suspect)

    def _start_anyhow(self) -> None:
        if self.postmaster.lives():
            self.postmaster.clear_away_the_dead()
        if is_full(self.folder):
            raise no_room(self.folder)
        self._start_server()

    def _start_server(self) -> None:
        """Start, and only then write through to the disk: else it would first do so with each file that is there."""
        durable = self.settings
        self.settings = {**durable, "fsync": "off"}
        try:
            super()._start_server()
        finally:
            self.settings = durable
        settings = settings_text(socket_folder(self.folder), 5432, self.settings)
        write_configuration(self.folder, settings, self.rules, self.account)
        if process := self.process():
            process.send_signal(signal.SIGHUP)
            self._wait_until_durable()

    def _wait_until_durable(self) -> None:
        patience = time.monotonic() + SECONDS
        while time.monotonic() < patience and self.process():
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.address().dsn, connect_timeout=1) as asking:
                if asking.execute("SHOW fsync").fetchone() == (self.settings["fsync"],):
                    return
            time.sleep(0.01)

    def crash(self) -> bool:
        """End it as a loss of power would: nothing is written any more. Returns False when it did not run."""
        process = self.process()
        if process is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGQUIT)
            if not ended(process, 5):
                process.kill()
                ended(process, 5)
        self.postmaster.clear_away_the_dead()
        return True

    def remove_socket(self) -> None:
        """The folder of the socket, where it had to lie somewhere else."""
        place = socket_folder(self.folder)
        if place.parent != self.folder:
            with contextlib.suppress(OSError):
                mine = {os.geteuid(), self.account.uid if self.account else os.geteuid()}
                if place.lstat().st_uid in mine and not place.is_symlink():
                    for file in place.iterdir():
                        file.unlink()
                    place.rmdir()
