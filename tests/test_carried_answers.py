"""A newer edition of an exercise book takes the learner's answers in, and nothing of theirs is lost on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import nbformat
import pytest

from course_lib.notebooks import Workspace
from tests.postgres.places import environment

STUB = '    raise NotImplementedError("your code")'


def given(number: int, words: str = "Count them.") -> list[nbformat.NotebookNode]:
    """The three cells of exercise 1.number as a book has them."""
    id, name = f"1-{number}", f"answer_{number}"
    cells = [
        nbformat.v4.new_markdown_cell(f"## 1.{number} · {words}", id=f"statement-{id}"),
        nbformat.v4.new_code_cell(f'async def {name}(session):\n    """{words}"""\n{STUB}', id=f"answer-{id}"),
        nbformat.v4.new_code_cell(f'await check("1.{number}")', id=f"check-{id}"),
    ]
    for cell in cells:
        cell.metadata = {"nbgrader": {"grade_id": cell.id}}
    return cells


def publish(repository: Path, *exercises: list[nbformat.NotebookNode]) -> None:
    """An edition of the book."""
    title = nbformat.v4.new_markdown_cell("# Exercises", id="title")
    book = nbformat.v4.new_notebook(cells=[title, *(cell for cells in exercises for cell in cells)])
    (repository / "exercises").mkdir(parents=True, exist_ok=True)
    nbformat.write(book, repository / "exercises" / "01_more.ipynb")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The first edition has the exercises 1.1 and 1.2, and lies in ``work/`` as given."""
    publish(tmp_path, given(1), given(2))
    workspace = Workspace(tmp_path / "work", tmp_path)
    workspace.prepare()
    return workspace


def copy_of(workspace: Workspace) -> Path:
    return workspace.folder / "exercises" / "01_more.ipynb"


def read(path: Path) -> dict[str, str]:
    """Sources by id, in order."""
    return {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}


def write(workspace: Workspace, **answers: str) -> None:
    notebook = nbformat.read(copy_of(workspace), as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id.replace("-", "_"), cell.source)
    nbformat.write(notebook, copy_of(workspace))


def add_behind(workspace: Workspace, id: str, source: str) -> str:
    """A cell of the learner's own, with an id as JupyterLab makes it; the id."""
    notebook = nbformat.read(copy_of(workspace), as_version=4)
    place = [cell.id for cell in notebook.cells].index(id) + 1
    own = nbformat.v4.new_code_cell(source, id=str(uuid4()))
    notebook.cells.insert(place, own)
    nbformat.write(notebook, copy_of(workspace))
    return str(own.id)


def backups(workspace: Workspace) -> list[Path]:
    return sorted((workspace.folder / "backup").rglob("*.ipynb"))


ANSWER = "async def answer_1(session):\n    return 8"


def test_answers_stand_in_the_newer_edition_and_the_former_is_kept(workspace: Workspace) -> None:
    write(workspace, answer_1_1=ANSWER)
    before = copy_of(workspace).read_bytes()
    publish(workspace.repository, given(1, "Count all."), given(3), given(2))
    assert workspace.prepare() == [copy_of(workspace)]
    cells = read(copy_of(workspace))
    assert list(cells) == ["title", *(f"{part}-1-{n}" for n in (1, 3, 2) for part in ("statement", "answer", "check"))]
    assert cells["statement-1-1"] == "## 1.1 · Count all."
    assert cells["answer-1-1"] == ANSWER
    assert STUB in cells["answer-1-3"]
    (kept,) = backups(workspace)
    assert kept.read_bytes() == before and kept.parent == workspace.folder / "backup" / "exercises"
    (remark,) = workspace.remarks
    assert "your answers to 1.1 are in it." in remark and remark.endswith(f"{workspace.spoken(kept)}.")
    assert workspace.prepare() == [] and workspace.kept == [] and len(workspace.remarks) == 1


def test_a_stub_that_nobody_touched_is_replaced_by_the_new_one(workspace: Workspace) -> None:
    write(workspace, answer_1_1=ANSWER)
    publish(workspace.repository, given(1), given(2, "Now with a limit."))
    workspace.prepare()
    assert "Now with a limit." in read(copy_of(workspace))["answer-1-2"]


@pytest.mark.parametrize(
    "half",
    [
        f"# my plan: one statement\nasync def answer_2(session):\n{STUB}",
        f"async def answer_2(session):\n    users = []\n{STUB}",
        f"LIMIT = 3\n\nasync def answer_2(session):\n{STUB}",
        "async def answer_2(session:",
    ],
    ids=["a comment", "a line", "a constant", "no Python yet"],
)
def test_half_an_answer_is_one(workspace: Workspace, half: str) -> None:
    write(workspace, answer_1_2=half)
    publish(workspace.repository, given(1, "Count all."), given(2, "Now with a limit."))
    workspace.prepare()
    assert read(copy_of(workspace))["answer-1-2"] == half


def test_cells_of_ones_own_stand_behind_what_they_stood_behind(workspace: Workspace) -> None:
    write(workspace, answer_1_1=ANSWER)
    helper = add_behind(workspace, "statement-1-1", "def helper(): ...")
    trial = add_behind(workspace, "check-1-2", "1 + 1")
    publish(workspace.repository, given(3), given(1, "Count all."), given(2))
    workspace.prepare()
    order = list(read(copy_of(workspace)))
    assert order[order.index(helper) - 1] == "statement-1-1" and order[order.index(trial) - 1] == "check-1-2"
    publish(workspace.repository, given(1), given(2))
    workspace.prepare()
    assert list(read(copy_of(workspace))).count(helper) == 1


def test_an_answer_whose_exercise_is_gone_is_named_and_kept(workspace: Workspace) -> None:
    write(workspace, answer_1_1=ANSWER, answer_1_2="mine = 2")
    publish(workspace.repository, given(1))
    workspace.prepare()
    assert "1.2 is in it no more." in workspace.remarks[0]
    assert read(backups(workspace)[0])["answer-1-2"] == "mine = 2"


def test_ids_that_an_editor_dropped_are_known_by_the_graders_marks(workspace: Workspace) -> None:
    write(workspace, answer_1_1=ANSWER)
    content = json.loads(copy_of(workspace).read_text())
    for cell in content["cells"]:
        del cell["id"]
    copy_of(workspace).write_text(json.dumps(content | {"nbformat_minor": 4}))
    publish(workspace.repository, given(1, "Count all."), given(2))
    workspace.prepare()
    assert read(copy_of(workspace))["answer-1-1"] == ANSWER


def test_without_an_answer_a_changed_book_stays_and_is_reported(workspace: Workspace) -> None:
    write(workspace, statement_1_1="my notes")
    publish(workspace.repository, given(1, "Count all."), given(2))
    assert copy_of(workspace) not in workspace.prepare() and workspace.kept == [copy_of(workspace)]
    assert read(copy_of(workspace))["statement-1-1"] == "my notes" and backups(workspace) == []
    assert "reset 01 --exercises" in workspace.remarks[0]


def test_a_lesson_that_was_changed_stays_as_it_is(workspace: Workspace) -> None:
    lesson = workspace.repository / "notebooks" / "01_more.ipynb"
    lesson.parent.mkdir()
    lesson.write_bytes((workspace.repository / "exercises" / "01_more.ipynb").read_bytes())
    workspace.prepare()
    copy = workspace.folder / "01_more.ipynb"
    copy.write_text(copy.read_text().replace("Count them.", "mine"))
    lesson.write_text(lesson.read_text().replace("Count them.", "Count all."))
    assert copy not in workspace.prepare() and workspace.kept == [copy]


def test_the_answers_of_a_link_go_where_it_leads(workspace: Workspace, tmp_path: Path) -> None:
    write(workspace, answer_1_1=ANSWER)
    elsewhere = copy_of(workspace).rename(tmp_path / "synchronised.ipynb")
    copy_of(workspace).symlink_to(elsewhere)
    publish(workspace.repository, given(1, "Count all."), given(2))
    workspace.prepare()
    assert copy_of(workspace).is_symlink() and read(elsewhere)["answer-1-1"] == ANSWER


KILLED = """
import os, signal, sys
from pathlib import Path
from course_lib.notebooks import Workspace

left = int(sys.argv[1])

def stopping(function):
    def stop(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return stop

Path.replace, Path.unlink = stopping(Path.replace), stopping(Path.unlink)
Workspace(Path(sys.argv[2]) / "work", Path(sys.argv[2])).prepare()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("steps", range(7))
@pytest.mark.soak(after=2)
def test_who_is_killed_on_the_way_loses_nothing_and_the_next_time_does_the_rest(
    workspace: Workspace, steps: int
) -> None:
    """Killed before each change of a name: the backup, the book and the list of copies, each with its clearing up."""
    write(workspace, answer_1_1=ANSWER)
    before = copy_of(workspace).read_bytes()
    publish(workspace.repository, given(1, "Count all."), given(2))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(steps), str(workspace.repository)], env=environment(None), check=False
    )
    assert done.returncode == (-signal.SIGKILL if steps < 6 else 0)
    assert before in [path.read_bytes() for path in (copy_of(workspace), *backups(workspace))]
    assert read(copy_of(workspace))["answer-1-1"] == ANSWER, "at every moment there is a whole book with the answer"
    workspace.prepare()
    cells = read(copy_of(workspace))
    assert (cells["answer-1-1"], cells["statement-1-1"]) == (ANSWER, "## 1.1 · Count all.")
    assert before in [path.read_bytes() for path in backups(workspace)]
    assert workspace.prepare() == []
