"""``course lab``: JupyterLab on the learner's copies, with the server behind it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from course_lib.cli.running_lab import RunningLab, noted, terminal_shell, with_course_on_path
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.notebooks import Workspace
from course_lib.postgres import Server, find_server, running_server, stop_embedded
from course_lib.postgres.private_folder import new_private_folder
from course_lib.postgres.watchdog import is_used
from course_lib.settings import get_settings

FIRST_LESSON = "00_start_here.ipynb"
START_SECONDS = 60
KERNEL_SOCKET = "kernel-00000000-0000-0000-0000-000000000000-ipc-5"


def run_lab(port: int, browser: bool, extra: list[str]) -> None:
    """Prepare ``work/``, start the server and JupyterLab, print the address, wait; end what was started.

    Where one works on ``work/`` already, only say so: two windows would overwrite each other's notebooks.

    Args:
        port: the first port to try; JupyterLab takes the next free one.
        browser: whether to open one.
        extra: passed on to ``jupyter lab``.

    Raises:
        CourseError: the server or JupyterLab did not start.
    """
    workspace = Workspace()
    if running := RunningLab.on(workspace.folder):
        typer.echo(_already(running, workspace.folder))
        return
    workspace.prepare()
    for remark in workspace.remarks:
        typer.echo(remark)
    server = asyncio.run(find_server())
    typer.echo(server.describe())
    environment = with_course_on_path({**jupyter_environment(), **_token()})
    environment["IPYTHONDIR"] = str(get_settings().home / "jupyter" / LEARNERS_KERNELS)
    with _runtime_folder(Path(environment["JUPYTER_RUNTIME_DIR"])) as runtime:
        jupyter = subprocess.Popen(
            _command(workspace.folder, port, browser, extra),
            env={**environment, "JUPYTER_RUNTIME_DIR": str(runtime)},
            start_new_session=True,
        )
        for ending in (signal.SIGINT, signal.SIGTERM):  # in a script's background SIGINT may start out ignored
            signal.signal(ending, _as_interrupt)
        try:
            with noted(workspace.folder, jupyter.pid, runtime) as running:
                typer.echo(f"\nJupyterLab is at  {_address(jupyter, running)}\nCtrl-C ends it.\n")
                jupyter.wait()
        except KeyboardInterrupt:
            typer.echo("\nEnding JupyterLab.")
        finally:
            _end(jupyter, server)


def _already(running: RunningLab, folder: Path) -> str:
    address = running.address(FIRST_LESSON) or "the address in the terminal where it was started"
    kill = f"taskkill /PID {running.pid}" if os.name == "nt" else f"kill {running.pid}"
    return f"JupyterLab already runs on {folder}, at  {address}\nCtrl-C ends it in its terminal; elsewhere: {kill}"


@contextmanager
def _runtime_folder(usual: Path) -> Iterator[Path]:
    """Where Jupyter writes its token and keeps the kernels' sockets, whose names leave the path little room."""
    if os.name == "nt":
        yield usual
        return
    folder = new_private_folder("course-lab-", KERNEL_SOCKET)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _command(folder: Path, port: int, browser: bool, extra: list[str]) -> list[str]:
    command = [
        sys.executable, "-m", "jupyterlab",
        f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}",
        f"--ServerApp.port={port}", "--Application.log_level=ERROR", "--KernelManager.transport=ipc",
    ]  # fmt: skip
    if not browser:
        command.append("--no-browser")
    if os.name == "nt":
        command.remove("--KernelManager.transport=ipc")
    elif os.geteuid() == 0:
        command.append("--allow-root")
    return [*command, *terminal_shell(), *extra]


def jupyter_environment() -> dict[str, str]:
    """Everything Jupyter and IPython write goes into the course's cache folder."""
    home = get_settings().home / "jupyter"
    settings = home / "settings"
    folders = {
        "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime", "JUPYTERLAB_SETTINGS_DIR": settings,
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces", "IPYTHONDIR": home / "ipython",
        "MPLCONFIGDIR": home / "matplotlib",
    }  # fmt: skip
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.name != "nt":
            home.chmod(0o700)  # a token lies in it, and settings that Jupyter runs
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for place, content in QUIET.items():
            _write_once(home / place, content)
    except OSError as error:
        raise CourseError(f"The course cannot write to {home}.", "Set COURSE_HOME to a folder that you own.") from error
    return {**os.environ, **{name: str(folder) for name, folder in folders.items()}}


def _token() -> dict[str, str]:
    """A token of our own making, so that JupyterLab need not announce one."""
    return {} if "JUPYTER_TOKEN" in os.environ else {"JUPYTER_TOKEN": secrets.token_hex(24)}


GRADER = "nbgrader.server_extensions"
LEARNERS_KERNELS = "ipython-lab"  # those that execute the committed notebooks have another folder
QUIET: dict[str, object] = {
    # no question about news at the first start, nothing fetched
    "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    # the query log speaks of lines of a cell
    "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"codeCellConfig": {"lineNumbers": True}},
    # nbgrader and what it brings are for teachers and tests: no menus of theirs in a learner's window
    "config/labconfig/page_config.json": {
        "disabledExtensions": {"@jupyter/nbgrader": True, "@jupyter-notebook/lab-extension": True}
    },
    # before the first cell has run, too, an error is a few lines
    f"{LEARNERS_KERNELS}/profile_default/ipython_kernel_config.json": {
        "InteractiveShellApp": {"extensions": ["course_lib.kernel"]}
    },
    "config/jupyter_server_config.json": {
        "ServerApp": {
            "jpserver_extensions": {
                "notebook": False,
                f"{GRADER}.formgrader": False,
                f"{GRADER}.validate_assignment": False,
                f"{GRADER}.assignment_list": False,
                f"{GRADER}.course_list": False,
            }
        }
    },
}
"""Files below ``jupyter/`` in the cache folder, written once so that what a learner changes there stays."""


def _write_once(path: Path, content: object) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def _address(jupyter: subprocess.Popen[bytes], running: RunningLab) -> str:
    """Where it listens, as soon as it does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if jupyter.poll() is not None:
            break
        if running.listens() and (address := running.address(FIRST_LESSON)):
            return address
        time.sleep(0.1)
    raise CourseError("JupyterLab did not start.", f"Read its messages above, or run: {command('doctor')}")


def _end(jupyter: subprocess.Popen[bytes], server: Server) -> None:
    if jupyter.poll() is None:
        jupyter.terminate()
        try:
            jupyter.wait(15)
        except subprocess.TimeoutExpired:
            jupyter.kill()
    leave_as_found(server)


def leave_as_found(server: Server) -> None:
    """Stop the embedded server if finding it started it and nobody is connected now."""
    cluster = running_server() if server.embedded and server.started else None
    if cluster is None:
        return
    if is_used(cluster):
        typer.echo(f"PostgreSQL stays up: somebody is connected. To stop it: {command('db down')}")
    elif stop_embedded():
        typer.echo("PostgreSQL has been stopped.")
