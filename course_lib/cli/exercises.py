"""``course check``: the verdicts of a learner's exercise notebook, in the terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from course_lib.cli.lab import jupyter_environment
from course_lib.errors import CourseError
from course_lib.exercises import find_exercise
from course_lib.exercises.book import CHECK
from course_lib.notebooks import Workspace
from course_lib.notebooks.reading import Cell, digest, read_cells
from course_lib.notebooks.running import CELL_SECONDS, Kernel, Outcome
from course_lib.settings import REPOSITORY, get_settings

LONGEST = 300  # characters of what a cell raised


@dataclass
class Notebook:
    """A learner's exercise notebook, and which of its cells are asked about."""

    lesson: str
    path: Path
    cells: list[Cell]
    checks: dict[int, str]
    """Exercise ids by the number of the cell that checks them."""
    wanted: set[int]

    @property
    def unchanged(self) -> bool:
        return digest(self.path) == digest(REPOSITORY / "exercises" / self.path.name)


def check_notebook(what: str) -> int:
    """Run the learner's notebook of a lesson (``"01"``) or up to one exercise (``"1.3"``); print the verdicts.

    Returns:
        0 when all that was asked for is right, else 1.

    Raises:
        CourseError: there is no such lesson or exercise, or no notebook that can be run.
    """
    notebook = _find(what)
    os.environ.update(jupyter_environment())
    os.environ["COURSE_WORK"] = str(get_settings().work.absolute())  # the kernel works in another folder
    right = 0
    open_ones = dict.fromkeys(sorted(notebook.wanted))
    for number, outcome in _outcomes(notebook):
        if number in notebook.wanted:
            open_ones.pop(number)
            right += _show(notebook, number, outcome)
        else:
            _show_trouble(notebook.cells[number], outcome)
    if open_ones:
        ids = ", ".join(notebook.checks[number] for number in open_ones)
        typer.echo(f"Not judged: {ids}.\n  next: correct that cell, save the notebook, course check {what}\n")
    if right < len(notebook.wanted) and notebook.unchanged:
        typer.echo(f"{notebook.path.name} is as it was given. Have you written in it? Save it first: Ctrl-S (⌘S).\n")
    return 0 if right == len(notebook.wanted) else 1


def _find(what: str) -> Notebook:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,2})?", what.strip(), re.ASCII):
        raise CourseError(
            f"{what[:20]!r} names no lesson and no exercise.",
            "Name a lesson (course check 01) or one (course check 1.3).",
        )
    lesson = what.strip().partition(".")[0].zfill(2)
    wanted = find_exercise(what).id if "." in what else None
    path = _path(lesson)
    mend = f"Run: course reset {lesson}   (what is there is kept in {get_settings().work / 'backup'})"
    cells = read_cells(path, mend)
    found = {number: CHECK.match(cell.source.strip()) for number, cell in enumerate(cells) if cell.kind == "code"}
    checks = {number: match[1] for number, match in found.items() if match}
    asked = {number for number, id in checks.items() if wanted in (id, None)}
    if not asked:
        cell = f'await check("{wanted}")' if wanted else 'await check("…")'
        raise CourseError(f"{path} has no cell that is exactly {cell}.", f"Write it and save the notebook. {mend}")
    return Notebook(lesson, path, cells, checks, asked)


def _path(lesson: str) -> Path:
    folder = get_settings().work / "exercises"
    for attempt in range(2):
        found = sorted(
            path for path in _names(folder) if path.name.startswith(f"{lesson}_") and path.suffix == ".ipynb"
        )
        if found:
            return found[0]
        if attempt == 0:
            Workspace().prepare()
    raise CourseError(f"Lesson {lesson} has no exercises.", "See: course progress")


def _names(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # preparing the folder says why, or mends it


def _outcomes(notebook: Notebook) -> Iterator[tuple[int, Outcome]]:
    """What became of each cell; where a check ends the kernel, the checks behind it have another one."""
    done: set[int] = set()
    while True:
        died = None
        with Kernel(notebook.path.parent) as kernel:
            for number, cell in enumerate(notebook.cells):
                if cell.kind != "code" or (number in notebook.checks and number not in notebook.wanted - done):
                    continue
                outcome = kernel.run(cell.source)
                if number not in done:
                    done.add(number)
                    yield number, outcome
                if outcome.ended:
                    died = number
                    break
        if died not in notebook.wanted or notebook.wanted <= done:
            return


def _show(notebook: Notebook, number: int, outcome: Outcome) -> bool:
    """Print a check cell's verdict; True when it gave points."""
    id = notebook.checks[number]
    if "text/markdown" in outcome.result:
        typer.echo(_plain(outcome.result["text/markdown"]) + "\n")
        return _points(outcome.result.get("text/plain", "")) > 0
    typer.echo(f"{id} · Not judged: {_trouble(outcome) or 'the check showed no verdict.'}")
    typer.echo(f"  next: correct the answer, save the notebook, course check {id}\n")
    return False


def _points(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _show_trouble(cell: Cell, outcome: Outcome) -> None:
    if sentence := _trouble(outcome):
        typer.echo(f"A cell did not run to its end: {sentence}\n  it begins with: {cell.first_line[:LONGEST]}\n")


def _trouble(outcome: Outcome) -> str:
    if outcome.ended and outcome.late:
        return f"it had not ended after {CELL_SECONDS:.0f} seconds and heeded no interrupt, so its kernel was ended."
    if outcome.ended:
        return f"it ended the kernel ({outcome.ended})."
    if outcome.late:
        return f"it had not ended after {CELL_SECONDS:.0f} seconds and was interrupted."
    if outcome.error:
        first = (outcome.error.strip().splitlines() or [""])[0]
        return f"it raised {first[:LONGEST]}"
    return ""


def _plain(markdown: str) -> str:
    """The verdict's paragraphs without Markdown's signs, all but the headline indented; commands as typed here."""
    markdown = re.sub(r"^(\*next:\* )`hint\(\"(.*?)\"\)`$", r"\1course hint \2", markdown, flags=re.MULTILINE)
    text = re.sub(r"\*\*(.*?)\*\*", r"\1", markdown)
    text = re.sub(r"^\*(.*?:)\*", r"\1", text, flags=re.MULTILINE).replace("`", "")
    headline, *rest = [line for line in text.splitlines() if line.strip()] or [""]
    return "\n".join([headline, *(f"  {line}" for line in rest)])
