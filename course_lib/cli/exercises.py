"""``course check``: the verdicts of a learner's exercise notebook, in the terminal."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.cli.lab import jupyter_environment
from course_lib.cli.screen import show
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.judging.apart.process import Child, Outcome
from course_lib.judging.exercise import DRILL
from course_lib.notebooks import Workspace
from course_lib.notebooks.reading import Cell, digest, read_cells
from course_lib.settings import REPOSITORY, get_settings

if TYPE_CHECKING:
    from course_lib.judging.exercise import Exercise  # these are loaded while the other process loads them too


@dataclass
class Notebook:
    """A learner's exercise notebook, and which of its cells are asked about."""

    lesson: str
    path: Path
    cells: list[Cell]
    wanted: dict[int, Exercise]
    """By the number of the cell that checks it."""

    @property
    def unchanged(self) -> bool:
        return digest(self.path) == digest(REPOSITORY / "exercises" / _below(self.lesson) / self.path.name)


def check_notebook(what: str) -> int:
    """Run the learner's notebook of a lesson (``"01"``), up to one exercise (``"1.3"``) or of a drill (``"M4"``).

    The verdicts are printed.

    Returns:
        0 when all that was asked for is right, else 1.

    Raises:
        CourseError: there is no such lesson or exercise, or no notebook that can be run.
    """
    what = what.strip().upper()
    if not re.fullmatch(rf"\d{{1,2}}(\.\d{{1,2}})?|{DRILL.pattern}", what, re.ASCII):
        raise CourseError(
            f"{what[:20]!r} names no lesson and no exercise.",
            f"Name a lesson ({command('check 01')}), one ({command('check 1.3')}) or a drill ({command('check M4')}).",
        )
    os.environ.update(jupyter_environment())
    os.environ["COURSE_WORK"] = str(get_settings().work.absolute())  # the cells work in another folder
    with Child() as child:
        notebook = _find(what)
        right = 0
        open_ones = dict(sorted(notebook.wanted.items()))
        for outcome in _outcomes(notebook, child):
            if open_ones.pop(outcome.number, None) is not None:
                right += _show(notebook.wanted[outcome.number], outcome)
            else:
                _show_trouble(notebook.cells[outcome.number], outcome)
    if open_ones:
        ids = ", ".join(exercise.id for exercise in open_ones.values())
        again = f"correct that cell, save the notebook, then `{command(f'check {what}')}`"
        show(f"Not judged: {ids}.", [("next", again)])
    if right < len(notebook.wanted) and notebook.unchanged:
        show(f"{notebook.path.name} is as it was given.", [("", "Have you written in it? Save it first: Ctrl-S (⌘S).")])
    return 0 if right == len(notebook.wanted) else 1


def _find(what: str) -> Notebook:
    from course_lib.exercises import find_exercise
    from course_lib.exercises.book import CHECK

    lesson = what.partition(".")[0].zfill(2)
    wanted = find_exercise(what).id if "." in what or not what.isdigit() else None
    path = _path(lesson)
    reset = command(f"reset {lesson}{' --exercises' * lesson.isdigit()}")
    mend = f"Run: {reset}   (what is there is kept in {get_settings().work / 'backup'})"
    cells = read_cells(path, mend)
    found = {number: CHECK.match(cell.source.strip()) for number, cell in enumerate(cells) if cell.kind == "code"}
    asked = {number: match[1] for number, match in found.items() if match and wanted in (match[1], None)}
    if not asked:
        cell = f'await check("{wanted}")' if wanted else 'await check("…")'
        raise CourseError(f"{path} has no cell that is exactly {cell}.", f"Write it and save the notebook. {mend}")
    return Notebook(lesson, path, cells, {number: find_exercise(id) for number, id in asked.items()})


def _below(lesson: str) -> str:
    """Where in ``exercises/`` the sheet of a drill lies; a lesson's book lies in that folder itself."""
    return "" if lesson.isdigit() else "interview"


def _path(lesson: str) -> Path:
    folder = get_settings().work / "exercises" / _below(lesson)
    for attempt in range(2):
        found = sorted(
            path for path in _names(folder) if path.name.startswith(f"{lesson}_") and path.suffix == ".ipynb"
        )
        if found:
            return found[0]
        if attempt == 0:
            Workspace().prepare()
    raise CourseError(f"Lesson {lesson} has no exercises.", f"See: {command('progress')}")


def _names(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # preparing the folder says why, or mends it


def _outcomes(notebook: Notebook, child: Child) -> Iterator[Outcome]:
    """What became of each cell up to the last check, and of the checks."""
    from course_lib.exercises.following import follow

    cells = [cell.source if cell.kind == "code" else "" for cell in notebook.cells]
    return follow(cells, notebook.wanted, notebook.path.parent, child=child)


def _show(exercise: Exercise, outcome: Outcome) -> bool:
    """Print the verdict of a check; True when it gave points."""
    from course_lib.exercises.check import take_note
    from course_lib.judging.apart.verdicts import verdict_of

    try:
        verdict = asyncio.run(verdict_of(exercise, outcome))
    except CourseError as error:
        show(f"{exercise.id} · Not judged: {error.sentence}", [("next", error.mend)])
        return False
    take_note(verdict)
    show(verdict.headline, verdict.paragraphs)
    return verdict.passed


def _show_trouble(cell: Cell, outcome: Outcome) -> None:
    from course_lib.exercises.following import LONGEST, trouble

    if sentence := trouble(outcome):
        show(f"A cell did not run to its end: {sentence}", [("it begins with", cell.first_line[:LONGEST])])
