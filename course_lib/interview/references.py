"""Where a point of the bank leads: cells of lessons, as they are stored."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from course_lib.errors import CourseError
from course_lib.interview.schema import Point
from course_lib.settings import REPOSITORY

HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class StoredCell:
    """A cell of a lesson.

    ``output`` is what the stored run showed, as plain text, errors too. ``section`` is the nearest heading at or above
    the cell. ``varies`` is true where the gate does not compare the output.
    """

    id: str
    kind: str
    source: str
    output: str
    section: str
    varies: bool

    @property
    def is_heading(self) -> bool:
        return self.kind == "markdown" and HEADING.match(self.source.lstrip()) is not None


def stored_cell(reference: str) -> StoredCell:
    """The cell that ``"02:cell-id"`` names.

    Raises:
        CourseError: there is no such lesson or cell.
    """
    lesson, _, id = reference.partition(":")
    cells = lesson_cells(lesson)
    if id not in cells:
        raise CourseError(f"Lesson {lesson} has no cell {id!r}.")
    return cells[id]


@cache
def lesson_cells(lesson: str) -> dict[str, StoredCell]:
    """The cells of lesson ``"02"`` from top to bottom, by id.

    Raises:
        CourseError: there is no such lesson beside the package.
    """
    paths = sorted((REPOSITORY / "notebooks").glob(f"{lesson}_*.ipynb")) if lesson.isdigit() else []
    if not paths:
        raise CourseError(f"There is no lesson {lesson!r} here.", "Look into the folder notebooks/ of the repository.")
    section, cells = "", {}
    for cell in json.loads(paths[0].read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (heading := HEADING.match(source.lstrip())):
            section = heading[1]
        tags = cell["metadata"].get("tags", [])
        cells[cell["id"]] = StoredCell(
            cell["id"], cell["cell_type"], source, _shown(cell), section, "nbval-ignore-output" in tags
        )
    return cells


def _shown(cell: dict[str, Any]) -> str:
    return "\n".join(_text(output) for output in cell.get("outputs", []))


def _text(output: dict[str, Any]) -> str:
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))


def where(point: Point) -> str:
    """Where the course shows a point, in words; empty for an opinion."""
    if point.cell is not None:
        lesson = point.cell.partition(":")[0]
        return f"lesson {lesson}, {stored_cell(point.cell).section}"
    return f"exercise {point.exercise}" if point.exercise is not None else ""
