"""An exported course in a test: what learners hand in, and what nbgrader makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config, PyFileConfigLoader

from course_lib.classroom.grading.export import chosen_assignments, export
from course_lib.exercises.book import CELL_ID, EXERCISES, grading_notebook
from course_lib.settings import REPOSITORY

Notebook = nbformat.NotebookNode


@dataclass
class Graded:
    """What one learner was given for an assignment."""

    success: bool
    log: str
    points: dict[str, float | None] = field(default_factory=dict)
    """By exercise."""
    shown: dict[str, str] = field(default_factory=dict)
    """What stands under each check, without HTML's marks for code."""

    @property
    def total(self) -> float:
        return sum(points or 0 for points in self.points.values())


class Course:
    """Below ``folder``, with nbgrader's own API on it."""

    def __init__(self, folder: Path, lessons: str = "", exercises: str = "") -> None:
        self.folder = folder
        self.assignments = {made.name: made for made in chosen_assignments(lessons, exercises)}
        export([*self.assignments.values()], folder)
        self._released: set[str] = set()

    @cached_property
    def api(self) -> NbGraderAPI:
        os.environ["PATH"] = with_programs()
        config = Config(PyFileConfigLoader("nbgrader_config.py", path=str(self.folder)).load_config())
        config.CourseDirectory.root = str(self.folder)
        config.NbGraderAPI.log_level = "ERROR"
        return NbGraderAPI(coursedir=CourseDirectory(config=config), config=config)

    def release(self, assignment: str) -> Path:
        """Where the learners' notebooks lie."""
        if assignment not in self._released:
            done = self.api.generate_assignment(assignment)
            assert done["success"], done
            self._released.add(assignment)
        return self.folder / "release" / assignment

    def hand_in(self, assignment: str, learner: str, notebook: Notebook, name: str = "") -> None:
        folder = self.folder / "submitted" / learner / assignment
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / (name or next(iter(self.assignments[assignment].notebooks))))

    def grade(self, assignment: str, learner: str) -> Graded:
        self.release(assignment)
        done = self.api.autograde(assignment, learner)
        return self.graded(assignment, learner, done["success"], done.get("log", "") + done.get("error", ""))

    def graded(self, assignment: str, learner: str, success: bool = True, log: str = "") -> Graded:
        """What the gradebook and the graded notebooks hold."""
        found = Graded(success, log)
        with Gradebook(f"sqlite:///{self.folder}/gradebook.db") as book:
            for notebook in book.find_submission(assignment, learner).notebooks:
                for grade in notebook.grades:
                    found.points[_id(grade.name)] = grade.auto_score
        for path in (self.folder / "autograded" / learner / assignment).glob("*.ipynb"):
            for cell in nbformat.read(path, as_version=4).cells:
                marks = cell.metadata.get("nbgrader", {})
                if marks.get("grade"):
                    found.shown[_id(marks["grade_id"])] = "\n".join(map(_text, cell.outputs))
        return found


def _id(name: str) -> str:
    part = CELL_ID.match(name)
    assert part is not None
    return part[2].replace("-", ".")


def _text(output: Any) -> str:
    text = output.get("data", {}).get("text/html") or output.get("evalue") or output.get("text", "")
    return str(text).replace("<code>", "").replace("</code>", "")


def with_programs() -> str:
    """nbgrader calls alembic."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def nbgrader(course: Path, *arguments: str) -> str:
    """Run one nbgrader command in the course folder, as a teacher types it. Returns what it said."""
    home = course.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home), "IPYTHONDIR": str(home), "JUPYTER_DATA_DIR": str(home)}
    environment |= {"PATH": with_programs(), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"{done.stdout}{done.stderr}\nexit code {done.returncode}"


def solved(notebook: Notebook, solution: Path, ids: set[str]) -> Notebook:
    """The notebook with the answers of these exercises as the solution has them."""
    answers = {cell.id: cell.source for cell in grading_notebook(solution).cells}
    for cell in notebook.cells:
        part = CELL_ID.match(cell.id)
        if part and part[1] == "answer" and part[2].replace("-", ".") in ids:
            cell.source = answers[cell.id]
    return notebook


def learners_copy(name: str) -> Notebook:
    """What a learner has without having got anything from the teacher."""
    return nbformat.read(next(EXERCISES.rglob(name)), as_version=4)
