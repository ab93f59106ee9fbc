"""``course check``: the verdicts of a learner's exercise notebook, in the terminal."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import nbformat
import typer
from nbclient import NotebookClient

from course_lib.cli.lab import jupyter_environment
from course_lib.errors import CourseError
from course_lib.exercises import find_exercise
from course_lib.exercises.book import check_cells
from course_lib.notebooks import Workspace
from course_lib.settings import get_settings

CELL_SECONDS = 60


def check_notebook(what: str) -> int:
    """Run the learner's notebook of a lesson (``"01"``) or up to one exercise (``"1.3"``); print the verdicts.

    Returns:
        0 when all that was asked for is right, else 1.

    Raises:
        CourseError: there is no such lesson or exercise, or no copy of its notebook.
    """
    wanted = find_exercise(what).id if "." in what else None
    path = _notebook(what.partition(".")[0].zfill(2))
    os.environ.update(jupyter_environment())
    notebook = nbformat.read(path, as_version=4)
    checks = check_cells(notebook)
    if wanted:
        notebook.cells = [cell for cell in notebook.cells if cell not in checks.values() or cell is checks.get(wanted)]
        checks = {id: cell for id, cell in checks.items() if id == wanted}
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    client.execute(stderr=subprocess.DEVNULL)
    for cell in notebook.cells:
        if cell not in checks.values():
            _show_error(cell)
    return 0 if all([_show(cell) for cell in checks.values()]) and checks else 1


def _notebook(lesson: str) -> Path:
    folder = get_settings().work / "exercises"
    for attempt in range(2):
        found = sorted(folder.glob(f"{lesson}_*.ipynb"))
        if found:
            return found[0]
        if attempt == 0:
            Workspace().prepare()
    raise CourseError(f"Lesson {lesson} has no exercises.", "See: course progress")


def _show(cell: nbformat.NotebookNode) -> bool:
    """Print a check cell's verdict; True when it gave points."""
    for output in cell.outputs:
        if output.output_type == "execute_result" and "text/markdown" in output.data:
            typer.echo(_plain(output.data["text/markdown"]) + "\n")
            return float(output.data["text/plain"]) > 0
    _show_error(cell)
    return False


def _show_error(cell: nbformat.NotebookNode) -> None:
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            first = cell.source.strip().splitlines()[0]
            typer.echo(f"A cell raised {output.ename}: {output.evalue}\n  it begins with: {first}\n")


def _plain(markdown: str) -> str:
    """The verdict's paragraphs without Markdown's signs, all but the headline indented."""
    text = re.sub(r"\*\*(.*?)\*\*", r"\1", markdown)
    text = re.sub(r"^\*(.*?:)\*", r"\1", text, flags=re.MULTILINE).replace("`", "")
    headline, *rest = [line for line in text.splitlines() if line.strip()]
    return "\n".join([headline, *(f"  {line}" for line in rest)])
