"""One embedded PostgreSQL server on one data folder: create, start, stop, and make anew.

Own launcher over the wheel's binaries, because the wheel's ``get_server()`` breaks on a space in the path,
opens up folders when run as root, and may end a program that is not its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import psycopg
from filelock import FileLock, Timeout

from course_lib.errors import CourseError
from course_lib.postgres.address import Address
from course_lib.postgres.binaries import Account, program
from course_lib.postgres.configuration import RULES, choose_port, settings_text, write_configuration
from course_lib.postgres.data_folder import DataFolder
from course_lib.postgres.files import make_folder, own_data, require_ours
from course_lib.postgres.obstacles import (
    DISK_FULL,
    failure_of,
    failure_of_start,
    is_damage,
    is_full,
    obstacle,
    sqlstates,
)
from course_lib.postgres.postmaster import Postmaster, ended
from course_lib.postgres.restoring import DAMAGED, enter_alone, not_restored, restore_defaults
from course_lib.postgres.room import keep_reserve, make_room
from course_lib.postgres.sockets import answers, make_private, socket_folder
from course_lib.postgres.starting import START_SECONDS, NotStarted, Programs

STOP_SECONDS = 20
ANSWER_SECONDS = 3  # a server that says nothing for so long is frozen


class Cluster:
    """A server on ``folder/data``, run by the programs of ``installation``, as ``account`` when we are root.

    That account owns the data and the socket; everything else in ``folder`` stays ours, so that it cannot make us
    follow a link it has laid.
    """

    def __init__(
        self,
        folder: Path,
        installation: Path,
        account: Account | None = None,
        settings: Mapping[str, str] | None = None,
        rules: str = RULES,
    ) -> None:
        """
        Args:
            settings: of the server, beyond the course's, with values as postgresql.conf has them.
            rules: who may connect, as in pg_hba.conf.

        Raises:
            CourseError: the folder's name holds a line break, which PostgreSQL's own files cannot hold.
        """
        self.folder = folder.resolve()  # one spelling, or a running server would pass for a stranger's
        if any(letter in str(self.folder) for letter in "\n\r"):
            raise CourseError(
                "COURSE_HOME holds a line break, and no folder of the course's server can.",
                "Set COURSE_HOME to a path without one.",
            )
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.installation = installation
        self.account = account
        self.settings, self.rules = settings or {}, rules
        self.postmaster = Postmaster(self.folder)
        self.programs = Programs(self.folder, installation, account)
        self.data_folder = DataFolder(self.data, self.programs)

    # -- state ---------------------------------------------------------------------------------------------

    def process(self) -> psutil.Process | None:
        """The running postmaster, or None. A recorded pid counts only when it is our postgres on our data."""
        return self.postmaster.process()

    def accepts_clients(self) -> bool:
        """True when the server runs, is neither starting nor stopping, and was not halted."""
        process = self.process()
        return process is not None and process.status() != psutil.STATUS_STOPPED and self.postmaster.state() == "ready"

    def address(self) -> Address:
        """Where clients connect."""
        if os.name == "nt":
            port = int((self.folder / "port").read_text())
            return Address("127.0.0.1", port, (self.folder / "password").read_text())
        # what the server says, since a client with another TMPDIR would look elsewhere
        told = self.postmaster.socket() if self.process() else None
        return Address(*(told or (str(socket_folder(self.folder)), 5432)))

    # -- start ---------------------------------------------------------------------------------------------

    def ensure_running(self, suspect: bool = False) -> bool:
        """Start the server unless it runs, creating its data first where there are none.

        Args:
            suspect: it was seen not to answer: it has to prove that it does, or is ended and started again.

        Returns:
            True when this call started it.

        Raises:
            CourseError: it cannot be started; the sentence says why.
        """
        if not suspect and self.accepts_clients():
            return False
        with self._at_work():
            if self._settled(suspect):
                return False
            self._start_anyhow()
            self.keep_reserve()
        return True

    @contextlib.contextmanager
    def _at_work(self, starting: bool = True) -> Iterator[None]:
        """Be the only one who starts or stops this server; turn what the file system answers into a sentence."""
        try:
            if starting:
                make_folder(self.folder, self.account)
                require_ours(self.folder, self.account)
            with FileLock(self.folder / "lock", timeout=START_SECONDS + STOP_SECONDS, mode=0o600):
                yield
        except Timeout as error:
            raise CourseError(
                "Another program has been starting or stopping the course's server for more than a minute.",
                f"See which (lsof {self.folder / 'lock'}) and end it, or restart the computer.",
            ) from error
        except NotStarted as error:
            raise failure_of_start(error.log, self.folder, self.installation) from error
        except OSError as error:
            raise failure_of(error, self.folder) from error

    def _settled(self, suspect: bool = False) -> bool:
        """Wait for a server that is just starting or stopping. True when one serves in the end."""
        patience = time.monotonic() + STOP_SECONDS
        while process := self.process():
            state = self.postmaster.state()
            if process.status() == psutil.STATUS_STOPPED:
                suspect = True
                _wake(process)
            if state == "ready" and (not suspect or self._answers()):
                return True
            if state in ("ready", "stopping") or time.monotonic() > patience:
                self._end(process)  # by itself, a smart shutdown waits for its clients for ever
            time.sleep(0.02)
        return False

    def _answers(self) -> bool:
        address = self.address()
        return answers(address.host, address.port, ANSWER_SECONDS)

    def _start_anyhow(self) -> None:
        """Start: with room made on a full disk, again when it was killed, and on new data when the old are lost."""
        if self.postmaster.lives():
            self.postmaster.clear_away_the_dead()
        if is_full(self.folder):
            self.make_room()
        if not self.data_folder.exists():
            self.data_folder.make()
        try:
            self._start()
        except NotStarted as error:
            killed = not error.log.strip()
            full = DISK_FULL in sqlstates(error.log) and self.make_room() > 0
            if not (killed or full):
                return self._start_on_new_data(error)
        else:
            return None
        try:
            self._start()
        except NotStarted as error:
            self._start_on_new_data(error)

    def _start_on_new_data(self, failure: NotStarted) -> None:
        """Give up the old data, but only when new ones serve where they did not.

        Raises:
            NotStarted: ``failure``, when it is no sign of damage.
        """
        if not is_damage(failure.log) or obstacle(self.folder, self.installation):
            raise failure
        fresh = self.data_folder.prepare()
        aside = self.data_folder.put_aside()
        try:
            fresh.rename(self.data)
            self._start()
        except BaseException:  # the data are not what is wrong
            self.data_folder.put_back(aside)
            raise
        print(f"The course's server could not read its data, so it has made them anew; the old ones are in {aside}")

    def make_room(self) -> int:
        """Remove what of the course's own nobody needs, the reserve too. Returns how many bytes that has freed."""
        return make_room(self.folder, self.installation)

    def keep_reserve(self) -> None:
        """Set room aside for a bad day, where there is plenty of it."""
        keep_reserve(self.folder)

    def _start(self) -> None:
        """Start on what lies there and make sure that it can be used.

        Raises:
            NotStarted: it cannot; a server that lets nobody in has been ended again.
        """
        self._start_server()
        try:
            return restore_defaults(self.address())
        except psycopg.Error:
            self._give_up()
        enter_alone(self.programs.single_user, NotStarted)
        self._start_server()
        try:
            restore_defaults(self.address())
        except psycopg.Error as error:
            self._give_up()
            if error.sqlstate and not error.sqlstate.startswith(DAMAGED):
                raise not_restored(error) from error
            raise NotStarted(self.log.read_text(errors="replace") or str(error)) from error

    def _start_server(self) -> None:
        self.postmaster.clear_away_the_dead()
        own_data(self.data, self.account)
        sockets = socket_folder(self.folder)
        if os.name != "nt":
            make_private(sockets, self.account, ours=sockets.parent == self.folder)
        settings = settings_text(sockets, choose_port(self.folder) if os.name == "nt" else 5432, self.settings)
        write_configuration(self.folder, settings, self.rules, self.account)
        self.programs.start_server(self.postmaster, self.log)

    def _give_up(self) -> None:
        """End a server that we have just started. One that was killed meanwhile said nothing of its own."""
        process = self.process()
        if process is None:
            raise NotStarted("")
        self._end(process)
        self.postmaster.clear_away_the_dead()

    # -- make anew -----------------------------------------------------------------------------------------

    def renew(self) -> Path | None:
        """Put the data aside, whatever state they or their server are in, and start on new ones.

        Returns:
            Where the old data are now; None when there were none, or when they had to go to make room.

        Raises:
            CourseError: new ones cannot be made; the sentence says why.
        """
        with self._at_work():
            if process := self.process():
                self._end(process)
            self.postmaster.clear_away_the_dead()
            aside = self.data_folder.put_aside() if self.data_folder.exists() else None
            self.data_folder.make()  # makes room where there is none, and then the old data go
            self._start()
            self.keep_reserve()
            return aside if aside and aside.exists() else None

    # -- stop ----------------------------------------------------------------------------------------------

    def stop(self) -> bool:
        """End the server and disconnect its clients. Returns False when it was not running.

        Raises:
            CourseError: it is one of another container, which is not ours to end.
        """
        if not self.folder.is_dir():
            return False
        with self._at_work(starting=False):
            process = self.process()
            if process is None:
                self.postmaster.require_not_elsewhere()
                return False
            self._end(process)
        return True

    def _end(self, process: psutil.Process) -> None:
        """A fast shutdown; an abrupt one when that takes too long, which for a frozen server it would."""
        with contextlib.suppress(psutil.NoSuchProcess):
            _wake(process)
            patience = STOP_SECONDS if self._answers() else ANSWER_SECONDS
            if os.name == "nt":
                stop = [str(program(self.installation, "pg_ctl")), "stop", "-m", "fast", "-D", str(self.data)]
                subprocess.run(stop, check=False, capture_output=True)
            else:
                process.send_signal(signal.SIGINT)
                _wake(process)  # it may have been halted only now
            if not ended(process, patience):
                process.kill()
                if not ended(process, 5):
                    raise CourseError(
                        f"The course's server, process {process.pid}, does not react, and cannot be ended.",
                        "Restart the computer or the container, or set COURSE_HOME to another folder.",
                    )
        if os.name != "nt" and (sockets := socket_folder(self.folder)).parent != self.folder:
            with contextlib.suppress(OSError):
                sockets.rmdir()


def _wake(process: psutil.Process) -> None:
    """Let a halted process go on; to any other this means nothing."""
    with contextlib.suppress(psutil.Error):
        if os.name != "nt":
            process.send_signal(signal.SIGCONT)
