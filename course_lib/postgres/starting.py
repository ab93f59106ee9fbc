"""Run PostgreSQL's programs: initdb for new data, the server itself, and its single-user mode for repairs."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from course_lib.postgres.binaries import Account, program
from course_lib.postgres.configuration import OPTION
from course_lib.postgres.files import NOFOLLOW, write_file
from course_lib.postgres.postmaster import Postmaster

START_SECONDS = 60
DETACHED = '"$@" </dev/null >&2 & echo $!'
"""A shell that starts a program and ends: whoever asked for the program is not its parent, and no zombie of it is left
in a notebook or in ``course lab`` when it is killed."""


class NotStarted(Exception):
    """A program of PostgreSQL ended too early. ``log`` is what it wrote; empty when it was killed."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log


def detach(command: Sequence[str], output: Any = subprocess.DEVNULL, **options: Any) -> int:
    """Start a program that outlives us, in a session that no Ctrl-C reaches. Returns its pid.

    Args:
        output: where its standard output and error go.
    """
    if os.name == "nt":
        quiet = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        return subprocess.Popen(command, **quiet, **options).pid
    shell = subprocess.run(
        ["/bin/sh", "-c", DETACHED, "sh", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, start_new_session=True, check=True, **options,
    )  # fmt: skip
    return int(shell.stdout)


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs, run in ``folder`` as ``account`` when we are root."""

    folder: Path
    installation: Path
    account: Account | None

    def options(self) -> dict[str, Any]:
        """What subprocess needs: the account, the folder, and an environment in which nothing leads astray."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {"env": {**environment, "LC_ALL": "C"}, "cwd": self.folder}
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return options

    def run(self, name: str, arguments: Sequence[str], text: str = "") -> None:
        """Run one to its end, with ``text`` on its standard input.

        Raises:
            NotStarted: it failed.
        """
        done = subprocess.run(
            [str(program(self.installation, name)), *arguments], input=text, start_new_session=True,
            capture_output=True, text=True, errors="replace", check=False, **self.options(),
        )  # fmt: skip
        if done.returncode != 0:
            raise NotStarted(done.stderr or done.stdout)

    def make_data(self, target: Path, *more: str) -> None:
        """Run initdb in a folder that exists, is empty and belongs to the account; ``more`` are arguments of it."""
        arguments = ["-D", str(target), "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions"]
        # what a failed one leaves is ours to remove, after a look at how full the disk is with it
        arguments += ["--no-clean", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if os.name == "nt":
            write_file(self.folder / "password", secrets.token_urlsafe(24))
            arguments += ["-A", "scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        else:
            arguments += ["-A", "trust"]
        self.run("initdb", [*arguments, *more])

    def single_user(self, database: str, statements: Sequence[str]) -> None:
        """Run statements in a database of a server that is stopped, with all rights and past all locks.

        Raises:
            NotStarted: the database cannot be entered.
        """
        data = str(self.folder / "data")
        lines = "".join(" ".join(statement.split()) + "\n" for statement in statements)
        self.run("postgres", ["--single", "-D", data, *OPTION, database], lines)

    def start_server(self, postmaster: Postmaster, log: Path) -> None:
        """Start the server and wait until clients may come.

        Raises:
            NotStarted: it ended, or did not get ready in time.
        """
        log.unlink(missing_ok=True)
        lock = postmaster.hold()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | NOFOLLOW, 0o600)
        try:
            pid = self._launch(output, lock)
        finally:
            os.close(output)
            if lock is not None:
                os.close(lock)
        if not _gets_ready(postmaster, pid):
            raise NotStarted(log.read_text(errors="replace"))

    def _launch(self, output: int, lock: int | None) -> int:
        """Start the server's process, which writes to ``output`` and inherits ``lock``. Returns its pid."""
        data = str(self.folder / "data")
        if os.name == "nt":  # pg_ctl drops administrator rights, which postgres.exe refuses
            command = [str(program(self.installation, "pg_ctl")), "start", "-W", "-D", data, "-o", " ".join(OPTION)]
            quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            done = subprocess.run(command, check=False, **quiet, **self.options())
            if done.returncode:
                raise NotStarted(f"pg_ctl ended with {done.returncode}")
            return 0
        inherited: dict[str, Any] = {"pass_fds": (lock,)} if lock is not None else {}
        server = str(program(self.installation, "postgres"))
        return detach([server, "-D", data, *OPTION], output, **inherited, **self.options())


def _gets_ready(postmaster: Postmaster, pid: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if postmaster.state() == "ready":
            return True
        if sys.platform != "win32" and not _runs(pid):
            return False
        time.sleep(0.01)
    if process := postmaster.process():
        with contextlib.suppress(psutil.Error):
            process.kill()
    return False


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
