"""Exercise notebooks, made from solution notebooks so that the two cannot drift apart.

In ``solutions/NN_name.ipynb`` exercise 2.3 is three cells with the ids ``statement-2-3``, ``answer-2-3`` and
``check-2-3``. What stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` is the learner's to write.
"""

from __future__ import annotations

import json
import linecache
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.exercises.manifest import find_exercise
from course_lib.judging.exercise import Exercise
from course_lib.settings import REPOSITORY

if TYPE_CHECKING:
    import nbformat  # at run time where it is needed: its schemas take a fifth of a second

SOLUTIONS = REPOSITORY / "solutions"
EXERCISES = REPOSITORY / "exercises"
SOLUTION_PART = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.MULTILINE | re.DOTALL)
MARKERS = re.compile(r"^[ \t]*### (BEGIN|END) SOLUTION\n?", re.MULTILINE)
CELL_ID = re.compile(r"^(statement|answer|check)-(\d+)-(\d+)$")
CHECK = re.compile(r"""^await check\(["'](\d+\.\d+)["']\)$""")
STUB = 'raise NotImplementedError("your code")'


def grading_notebook(solution: Path) -> nbformat.NotebookNode:
    """A solution notebook without outputs, its cells marked for grading: what nbgrader takes as a source."""
    from course_lib.notebook_format import nbformat

    notebook: nbformat.NotebookNode = nbformat.read(solution, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
        cell.metadata = nbformat.from_dict(_grading(cell.id))
    return notebook


def exercise_notebook(solution: Path) -> nbformat.NotebookNode:
    """The learner's side of a solution notebook: marked for grading, the solutions taken out."""
    notebook = grading_notebook(solution)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = SOLUTION_PART.sub(rf"\g<1>{STUB}\n", cell.source).rstrip("\n")
    return notebook


def _grading(cell_id: str) -> dict[str, Any]:
    """nbgrader's marks: the answer is the learner's, statement and check are locked, the check gives the points."""
    match = CELL_ID.match(cell_id)
    if match is None:
        return {}
    part, id = match[1], f"{match[2]}.{match[3]}"
    marks: dict[str, Any] = {"schema_version": 3, "grade_id": cell_id, "task": False}
    marks |= {"grade": part == "check", "solution": part == "answer", "locked": part != "answer"}
    if part == "check":
        marks["points"] = find_exercise(id).points
    return {"nbgrader": marks}


def generate() -> list[Path]:
    """Write ``exercises/`` from ``solutions/``; returns what changed."""
    from course_lib.notebook_format import nbformat

    changed = []
    EXERCISES.mkdir(exist_ok=True)
    for solution in sorted(SOLUTIONS.glob("*.ipynb")):
        target = EXERCISES / solution.name
        text = nbformat.writes(exercise_notebook(solution)) + "\n"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            changed.append(target)
    return changed


def solution_source(exercise: Exercise) -> str:
    """The answer cell of the solution, without its marks.

    Raises:
        CourseError: the solutions are not beside the package.
    """
    return MARKERS.sub("", _cell(exercise, f"answer-{exercise.id.replace('.', '-')}")).strip("\n")


def answer_of(exercise: Exercise, source: str) -> Any:
    """What ``source``, put into the answer cell, would define: run after the notebook's cell ``setup``.

    Raises:
        CourseError: as ``solution_source``.
    """
    name = f"answer_{exercise.id.replace('.', '_')}_{abs(hash(source))}.py"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(_cell(exercise, "setup"), namespace)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for inspect.getsource
    # without the annotations of this module's __future__: a cell has its own
    exec(compile(source, name, "exec", dont_inherit=True), namespace)
    return namespace[exercise.answer]


def solution_answer(exercise: Exercise) -> Any:
    """The solution itself, ready to be judged."""
    return answer_of(exercise, solution_source(exercise))


def _cell(exercise: Exercise, id: str) -> str:
    for path in sorted(SOLUTIONS.glob(f"{exercise.lesson}_*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["id"] == id:
                return "".join(cell["source"])
    raise CourseError(
        f"The solution of {exercise.id} is not here.", "Look into the folder solutions/ of the repository."
    )
