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
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import psutil
from filelock import FileLock, Timeout

from course_lib.errors import CourseError
from course_lib.postgres.binaries import Account, program
from course_lib.postgres.failures import startup_failure

START_SECONDS = 60
STOP_SECONDS = 20
LONGEST_SOCKET_PATH = 103  # bytes; the kernel's sun_path is 104 on macOS, 108 on Linux, with a closing NUL
FREE_BYTES = 300 * 2**20  # a new cluster, its templates and a few clones

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


@dataclass(frozen=True)
class Address:
    """How to reach a running cluster: a socket folder, or 127.0.0.1 with a password (Windows)."""

    host: str
    port: int
    password: str | None = None

    @property
    def dsn(self) -> str:
        """A libpq URI of the maintenance database; ``quote``, since libpq takes ``+`` for a plus sign."""
        if self.password is None:
            return f"postgresql://postgres@/postgres?host={quote(self.host, safe='')}&port={self.port}"
        return f"postgresql://postgres:{quote(self.password, safe='')}@{self.host}:{self.port}/postgres"


class Cluster:
    """A server on ``folder/data``, run by the programs of ``installation``, as ``account`` when we are root."""

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
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            ours = (
                process.name().removesuffix(".exe") == "postgres"
                and str(self.data) in process.cmdline()
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except (OSError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def address(self) -> Address:
        """Where clients connect."""
        if os.name == "nt":
            port = int((self.folder / "port").read_text())
            return Address("127.0.0.1", port, (self.folder / "password").read_text())
        return Address(str(self._socket_folder()), 5432)

    def _socket_folder(self) -> Path:
        inside = self.folder / "socket"
        longest = len(os.fsencode(inside / ".s.PGSQL.5432.lock"))
        if longest <= LONGEST_SOCKET_PATH and "," not in str(inside):  # libpq reads a comma as two hosts
            return inside
        name = f"pg-{os.geteuid()}-{sha256(os.fsencode(self.folder)).hexdigest()[:12]}"
        return Path(tempfile.gettempdir()) / name

    # -- start ---------------------------------------------------------------------------------------------

    def ensure_running(self) -> bool:
        """Start the server unless it runs, creating its data first where there are none.

        Returns:
            True when this call started it.

        Raises:
            CourseError: it cannot be started; the sentence says why.
        """
        if self.process():
            return False
        with self._writable(), self._locked():
            if self.process():
                return False
            if not self.data.exists():
                self._initialise()
            self._clear_away_the_dead()
            self._own(self._make_socket_folder())
            self._write_settings()
            self._start()
        return True

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """Make our folder, and turn what the file system answers into a sentence."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own(self.folder)
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

    def _own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def _make_socket_folder(self) -> Path:
        folder = self._socket_folder()
        if os.name == "nt":
            return self.folder
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.lstat().st_uid
        if folder.is_symlink() or owner not in {os.geteuid(), self.account.uid if self.account else -1}:
            raise CourseError(
                f"The socket folder {folder} belongs to somebody else.",
                "Remove it, or set COURSE_HOME to a shorter path.",
            )
        folder.chmod(0o700)
        return folder

    def _initialise(self) -> None:
        """Run initdb into a temporary folder and rename it, so that a half-made cluster never counts."""
        if shutil.disk_usage(self.folder).free < FREE_BYTES:
            raise startup_failure("No space left on device", self.folder)
        partial = self.folder / f"data.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        self._own(partial)
        arguments = ["-D", str(partial), "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if os.name == "nt":
            import secrets

            (self.folder / "password").write_text(secrets.token_urlsafe(24))
            arguments += ["-A", "scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        else:
            arguments += ["-A", "trust"]
        done = subprocess.run(
            [str(program(self.installation, "initdb")), *arguments],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **self._as_account(),
        )  # fmt: skip
        if done.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise startup_failure(done.stderr or done.stdout, self.folder)
        with (partial / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude = 'course.conf'\n")
        partial.rename(self.data)

    def _write_settings(self) -> None:
        windows = os.name == "nt"
        sockets = str(self._socket_folder()).replace("'", "''")
        text = SETTINGS.format(
            listen="'127.0.0.1'" if windows else "''",
            port=self._choose_port() if windows else 5432,
            sockets="''" if windows else f"'\"{sockets}\"'",
            check_clients="0" if windows else "5s",
        )
        (self.data / "course.conf").write_text(text)
        self._own(self.data / "course.conf")

    def _choose_port(self) -> int:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        (self.folder / "port").write_text(str(port))
        return port

    def _as_account(self) -> dict[str, object]:
        """What subprocess needs to run a program as the account, in a session that no Ctrl-C reaches."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, object] = {
            "env": {**environment, "LC_ALL": "C"}, "cwd": self.folder, "start_new_session": True,
        }  # fmt: skip
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return options

    def _clear_away_the_dead(self) -> None:
        """Forget a postmaster.pid that names nobody of ours, and end backends whose postmaster was killed."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for process in psutil.process_iter(["name"]):
            if (process.info["name"] or "").removesuffix(".exe") != "postgres":
                continue
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.data):
                    process.kill()
                    process.wait(5)

    def _start(self) -> None:
        self.log.unlink(missing_ok=True)
        self.log.touch(mode=0o600)
        self._own(self.log)
        with self.log.open("ab") as log:
            server = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_account()
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._is_ready():
                return
            if server.poll() not in (None, 0):
                break
            time.sleep(0.01)
        else:
            server.kill()
        raise startup_failure(self.log.read_text(errors="replace"), self.folder)

    def _command(self) -> list[str]:
        if os.name == "nt":  # pg_ctl drops administrator rights, which postgres.exe refuses
            return [str(program(self.installation, "pg_ctl")), "start", "-W", "-D", str(self.data)]
        return [str(program(self.installation, "postgres")), "-D", str(self.data)]

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    # -- stop ----------------------------------------------------------------------------------------------

    def stop(self) -> bool:
        """End the server and disconnect its clients. Returns False when it was not running."""
        if not self.folder.exists():
            return False
        with self._locked():
            process = self.process()
            if process is None:
                return False
            if os.name == "nt":
                command = [
                    str(program(self.installation, "pg_ctl")),
                    "stop",
                    "-m",
                    "fast",
                    "-D",
                    str(self.data),
                ]
                subprocess.run(command, check=False, capture_output=True)
            else:
                process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
            return True
