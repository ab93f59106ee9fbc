"""Which JupyterLab works on a learner's folder, as whoever starts a second one is told; and what its terminals find."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from course_lib.files import write_whole

NOTE = ".lab.json"
CLOCK_SET_SECONDS = 60  # setting the clock moves all times of start


class RunningLab(BaseModel):
    """A process by number and time of start, as numbers are given again; and the folder where it tells its address.

    The token is in that folder only, which nobody but its user can enter; the note lies in ``work/``.
    """

    pid: int
    since: float
    """Seconds since 1970."""
    runtime: Path

    @classmethod
    def on(cls, folder: Path) -> RunningLab | None:
        """The one that works on ``folder`` now."""
        try:
            lab = cls.model_validate_json((folder / NOTE).read_bytes())
            started = psutil.Process(lab.pid).create_time()
        except (OSError, ValueError, OverflowError, psutil.Error):
            return None
        return lab if abs(started - lab.since) < CLOCK_SET_SECONDS else None

    @property
    def told(self) -> dict[str, Any]:
        """What the running server writes about itself; empty while it has not, and for other users."""
        try:
            content = json.loads((self.runtime / f"jpserver-{self.pid}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def listens(self) -> bool:
        """Whether it takes connections; Jupyter Server 2.21 tells its address before it does."""
        try:
            socket.create_connection(("localhost", self.told["port"]), timeout=1).close()
        except (KeyError, OSError):
            return False
        return True

    def address(self, notebook: str, view: str = "lab") -> str | None:
        """Where to open ``notebook``, with the token; None while nothing is told of it, and for other users.

        Args:
            notebook: its path below the folder.
            view: ``"lab"``, or ``"doc"`` for the notebook with nothing beside it.
        """
        if not (told := self.told):
            return None
        token = f"?token={told['token']}" if told["token"] else ""
        return f"http://localhost:{told['port']}{told['base_url']}{view}/tree/{notebook}{token}"


@contextlib.contextmanager
def noted(folder: Path, pid: int, runtime: Path) -> Iterator[RunningLab]:
    """Others are told of the process ``pid`` while the block runs, where ``folder`` can be written."""
    lab = RunningLab(pid=pid, since=psutil.Process(pid).create_time(), runtime=runtime)
    with contextlib.suppress(OSError):
        write_whole(folder / NOTE, lab.model_dump_json())
    try:
        yield lab
    finally:
        with contextlib.suppress(OSError):
            (folder / NOTE).unlink()


def with_course_on_path(environment: dict[str, str]) -> dict[str, str]:
    """For JupyterLab, so that its terminals and ``!course`` in a notebook find the command."""
    inherited = {name: value for name, value in environment.items() if name != "UV_RUN_RECURSION_DEPTH"}
    path = [str(Path(sys.executable).parent), inherited.get("PATH", "")]
    return inherited | {"PATH": os.pathsep.join(filter(None, path))}


def terminal_shell() -> list[str]:
    """The argument for Jupyter by which terminals start a plain shell: a login shell would make its path anew."""
    shell = os.environ.get("SHELL") or shutil.which("sh")
    if os.name == "nt" or not shell:
        return []
    return [f"--ServerApp.terminado_settings=shell_command={shlex.quote(shell)}"]
