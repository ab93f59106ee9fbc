"""``course update``: what ``course lab`` does for the copies in ``work/`` before it starts, alone."""

from __future__ import annotations

import typer

from course_lib.cli.running_lab import RunningLab
from course_lib.commands import command
from course_lib.errors import CourseError


def run_update(listed: bool) -> None:
    """Bring the learner's copies up to date, or only list those that are not.

    Raises:
        CourseError: JupyterLab has the folder open, or it cannot be written.
    """
    from course_lib.notebooks import Workspace

    workspace = Workspace()
    if listed:
        older = [f"{workspace.spoken(copy)} {state}" for copy, state in workspace.states() if state.is_older]
        typer.echo("\n".join(older) or "Your copies are the newest.")
        return
    if RunningLab.on(workspace.folder):
        mend = f"End it first (Ctrl-C in its terminal). What there is to do: {command('update --list')}"
        raise CourseError(f"JupyterLab works on {workspace.folder} and would write over what is renewed.", mend)
    written = workspace.prepare()
    for remark in workspace.remarks:
        typer.echo(remark)
    if not workspace.remarks:
        copied = f"Copied to {workspace.spoken(workspace.folder)}: {len(written)}"
        typer.echo(copied if written else "Your copies are the newest.")
