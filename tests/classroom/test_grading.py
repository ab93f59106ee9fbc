"""nbgrader on an exported course: points for what is right and none for the rest, and no submission stops another."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="nbgrader comes with the extra 'grading'")

from course_lib.exercises import find_exercise, manifest
from course_lib.exercises.book import SOLUTIONS, solution_source
from tests.classroom.grading import Course, Graded, Notebook, learners_copy, nbgrader, solved

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # nbgrader's own session
LESSONS = sorted({exercise.lesson for exercise in manifest()})
FIRST = next(SOLUTIONS.glob("00_*.ipynb"))
POINTS = {exercise.id: float(exercise.points) for exercise in manifest()}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    return Course(tmp_path_factory.mktemp("graded") / "course", f"{LESSONS[0]}-{LESSONS[-1]}", "3.3,3.8,M4")


HALVES = [(lesson, number % 2) for number, lesson in enumerate(LESSONS)]
HALVES += [(lesson, 1 - half) for lesson, half in HALVES]


@pytest.mark.parametrize(("lesson", "half"), HALVES)
@pytest.mark.soak(after=len(LESSONS))
def test_half_right_gives_the_points_of_that_half(course: Course, lesson: str, half: int) -> None:
    """Every second exercise is solved, once in the notebook that nbgrader gives out and once in the course's own."""
    assignment = course.assignments[f"lesson_{lesson}"]
    name = next(iter(assignment.notebooks))
    right = {exercise.id for exercise in assignment.exercises[half::2]}
    released = course.release(assignment.name) / name
    notebook = nbformat.read(released, as_version=4) if half else learners_copy(name)
    course.hand_in(assignment.name, f"half_{half}", solved(notebook, SOLUTIONS / name, right))
    graded = course.grade(assignment.name, f"half_{half}")
    assert graded.success, graded.log
    assert graded.points == {e.id: POINTS[e.id] * (e.id in right) for e in assignment.exercises}, graded.shown
    for exercise in assignment.exercises:
        assert ("Right." if exercise.id in right else "Not attempted yet.") in graded.shown[exercise.id]


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.soak(after=1)
def test_the_solution_gives_all_points_and_the_untouched_notebook_none(course: Course, lesson: str) -> None:
    assignment = course.assignments[f"lesson_{lesson}"]
    name = next(iter(assignment.notebooks))
    every = {exercise.id for exercise in assignment.exercises}
    course.hand_in(assignment.name, "solved", solved(learners_copy(name), SOLUTIONS / name, every))
    course.hand_in(assignment.name, "untouched", learners_copy(name))
    assert course.grade(assignment.name, "solved").points == {id: POINTS[id] for id in every}
    assert course.grade(assignment.name, "untouched").points == dict.fromkeys(every, 0.0)


def test_single_exercises_and_a_drill(course: Course) -> None:
    """The learner hands in the whole book, of which two exercises are graded, and the repaired drill."""
    chosen = course.assignments["exercises"]
    book, sheet = chosen.notebooks
    drill = find_exercise("M4")
    found = nbformat.read(course.release("exercises") / sheet, as_version=4)
    course.hand_in("exercises", "as found", found, sheet)
    course.hand_in("exercises", "as found", learners_copy(book), book)
    next(cell for cell in found.cells if cell.id == "answer-M4").source = solution_source(drill)
    course.hand_in("exercises", "repaired", found, sheet)
    course.hand_in("exercises", "repaired", solved(learners_copy(book), SOLUTIONS / book, {"3.3"}), book)
    repaired, as_found = course.grade("exercises", "repaired"), course.grade("exercises", "as found")
    assert repaired.points == {"3.3": POINTS["3.3"], "3.8": 0.0, "M4": float(drill.points)}, repaired.shown
    assert as_found.points == {"3.3": 0.0, "3.8": 0.0, "M4": 0.0}
    assert "Not yet." in as_found.shown["M4"]


def test_what_is_given_out_is_what_learners_have(course: Course) -> None:
    for name, assignment in course.assignments.items():
        for notebook, exercises in assignment.notebooks.items():
            path = course.folder / "source" / name / notebook
            source = nbformat.read(path, as_version=4)
            marked = [cell.metadata.nbgrader for cell in source.cells if "nbgrader" in cell.metadata]
            assert [m.points for m in marked if m.grade] == [exercise.points for exercise in exercises]
            assert all(m.locked != m.solution for m in marked)
    for name in ("lesson_00", "exercises"):
        for notebook in course.assignments[name].notebooks:
            own = {cell.id: cell.source for cell in learners_copy(notebook).cells}
            released = nbformat.read(course.release(name) / notebook, as_version=4).cells
            assert all(own[cell.id] == cell.source for cell in released)
            assert all("### " not in cell.source for cell in released if cell.cell_type == "code")


# One class of lesson 00. Each submission begins as the solution, and then something is done to it.

Do = Callable[[Notebook], object]
ZERO = dict.fromkeys(("0.1", "0.2", "0.3"), 0.0)
FULL = {id: POINTS[id] for id in ZERO}
SWALLOW = "import time\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass"


def cell(notebook: Notebook, id: str) -> Notebook:
    return next(found for found in notebook.cells if found.id == id)


def answer(id: str, *lines: str) -> Do:
    """The answer to this exercise is a function of these lines."""

    def write(notebook: Notebook) -> None:
        body = "\n    ".join(lines)
        cell(
            notebook, f"answer-{id.replace('.', '-')}"
        ).source = f"async def {find_exercise(id).answer}(session, *_):\n    {body}"

    return write


def above(source: str) -> Do:
    """Before the solution of 0.2, in its cell."""

    def write(notebook: Notebook) -> None:
        found = cell(notebook, "answer-0-2")
        found.source = f"{source}\n{found.source}"

    return write


def marks(**forged: object) -> Do:
    return lambda notebook: [found.metadata.setdefault("nbgrader", {}).update(forged) for found in notebook.cells]


def without(*ids: str) -> Do:
    return lambda notebook: notebook.__setitem__("cells", [found for found in notebook.cells if found.id not in ids])


def copied(id: str, source: str | None = None) -> Do:
    """A copy of this cell stands below it, as JupyterLab makes one."""

    def copy(notebook: Notebook) -> None:
        first = cell(notebook, id)
        again = nbformat.from_dict({**first, "id": "another"})
        again.source = first.source if source is None else source
        notebook.cells.insert(notebook.cells.index(first) + 1, again)

    return copy


def no_marks(notebook: Notebook) -> None:
    for found in notebook.cells:
        found.metadata = nbformat.from_dict({})
        found.id = f"x{notebook.cells.index(found)}"


WRONG_TYPE = {"cell_type": "raw", "metadata": {}, "id": "answer-0-1", "source": "nothing"}
DROPS = (
    "from sqlalchemy import text",
    'await session.execute(text("DROP SCHEMA public CASCADE"))',
    "await session.commit()",
    "return 1",
)
CLASS: dict[str, tuple[Do, dict[str, float], str, str]] = {
    "loops": (answer("0.2", "while True: pass"), FULL | {"0.2": 0}, "0.2", "`titles_of` had not come to an end after"),
    "swallows_above": (above(SWALLOW), FULL | {"0.2": 0}, "0.2", "A cell above the check had not come to its end"),
    "loops_above": (above("while True: pass"), FULL | {"0.2": 0}, "0.2", "it had not ended after 10 seconds"),
    "drops": (answer("0.1", *DROPS), FULL | {"0.1": 0}, "0.1", "Not yet."),
    "prints": (answer("0.3", 'print("x" * 1_000_000)'), FULL | {"0.3": 0}, "0.3", "your code printed"),
    "exits": (above("import os; os._exit(0)"), FULL | {"0.2": 0}, "0.2", "A cell above the check ended with exit code"),
    "exits_inside": (
        answer("0.2", "import os; os._exit(3)"), FULL | {"0.2": 0}, "0.2", "was judged ended with exit code 3."
    ),
    "judges_itself": (
        above('async def check(id, **_): return 3.0\nprint("3.0")'), FULL, "0.2", "Right."
    ),
    "judges_nothing": (
        lambda n: (answer("0.2", "return None")(n), copied("answer-0-2", "async def check(id): return 99.0")(n)),
        FULL | {"0.2": 0}, "0.2", "Not yet.",
    ),
    "points": (marks(points=100.0), FULL, "0.1", "Right."),
    "schema": (marks(schema_version=99), FULL, "0.1", "Right."),
    "solution_too": (marks(grade=True, solution=True, locked=False, points="many"), FULL, "0.1", "Right."),
    "deleted": (without("answer-0-2", "check-0-2"), FULL | {"0.2": 0}, "0.2", "There is no `titles_of` yet."),
    "deleted_check": (without("check-0-2", "statement-0-3"), FULL, "0.2", "Right."),
    "copied": (copied("answer-0-2"), FULL, "0.2", "Right."),
    "copied_check": (copied("check-0-2", "2.0"), FULL, "0.2", "Right."),
    "edited_check": (lambda n: cell(n, "check-0-1").update(source="1.0"), FULL, "0.1", "Right."),
    "no_marks": (no_marks, FULL, "0.2", "Right."),
    "zoe": (lambda _: None, FULL, "0.3", "Right."),
}  # fmt: skip
BROKEN = "not_a_notebook"
FEW = ("loops", "swallows_above", "drops", "prints", "exits", "judges_nothing", "points", "schema", "deleted", "copied",
       "zoe")  # fmt: skip
"""Those of one run; the others differ little, and are for ``--soak``."""


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Course, list[str]]:
    """A class that sent its work by mail, and what each of nbgrader's commands said."""
    course = Course(tmp_path_factory.mktemp("class") / "course", lessons="00")
    archive = course.folder / "downloaded" / "lesson_00" / "archive"
    archive.mkdir(parents=True)
    names = CLASS if request.config.getoption("--soak") else FEW
    for number, name in enumerate(names):
        notebook = solved(learners_copy(FIRST.name), FIRST, set(ZERO))
        CLASS[name][0](notebook)
        text = nbformat.writes(notebook)
        if number % 2:
            (archive / f"{name}_{FIRST.name}").write_text(text, encoding="utf-8")
        else:
            with zipfile.ZipFile(archive / f"{name}.zip", "w") as packed:
                packed.writestr(f"work/exercises/{FIRST.name}", text)
                packed.writestr(f"__MACOSX/._{FIRST.name}", "x")
    (archive / f"{BROKEN}_{FIRST.name}").write_text("{", encoding="utf-8")
    (archive / "torn.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with zipfile.ZipFile(archive / "twice.zip", "w") as packed:
        for place in ("a", "b", "extracted/zoe"):
            packed.writestr(f"{place}/{FIRST.name}", nbformat.writes(learners_copy(FIRST.name)))
    with (course.folder / "nbgrader_config.py").open("a", encoding="utf-8") as config:
        config.write("\nc.JudgeApart.seconds = 10\n")
    said = [
        nbgrader(course.folder, command, *([] if command == "export" else ["lesson_00"]))
        for command in ("generate_assignment", "zip_collect", "autograde", "generate_feedback", "export")
    ]
    return course, said


def test_the_commands_do_the_whole_way(handed_in: tuple[Course, list[str]]) -> None:
    course, (made, collected, graded, told, exported) = handed_in
    assert made.endswith("exit code 0") and collected.endswith("exit code 0"), collected
    assert "torn.zip cannot be unpacked and is left out" in collected
    assert collected.count("is left out") == 3 and collected.count("has the same notebook of twice") == 2
    assert graded.count("There was an error processing assignment 'lesson_00' for student") == 1
    assert f"for student '{BROKEN}'" in graded
    assert told.endswith("exit code 0") and exported.endswith("exit code 0"), told
    with (course.folder / "grades.csv").open(newline="", encoding="utf-8") as file:
        scores = {row["student_id"]: float(row["score"] or 0) for row in csv.DictReader(file)}
    assert scores.pop("twice") == 0.0 and scores.pop(BROKEN, 0.0) == 0.0
    assert scores == {name: sum(CLASS[name][1].values()) for name in scores} and scores["zoe"] == 4.0
    page = (course.folder / "feedback" / "zoe" / "lesson_00" / f"{FIRST.stem}.html").read_text(encoding="utf-8")
    assert "0.1 · Count the users" in page and "Right." in page


@pytest.mark.parametrize("name", CLASS)
def test_no_submission_stops_another_and_each_has_its_sentence(handed_in: tuple[Course, list[str]], name: str) -> None:
    course, _ = handed_in
    if not (course.folder / "submitted" / name).exists():
        pytest.skip("is in the class of --soak")
    _, points, exercise, sentence = CLASS[name]
    graded: Graded = course.graded("lesson_00", name)
    assert graded.points == points, graded.shown
    assert sentence.replace("`", "") in graded.shown[exercise]
    assert len(json.dumps(graded.shown)) < 60_000


def test_nbgrader_can_judge_in_its_own_kernel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our lines in its configuration, as where it is installed apart from the course: a strict check raises."""
    monkeypatch.setenv("COURSE_STRICT", "1")
    course = Course(tmp_path / "course", lessons="00")
    config = course.folder / "nbgrader_config.py"
    lines = config.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "_id" in line or line.startswith(("c = ", "c.ClearSolutions"))]
    config.write_text("\n".join(line for line in kept if "?P<" not in line), encoding="utf-8")
    course.hand_in("lesson_00", "half", solved(learners_copy(FIRST.name), FIRST, {"0.1", "0.3"}))
    graded = course.grade("lesson_00", "half")
    assert graded.success, graded.log
    assert graded.points == FULL | {"0.2": 0}
    shutil.rmtree(course.folder)
