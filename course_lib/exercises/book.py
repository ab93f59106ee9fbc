"""Exercise notebooks, made from solution notebooks so that the two cannot drift apart.

In ``solutions/NN_name.ipynb`` exercise 2.3 is three cells with the ids ``statement-2-3``, ``answer-2-3`` and
``check-2-3``. What stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` is the learner's to write.
In ``solutions/interview/LEVEL.ipynb`` a drill has two cells more: ``given-M4`` is the code as it was found, and
``symptom-M4`` its check.
"""

from __future__ import annotations

import json
import linecache
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.exercises.manifest import drills, find_exercise
from course_lib.judging.exercise import DRILL, Drill, Exercise
from course_lib.settings import REPOSITORY

if TYPE_CHECKING:
    import nbformat  # at run time where it is needed: its schemas take a fifth of a second

SOLUTIONS = REPOSITORY / "solutions"
EXERCISES = REPOSITORY / "exercises"
SOLUTION_PART = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.MULTILINE | re.DOTALL)
MARKERS = re.compile(r"^[ \t]*### (BEGIN|END) SOLUTION\n?", re.MULTILINE)
CELL_ID = re.compile(rf"^(statement|given|symptom|answer|check)-(\d+-\d+|{DRILL.pattern})$")
CHECK = re.compile(rf"""^await check\(["'](\d+\.\d+|{DRILL.pattern})["']\)$""")
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
    part, id = match[1], match[2].replace("-", ".")
    marks: dict[str, Any] = {"schema_version": 3, "grade_id": cell_id, "task": False}
    marks |= {"grade": part == "check", "solution": part == "answer", "locked": part != "answer"}
    if part == "check":
        marks["points"] = find_exercise(id).points
    return {"nbgrader": marks}


def drill_notebook(drill: Drill) -> nbformat.NotebookNode:
    """The learner's side of one drill: what is reported, the code as it was found as the answer, the check."""
    notebook = grading_notebook(SOLUTIONS / drill.book)
    cells = {cell.id: cell for cell in notebook.cells}
    cells[f"answer-{drill.place}"].source = cells[f"given-{drill.place}"].source
    notebook.cells = [cells[f"statement-{drill.place}"], cells["how"], cells["setup"]]
    notebook.cells += [cells[f"{part}-{drill.place}"] for part in ("answer", "check")]
    return notebook


def learners_notebooks() -> dict[Path, nbformat.NotebookNode]:
    """What belongs into ``exercises/``, by its path: a book for each lesson, a sheet for each drill."""
    books = {EXERCISES / solution.name: exercise_notebook(solution) for solution in sorted(SOLUTIONS.glob("*.ipynb"))}
    return books | {EXERCISES / "interview" / sheet_name(drill): drill_notebook(drill) for drill in drills()}


def sheet_name(drill: Drill) -> str:
    """``M4_the_last_message.ipynb``."""
    return f"{drill.id}_{'_'.join(re.findall(r'[a-z0-9]+', drill.title.lower()))}.ipynb"


def generate() -> list[Path]:
    """Write ``exercises/`` from ``solutions/``; returns what changed."""
    from course_lib.notebook_format import nbformat

    changed = []
    for target, notebook in learners_notebooks().items():
        text = nbformat.writes(notebook) + "\n"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            changed.append(target)
    return changed


def solution_source(exercise: Exercise) -> str:
    """The answer cell of the solution, without its marks.

    Raises:
        CourseError: the solutions are not beside the package.
    """
    return MARKERS.sub("", cell_source(exercise, f"answer-{exercise.place}")).strip("\n")


def answer_of(exercise: Exercise, source: str) -> Any:
    """What ``source``, put into the answer cell, would define: run after the notebook's cell ``setup``.

    Raises:
        CourseError: as ``solution_source``.
    """
    name = f"answer_{exercise.place}_{abs(hash(source))}.py"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(cell_source(exercise, "setup"), namespace)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for inspect.getsource
    # without the annotations of this module's __future__: a cell has its own
    exec(compile(source, name, "exec", dont_inherit=True), namespace)
    return namespace[exercise.answer]


def solution_answer(exercise: Exercise) -> Any:
    """The solution itself, ready to be judged."""
    return answer_of(exercise, solution_source(exercise))


def cell_source(exercise: Exercise, id: str) -> str:
    """The source of a cell of its notebook in ``solutions/``.

    Raises:
        CourseError: the solutions are not beside the package.
    """
    for path in sorted(SOLUTIONS.glob(exercise.book)):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["id"] == id:
                return "".join(cell["source"])
    raise CourseError(
        f"The solution of {exercise.id} is not here.", "Look into the folder solutions/ of the repository."
    )
