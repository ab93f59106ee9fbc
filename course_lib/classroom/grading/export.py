"""An nbgrader course made from ``solutions/``: sources with points and locked checks, configuration, a README."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.exercises import find_exercise
from course_lib.exercises.book import CELL_ID, SOLUTIONS, drill_notebook, grading_notebook, sheet_name
from course_lib.exercises.manifest import lesson_exercises
from course_lib.files import refusal
from course_lib.judging.exercise import Drill, Exercise
from course_lib.masking import short

if TYPE_CHECKING:
    import nbformat

LESSONS = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?", re.ASCII)
CHOSEN = "exercises"
"""The assignment of exercises that were named one by one."""


@dataclass(frozen=True)
class Assignment:
    """One of nbgrader's: a name, and the notebooks in it by their file names."""

    name: str
    notebooks: dict[str, list[Exercise]]

    @property
    def exercises(self) -> list[Exercise]:
        return [exercise for exercises in self.notebooks.values() for exercise in exercises]

    @property
    def points(self) -> int:
        return sum(exercise.points for exercise in self.exercises)


def chosen_assignments(lessons: str, exercises: str) -> list[Assignment]:
    """``"01-03,05"`` is an assignment for each lesson; ``"3.3,M4"`` is one with all of these.

    Raises:
        CourseError: there is no such lesson or exercise, none was named, or the solutions are not here.
    """
    made = [_lesson(number) for number in _numbers(lessons)]
    if ids := [part for part in re.split(r"[,\s]+", exercises) if part]:
        made.append(_chosen(ids))
    if not made:
        raise CourseError(
            "Which exercises are to be graded?",
            f"Try: {command('classroom export --lessons 01-05 --to ../grading')}, or --exercises 3.3,3.8",
        )
    return made


def _numbers(lessons: str) -> list[str]:
    numbers: list[int] = []
    for part in [part for part in re.split(r"[,\s]+", lessons) if part]:
        found = LESSONS.fullmatch(part)
        if found is None:
            raise CourseError(f"{short(repr(part))} names no lessons.", "Name them like this: --lessons 01-03,05")
        numbers += range(int(found[1]), int(found[2] or found[1]) + 1)
        if found[2] and int(found[2]) < int(found[1]):
            raise CourseError(f"{part} counts backwards.", f"Write it like this: --lessons {found[2]}-{found[1]}")
    return [f"{number:02}" for number in dict.fromkeys(numbers)]


def _lesson(number: str) -> Assignment:
    exercises = lesson_exercises(number)
    if not exercises:
        have = [path.name[:2] for path in _books()]
        raise CourseError(f"There is no lesson {number} with exercises.", f"Choose of: {', '.join(have)}")
    return Assignment(f"lesson_{number}", {_file(exercises[0]): exercises})


def _chosen(ids: Sequence[str]) -> Assignment:
    notebooks: dict[str, list[Exercise]] = {}
    found = {exercise.id: exercise for exercise in map(find_exercise, ids)}
    for exercise in found.values():
        notebooks.setdefault(_file(exercise), []).append(exercise)
    return Assignment(CHOSEN, notebooks)


def _file(exercise: Exercise) -> str:
    """The name under which learners have it in their ``work/exercises/``."""
    return sheet_name(exercise) if isinstance(exercise, Drill) else _book(exercise).name


def _book(exercise: Exercise) -> Path:
    for path in SOLUTIONS.glob(exercise.book):
        return path
    _books()
    raise CourseError(f"The notebook of {exercise.id} is not in {SOLUTIONS}.", "Bring it back: git checkout solutions")


def _books() -> list[Path]:
    books = sorted(SOLUTIONS.glob("*.ipynb"))
    if not books:
        raise CourseError("The solutions are not here.", "Run the command in a clone of the course's repository.")
    return books


def export(assignments: Sequence[Assignment], folder: Path) -> list[Path]:
    """Write the course into ``folder``, which is made, or is empty. Returns the files.

    Raises:
        CourseError: the folder has something in it, or cannot be written.
    """
    files = dict(_files(assignments))
    partial = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if there := sorted(path.name for path in folder.iterdir()):
            raise CourseError(
                f"{folder} is not empty: {short(', '.join(there))}",
                "Name a folder that does not exist yet; what is there stays as it is.",
            )
        for name, text in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        folder.rmdir()
        partial.rename(folder)  # whole, or not there
    except OSError as error:
        raise refusal(error, folder, "--to") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in files]


def _files(assignments: Sequence[Assignment]) -> Iterator[tuple[str, str]]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from course_lib.notebook_format import nbformat

    environment = Environment(
        loader=PackageLoader("course_lib.classroom.grading"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    names = [name.removesuffix(".ipynb") for made in assignments for name in made.notebooks]
    drilled = any(isinstance(exercise, Drill) for made in assignments for exercise in made.exercises)
    for template in ("README.md", "nbgrader_config.py"):
        text = environment.get_template(f"{template}.jinja").render(
            assignments=assignments, first=assignments[0], names=[*dict.fromkeys(names)], drills=drilled
        )
        yield template, text
    for assignment in assignments:
        for name, exercises in assignment.notebooks.items():
            yield f"source/{assignment.name}/{name}", nbformat.writes(source_notebook(exercises)) + "\n"


def source_notebook(exercises: Sequence[Exercise]) -> nbformat.NotebookNode:
    """What nbgrader makes the learners' notebook from: these exercises of one book, or one drill.

    A lesson's answer is a solution between nbgrader's marks. The answer to a drill is the code as it was found: a cell
    that nbgrader neither clears nor locks.
    """
    if isinstance(exercises[0], Drill):
        sheet = drill_notebook(exercises[0])
        for cell in sheet.cells:
            if cell.id.startswith("answer-"):
                del cell.metadata["nbgrader"]
        return sheet
    book = grading_notebook(_book(exercises[0]))
    places = {exercise.place for exercise in exercises}
    book.cells = [cell for cell in book.cells if (part := CELL_ID.match(cell.id)) is None or part[2] in places]
    return book
