"""``course classroom``: for whoever teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

classroom = typer.Typer(no_args_is_help=True, help="For teachers: grading with nbgrader.")


@classroom.command()
def export(
    to: Annotated[Path, typer.Option(help="The folder for it, which must be empty or not be there.")],
    lessons: Annotated[str, typer.Option(help="An assignment for each: 01-05, or 01,03.")] = "",
    exercises: Annotated[str, typer.Option(help="One assignment with all of these: 3.3,3.8,M4.")] = "",
) -> None:
    """Make an nbgrader course from exercises: what learners get, the checks and their points."""
    from course_lib.cli.exporting import run_export

    run_export(lessons, exercises, to)
