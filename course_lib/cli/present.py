"""``course present``: a lesson alone and large, in the JupyterLab that runs already."""

from __future__ import annotations

from html import escape
from pathlib import Path

import typer

from course_lib.cli.running_lab import RunningLab
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.masking import short
from course_lib.notebooks import Workspace

LARGE = "View → Presentation Mode makes the text large; Ctrl and + in the browser does the rest."


def present_lesson(number: str, browser: bool) -> None:
    """Print where a lesson opens with nothing beside it, and open it there.

    Args:
        number: the lesson's, such as ``"03"``.
        browser: whether to open one.

    Raises:
        CourseError: there is no such lesson, or no JupyterLab of this user runs on ``work/``.
    """
    folder = Workspace().folder
    if not number.isdecimal():
        raise CourseError(f"{short(number)!r} is no lesson's number.", f"For example: {command('present 03')}")
    found = sorted(folder.glob(f"{number.zfill(2)}_*.ipynb"))
    if not found:
        raise CourseError(f"There is no lesson {number} in {folder}.", f"Run: {command('lab')}")
    running = RunningLab.on(folder)
    if running is None or not running.listens() or not (address := running.address(found[0].name, "doc")):
        raise CourseError("JupyterLab does not run on your notebooks.", f"In another terminal: {command('lab')}")
    typer.echo(f"{found[0].name} alone:  {address}\n{LARGE}")
    if browser:
        typer.launch(_leading_to(address, running.runtime).as_uri())


def _leading_to(address: str, folder: Path) -> Path:
    """A page that leads there, where nobody else can enter: what a browser is started with, others see in `ps`."""
    page = folder / "present.html"
    page.write_text(f'<meta http-equiv="refresh" content="0;url={escape(address)}">', encoding="utf-8")
    return page
