"""What Sphinx reads: a folder with the pages as Markdown and notebooks, and the lists of them that lead through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from course_lib.notebook_format import nbformat
from course_lib.settings import REPOSITORY
from course_lib.site.cells import Cells, exercise_cells, lesson_cells
from course_lib.site.leading import on_the_site
from course_lib.site.pages import BESIDE, LEVELS, QUESTIONS, Page, beside, drill_books, exercises, front, lessons
from course_lib.site.questions import questions_page

FORMAT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def stage(folder: Path) -> None:
    """Write all sources below ``folder``.

    Raises:
        CourseError: an entry of the bank of questions is malformed.
    """
    for lesson in lessons():
        mine = (page for page in exercises() if page.source.name == lesson.source.name)
        _write_notebook(folder, lesson, lesson_cells, _list_of("", (f"Exercises </{page.document}>" for page in mine)))
    for page in (*exercises(), *drill_books()):
        _write_notebook(folder, page, exercise_cells)
    for page in beside():
        _write(folder / page.name, on_the_site(page.source.read_text(encoding="utf-8"), page))
    _write(folder / QUESTIONS, questions_page())
    for picture in (REPOSITORY / "notebooks").glob("*.png"):
        shutil.copy(picture, folder / "notebooks")
    _write_front(folder)


def _write_front(folder: Path) -> None:
    page = front()
    drills = (f"{LEVELS[book.source.stem]} <{book.document}>" for book in drill_books())
    parts = [
        on_the_site(page.source.read_text(encoding="utf-8"), page),
        _list_of("Lessons", (lesson.document for lesson in lessons())),
        _list_of("The interview", ["Questions <questions>", *drills]),
        _list_of("More", (f"{BESIDE[page.name]} <{page.document}>" for page in beside())),
    ]
    _write(folder / page.name, "\n\n".join(parts))


def _write_notebook(folder: Path, page: Page, shown: Callable[..., Cells], after: str = "") -> None:
    notebook = nbformat.read(page.source, as_version=4)
    cells = [*shown(notebook, page), nbformat.v4.new_markdown_cell(after)]
    _write(folder / page.name, nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=FORMAT)))


def _list_of(caption: str, documents: Iterable[str]) -> str:
    """Pages for the sidebar and for previous and next; nothing where there is none."""
    names = [*documents]
    title = f":caption: {caption}\n" if caption else ""
    return "\n".join(["```{toctree}", f"{title}:hidden:\n", *names, "```"]) if names else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
