"""nbgrader's own autograder on our notebooks: full marks for the solution, none for the stub, some for half of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from course_lib.exercises import manifest
from course_lib.exercises.book import CELL_ID, SOLUTIONS, exercise_notebook, grading_notebook

pytest.importorskip("nbgrader", reason="nbgrader comes with the extra 'grading'")

FEW, TEN = sorted(SOLUTIONS.glob("0[01]_*.ipynb"))  # three exercises, which students hand in, and ten
POSSIBLE = {e.id: e.points for e in manifest() if e.lesson == "00"}


def nbgrader(course: Path, *arguments: str) -> None:
    """Run one nbgrader command over the course folder."""
    folder = course / ".home"
    environment = {**os.environ, "HOME": str(folder), "IPYTHONDIR": str(folder), "JUPYTER_DATA_DIR": str(folder)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls alembic
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments, f"--course-dir={course}"],
        cwd=course, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def submit(course: Path, student: str, notebook: nbformat.NotebookNode) -> None:
    """Hand in one notebook of the two: those that are missing score nothing."""
    folder = course / "submitted" / student / "lesson"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / FEW.name)


def half_right() -> nbformat.NotebookNode:
    """The learner has solved every second exercise."""
    solved, stub = nbformat.read(FEW, as_version=4), exercise_notebook(FEW)
    answers = [n for n, cell in enumerate(stub.cells) if cell.id.startswith("answer-")]
    for n in answers[::2]:
        stub.cells[n].source = solved.cells[n].source
    return stub


def expected_of_half() -> float:
    stub = exercise_notebook(FEW)
    ids = [match for cell in stub.cells if (match := CELL_ID.match(cell.id)) and match[1] == "answer"]
    return sum(POSSIBLE[match[2].replace("-", ".")] for match in ids[::2])


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What each student was given, after one run of the whole cycle."""
    course = tmp_path_factory.mktemp("course")
    (course / ".home").mkdir()
    (course / "source" / "lesson").mkdir(parents=True)
    for solution in (FEW, TEN):
        nbformat.write(grading_notebook(solution), course / "source" / "lesson" / solution.name)
    nbgrader(course, "generate_assignment", "lesson", "--create")
    submit(course, "solved", grading_notebook(FEW))
    submit(course, "untouched", nbformat.read(course / "release" / "lesson" / FEW.name, as_version=4))
    submit(course, "half", half_right())
    nbgrader(course, "autograde", "lesson", "--create")
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        return {s.student.id: s.score for s in book.assignment_submissions("lesson")}


def test_the_solution_scores_full_marks(scores: dict[str, float]) -> None:
    assert scores["solved"] == sum(POSSIBLE.values())


def test_the_untouched_notebook_scores_nothing(scores: dict[str, float]) -> None:
    assert scores["untouched"] == 0


def test_half_right_scores_the_points_of_that_half(scores: dict[str, float]) -> None:
    assert 0 < expected_of_half() < sum(POSSIBLE.values())
    assert scores["half"] == expected_of_half()
