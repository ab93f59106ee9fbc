"""``course classroom hub`` writes a hub's folder; ``course classroom seat`` is what it starts for each learner."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from course_lib.cli.lab import KERNEL_SOCKET, LEARNERS_KERNELS, jupyter_environment
from course_lib.cli.running_lab import terminal_shell, with_course_on_path
from course_lib.cli.screen import show
from course_lib.notebooks import Workspace
from course_lib.postgres.private_folder import new_private_folder


def write_hub(name: str, to: Path, port: int, trial: bool, kubernetes: bool) -> None:
    """Write the folder and say what comes next.

    Raises:
        CourseError: see ``Hub.write``.
    """
    from course_lib.classroom.hub import Hub

    hub = Hub(name, port, trial, kubernetes)
    learners = hub.write(to)
    lines = [("what to do, step by step", str(to / "README.md"))]
    if trial:
        lines.append(("for a look only", "every learner can read what the others have, and nothing limits memory"))
    show(f"The hub of the class {name} for {learners} learners is in {to}.", lines)


def sit_down() -> None:
    """Become a learner's JupyterLab below a hub, on the learner's copies of the lessons."""
    workspace = Workspace()
    workspace.prepare()
    for remark in workspace.remarks:
        typer.echo(remark)
    environment = with_course_on_path(jupyter_environment())
    environment["IPYTHONDIR"] = str(Path(environment["IPYTHONDIR"]).with_name(LEARNERS_KERNELS))
    environment["JUPYTER_RUNTIME_DIR"] = str(new_private_folder("course-hub-", KERNEL_SOCKET))
    arguments = ["-m", "jupyterhub.singleuser", f"--ServerApp.root_dir={workspace.folder}", *terminal_shell()]
    arguments.append("--KernelManager.transport=ipc")  # on a port, every account could read what kernels print
    if os.geteuid() == 0:
        arguments.append("--allow-root")
    os.execve(sys.executable, [sys.executable, *arguments], environment)
