"""What was given out, told again in what was handed in: cells stay the learner's, nbgrader's marks the teacher's."""

from __future__ import annotations

from typing import Any

import nbformat
from nbgrader.api import Gradebook, Notebook
from nbgrader.preprocessors import NbGraderPreprocessor

from course_lib.exercises.book import CELL_ID, CHECK

Cell = nbformat.NotebookNode
Marks = dict[str, Any]


class PutBackChecks(NbGraderPreprocessor):  # type: ignore[misc]
    """The first step of sanitizing: each graded cell once, and no mark that a learner has written.

    nbgrader stops the whole run at a mark of another schema, and gives up a submission in which an answer and its check
    were deleted; copies, points and names it mends. Here all marks come from its database, so none of that is seen.
    """

    def preprocess(self, nb: Cell, resources: dict[str, Any]) -> tuple[Cell, dict[str, Any]]:
        mine = resources["nbgrader"]
        with Gradebook(mine["db_url"]) as book:
            given = book.find_notebook(mine["notebook"], mine["assignment"])
            marks, checks = _marks(given), _checks(given)
        places = {name: number for number, cell in enumerate(nb.cells) if (name := _name(cell, marks))}  # the last one
        for cell in nb.cells:
            cell.metadata = {key: value for key, value in dict(cell.metadata).items() if key != "nbgrader"}
        for name, number in places.items():
            nb.cells[number].metadata["nbgrader"] = marks[name]
        missing = {name: check for name, check in checks.items() if name not in places}
        for name in missing:
            self.log.warning("The cell %s is missing, and is put back.", name)
        nb.cells = _with(missing, nb.cells)
        return nb, resources


def _marks(given: Notebook) -> dict[str, Marks]:
    """nbgrader's metadata of each cell that it knows, by its name."""
    points = {cell.name: cell.max_score for cell in given.grade_cells}
    solutions = {cell.name for cell in given.solution_cells}
    marks: dict[str, Marks] = {}
    for cell in given.source_cells:
        marks[cell.name] = {
            "schema_version": 3, "grade_id": cell.name, "locked": cell.locked, "task": False, "checksum": cell.checksum,
            "cell_type": cell.cell_type, "grade": cell.name in points, "solution": cell.name in solutions,
        }  # fmt: skip
        if cell.name in points:
            marks[cell.name]["points"] = points[cell.name]
    return marks


def _checks(given: Notebook) -> dict[str, Cell]:
    """The graded cells of code, whole."""
    marks = _marks(given)
    whole = {}
    for cell in given.source_cells:
        if marks[cell.name]["grade"] and cell.cell_type == "code":
            whole[cell.name] = nbformat.v4.new_code_cell(cell.source, metadata={"nbgrader": marks[cell.name]})
    return whole


def _name(cell: Cell, marks: dict[str, Marks]) -> str:
    """Which of the given cells it is: by the notebook's own name for it, by nbgrader's, or by what it says."""
    theirs = cell.metadata.get("nbgrader")
    found = CHECK.match(str(cell.source).strip())
    names = (
        cell.get("id"),
        theirs.get("grade_id") if isinstance(theirs, dict) else None,
        f"check-{found[1].replace('.', '-')}" if found else None,
    )
    return next((name for name in names if isinstance(name, str) and name in marks), "")


def _with(missing: dict[str, Cell], cells: list[Cell]) -> list[Cell]:
    """Each missing check behind the answer that it is for, else at the end."""
    whole, left = [], dict(missing)
    for cell in cells:
        whole.append(cell)
        name = cell.get("id") or ""
        marked = cell.metadata.get("nbgrader", {}).get("grade_id", name)
        part = CELL_ID.match(marked)
        if part and part[1] == "answer" and (check := left.pop(f"check-{part[2]}", None)) is not None:
            whole.append(check)
    return [*whole, *left.values()]
