"""``course classroom export``: exercises as a course of nbgrader's."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from course_lib.classroom.grading.export import chosen_assignments, export


def run_export(lessons: str, exercises: str, folder: Path) -> None:
    """Write the course and say what to do with it.

    Raises:
        CourseError: nothing was chosen, something of it is not there, or the folder is not empty.
    """
    assignments = chosen_assignments(lessons, exercises)
    export(assignments, folder)
    for assignment in assignments:
        number = len(assignment.exercises)
        typer.echo(f"{assignment.name}: {number} exercise{'s' * (number != 1)}, {assignment.points} points")
    typer.echo(f"Written to {folder}. What to do with it stands in {folder / 'README.md'}.")
    if find_spec("nbgrader") is None:
        typer.echo("nbgrader, which does the rest, is not installed here. In the course's folder, run: make grading")
    else:
        typer.echo(f"Next, in that folder: nbgrader generate_assignment {assignments[0].name}")
