"""One embedded PostgreSQL server on one data folder: create, start, stop.

Own launcher over the wheel's binaries, because the wheel's ``get_server()`` breaks on a space in the path,
opens up folders when run as root, and may end a program that is not its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from course_lib.errors import CourseError
from course_lib.postgres.address import Address
from course_lib.postgres.binaries import Account, make_folder, program
from course_lib.postgres.configuration import settings_text
from course_lib.postgres.failures import is_damage, startup_failure
from course_lib.postgres.sockets import make_private, socket_folder

START_SECONDS = 60
STOP_SECONDS = 20
FREE_BYTES = 300 * 2**20  # a new cluster, its templates and a few clones


class Cluster:
    """A server on ``folder/data``, run by the programs of ``installation``, as ``account`` when we are root.

    That account owns the data and the socket; everything else in ``folder`` stays ours, so that it cannot make us
    follow a link it has laid.
    """

    def __init__(self, folder: Path, installation: Path, account: Account | None = None) -> None:
        self.folder = folder.resolve()  # one spelling, or a running server would pass for a stranger's
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.installation = installation
        self.account = account

    # -- state ---------------------------------------------------------------------------------------------

    def process(self) -> psutil.Process | None:
        """The running postmaster, or None. A recorded pid counts only when it is our postgres on our data."""
        try:
            process = psutil.Process(int(self._pid_file()[0]))
            ours = self._is_postmaster(process) and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, OverflowError, psutil.Error):
            return None
        return process if ours else None

    def _is_postmaster(self, process: psutil.Process) -> bool:
        return process.name().removesuffix(".exe") == "postgres" and any(
            Path(argument) == self.data  # a path, since pg_ctl turns \ into /
            for argument in process.cmdline()
        )

    def accepts_clients(self) -> bool:
        """True when the server runs and is neither starting nor stopping."""
        return self.process() is not None and self._state() == "ready"

    def address(self) -> Address:
        """Where clients connect."""
        if os.name == "nt":
            port = int((self.folder / "port").read_text())
            return Address("127.0.0.1", port, (self.folder / "password").read_text())
        # what the server says, since a client with another TMPDIR would look elsewhere
        told = (self._pid_file()[4:5] or [""])[0].strip() if self.process() else ""
        return Address(told or str(socket_folder(self.folder)), 5432)

    def _pid_file(self) -> list[str]:
        """Lines of postmaster.pid: pid, data, start time, port, socket folder, address, memory, state."""
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        except OSError:
            return [""]

    def _state(self) -> str:
        return (self._pid_file()[7:8] or [""])[0].strip()

    # -- start ---------------------------------------------------------------------------------------------

    def ensure_running(self) -> bool:
        """Start the server unless it runs, creating its data first where there are none.

        Returns:
            True when this call started it.

        Raises:
            CourseError: it cannot be started; the sentence says why.
        """
        if self.accepts_clients():
            return False
        with self._sentences():
            make_folder(self.folder, self.account)
            with self._locked():
                if self._settled():
                    return False
                if not self.data.exists():
                    self._initialise()
                self._start_or_renew()
        return True

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what the file system answers into a sentence."""
        try:
            yield
        except OSError as error:
            raise startup_failure(str(error), self.folder) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / "lock", timeout=START_SECONDS + STOP_SECONDS):
                yield
        except Timeout as error:
            raise CourseError(
                "Another program has been starting the course's server for more than a minute.",
                "Run: course doctor",
            ) from error

    def _settled(self) -> bool:
        """Wait for a server that is just starting or stopping. True when one serves in the end."""
        patience = time.monotonic() + STOP_SECONDS
        while process := self.process():
            state = self._state()
            if state == "ready":
                return True
            if state == "stopping" or time.monotonic() > patience:
                self._end(process)  # by itself, a smart shutdown waits for its clients for ever
            time.sleep(0.02)
        return False

    def _require_room(self) -> None:
        if shutil.disk_usage(self.folder).free < FREE_BYTES:
            raise startup_failure("No space left on device", self.folder)

    def _initialise(self) -> None:
        """Run initdb into a temporary folder and rename it, so that a half-made cluster never counts."""
        self._require_room()
        for leftover in self.folder.glob("data.[0-9]*"):  # of a start that was killed; we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        partial = self.folder / f"data.{os.getpid()}"
        partial.mkdir(mode=0o700)
        if self.account is not None:
            os.chown(partial, self.account.uid, self.account.gid)
        arguments = ["-D", str(partial), "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if os.name == "nt":
            import secrets

            (self.folder / "password").write_text(secrets.token_urlsafe(24))
            arguments += ["-A", "scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        else:
            arguments += ["-A", "trust"]
        try:
            self._run("initdb", arguments)
            with (partial / "postgresql.conf").open("a") as configuration:
                configuration.write("\ninclude = '../course.conf'\n")
            partial.rename(self.data)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _run(self, name: str, arguments: list[str]) -> None:
        done = subprocess.run(
            [str(program(self.installation, name)), *arguments],
            capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False,
            **self._as_account(),
        )  # fmt: skip
        if done.returncode != 0:
            raise startup_failure(done.stderr or done.stdout, self.folder)

    def _as_account(self) -> dict[str, Any]:
        """What subprocess needs to run a program as the account, in a session that no Ctrl-C reaches."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {
            "env": {**environment, "LC_ALL": "C"}, "cwd": self.folder, "start_new_session": True,
        }  # fmt: skip
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return options

    def _start_or_renew(self) -> None:
        """Start; when the data cannot be read any more, put them aside and make them anew. They are disposable."""
        try:
            self._start()
        except CourseError:
            if not is_damage(self._last_words()):
                raise
            self._require_room()
            aside = self.folder / "data.broken"
            shutil.rmtree(aside, ignore_errors=True)
            self.data.rename(aside)
            self._initialise()
            self._start()
            print(f"The course's server could not read its data, so it has made them anew; the old ones are in {aside}")

    def _start(self) -> None:
        self.log.unlink(missing_ok=True)
        self._clear_away_the_dead()
        if os.name != "nt":
            make_private(socket_folder(self.folder), self.account)
        settings = settings_text(socket_folder(self.folder), self._choose_port() if os.name == "nt" else 5432)
        (self.folder / "course.conf").write_text(settings, encoding="utf-8", errors="surrogateescape")
        (self.folder / "course.conf").chmod(0o644)
        self.log.touch(mode=0o600)
        with self.log.open("ab") as log:
            server = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_account()
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._state() == "ready":
                return
            code = server.poll()
            if code or (code == 0 and os.name != "nt"):  # on Windows pg_ctl ends first, with 0
                break
            time.sleep(0.01)
        else:
            server.kill()
        raise startup_failure(self._last_words(), self.folder)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _clear_away_the_dead(self) -> None:
        """Forget a postmaster.pid that names nobody of ours, and end backends whose postmaster was killed."""
        for _ in range(5):  # a postmaster may have made another child since we looked
            leftover = list(self._leftover())
            for process in leftover:
                with contextlib.suppress(psutil.Error):
                    process.kill()
                    _ended(process, 5)
            if not leftover:
                break
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _leftover(self) -> Iterator[psutil.Process]:
        """PostgreSQL's processes on our data. By the arguments too: one so young that it has not gone there yet."""
        for process in psutil.process_iter(["name"]):
            if (process.info["name"] or "").removesuffix(".exe") != "postgres":
                continue
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()) == self.data or self._is_postmaster(process):
                    yield process

    def _choose_port(self) -> int:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        (self.folder / "port").write_text(str(port))
        return port

    def _command(self) -> list[str]:
        if os.name == "nt":  # pg_ctl drops administrator rights, which postgres.exe refuses
            return [str(program(self.installation, "pg_ctl")), "start", "-W", "-D", str(self.data)]
        return [str(program(self.installation, "postgres")), "-D", str(self.data)]

    # -- stop ----------------------------------------------------------------------------------------------

    def stop(self) -> bool:
        """End the server and disconnect its clients. Returns False when it was not running."""
        if not self.folder.is_dir():
            return False
        with self._sentences(), self._locked():
            process = self.process()
            if process is None:
                return False
            self._end(process)
        return True

    def _end(self, process: psutil.Process) -> None:
        """A fast shutdown; when that takes too long, an abrupt one."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if os.name == "nt":
                stop = [str(program(self.installation, "pg_ctl")), "stop", "-m", "fast", "-D", str(self.data)]
                subprocess.run(stop, check=False, capture_output=True)
            else:
                process.send_signal(signal.SIGINT)
            if not _ended(process, STOP_SECONDS):
                process.kill()
                _ended(process, 5)
        if os.name != "nt" and (sockets := socket_folder(self.folder)).parent != self.folder:
            with contextlib.suppress(OSError):
                sockets.rmdir()


def _ended(process: psutil.Process, seconds: float) -> bool:
    """Wait for a process's end. A container's first process may leave it a zombie for long, which is end enough."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    return True
