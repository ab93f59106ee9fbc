"""Cells of notebooks as the site shows them: with anchors, pictures that are told in words, and folded answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from course_lib.exercises.book import CELL_ID, MARKERS, SOLUTION_PART, STUB
from course_lib.exercises.manifest import find_exercise
from course_lib.judging.verdict import hints_in_markdown
from course_lib.notebook_format import nbformat
from course_lib.site.leading import on_the_site
from course_lib.site.pages import Page

Cells = Iterator[nbformat.NotebookNode]


def lesson_cells(notebook: nbformat.NotebookNode, page: Page) -> Cells:
    """A lesson, as it is stored."""
    for cell in notebook.cells:
        yield from _shown(cell, page)


def exercise_cells(notebook: nbformat.NotebookNode, page: Page) -> Cells:
    """Exercises or drills from the notebook of their solutions: the stub, or the code as it was found; then, folded,
    the hints, and the solution with what the check said of it. Folded too is what it said of the code as found."""
    for cell in notebook.cells:
        match = CELL_ID.match(cell.id)
        part, id = (match[1], match[2].replace("-", ".")) if match else ("", "")
        if part == "answer":
            drill = not id[0].isdigit()
            if not drill:
                yield from _shown(_code(cell, SOLUTION_PART.sub(rf"\g<1>{STUB}\n", cell.source)), page)
            yield from _text(hints_in_markdown(find_exercise(id)))
            answer = f"```python\n{MARKERS.sub('', cell.source).strip()}\n```"
        elif part == "check":
            yield from _text(_folded("A repair" if drill else "A solution", f"{answer}\n\n{_said(cell)}"))
        elif part == "symptom":
            yield from _text(_folded("What the check says of it", _said(cell)))
        else:
            yield from _shown(cell, page)


def _shown(cell: nbformat.NotebookNode, page: Page) -> Cells:
    """The cell behind an anchor."""
    anchor = f"({page.label(cell.id)})="
    if cell.cell_type == "markdown":
        yield from _text(f"{anchor}\n{on_the_site(cell.source, page)}")
        return
    yield from _text(anchor)
    for output in cell.get("outputs", ()):
        if "image/png" in output.get("data", {}):
            cell.metadata["mystnb"] = {"image": _picture(output)}
    yield cell


def _picture(output: nbformat.NotebookNode) -> dict[str, Any]:
    """Its words, see ``course_lib.instruments.pictures``, and a class for it; MyST-NB finds its size."""
    return {"alt": output.metadata["image/png"]["alt"], "classes": "course-picture"}


def _text(source: str) -> Cells:
    yield nbformat.v4.new_markdown_cell(source)


def _code(cell: nbformat.NotebookNode, source: str) -> nbformat.NotebookNode:
    stub: nbformat.NotebookNode = nbformat.v4.new_code_cell(source.rstrip("\n"), id=cell.id)
    return stub


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _said(cell: nbformat.NotebookNode) -> str:
    """What a check said when it was stored."""
    text: str = cell.outputs[0].data["text/markdown"]
    return text.partition("<details>")[0]  # the hints stand above
