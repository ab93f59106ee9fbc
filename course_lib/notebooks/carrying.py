"""A learner's answers in a newer edition of their exercise book."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.judging.exercise import DRILL
from course_lib.judging.source import is_unwritten

if TYPE_CHECKING:
    import nbformat  # at run time where it is needed: its schemas take a fifth of a second

ANSWER = re.compile(rf"answer-(\d+-\d+|{DRILL.pattern})")
EDITORS_OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}")
"""Ids as JupyterLab and others make them; those of a book are words."""


def carry(book: nbformat.NotebookNode, former: Path) -> tuple[list[str], list[str]]:
    """Put what the learner wrote in the notebook ``former`` into ``book``.

    Answers go into the cells of the same exercise. A cell that the learner added stands behind the one that it stood
    behind. What else was changed, in a statement for example, stays behind in ``former``.

    Returns:
        The exercises whose answers were carried, and those whose answers have no cell in ``book``.

    Raises:
        ValueError: ``former`` cannot be read as a notebook.
    """
    theirs = _cells(former)
    places = {cell.id: cell for cell in book.cells}
    carried: list[str] = []
    homeless: list[str] = []
    for cell in theirs:
        name = _name(cell, theirs)
        if (match := ANSWER.fullmatch(name)) is None or cell.cell_type != "code" or is_unwritten(cell.source):
            continue
        if name in places:
            places[name].source = cell.source
        (carried if name in places else homeless).append(match[1].replace("-", "."))
    _add_own(book, theirs)
    return carried, homeless


def _cells(former: Path) -> list[nbformat.NotebookNode]:
    from course_lib.notebook_format import nbformat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an editor may have dropped the ids
        return list(nbformat.read(former, as_version=4).cells)


def _name(cell: nbformat.NotebookNode, cells: list[nbformat.NotebookNode]) -> str:
    """Its id; where an editor has dropped those of all answers, the name by which a grader knows the cell."""
    if any(ANSWER.fullmatch(other.get("id", "")) for other in cells):
        return str(cell.get("id", ""))
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def _add_own(book: nbformat.NotebookNode, theirs: list[nbformat.NotebookNode]) -> None:
    given = [cell.id for cell in book.cells]
    place = 0
    for cell in theirs:
        name = _name(cell, theirs)
        if name in given:
            place = next(number for number, other in enumerate(book.cells) if other.id == name) + 1
        elif EDITORS_OWN.fullmatch(cell.get("id", "")) and cell.source.strip():
            book.cells.insert(place, cell)
            place += 1
