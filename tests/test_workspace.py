"""``work/``: the learner's copies are theirs; what they left as it was follows the originals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.notebooks import Workspace


def write(path: Path, *sources: str) -> None:
    """An executed notebook, as it is committed."""
    cells = [
        nbformat.v4.new_code_cell(
            source, id=f"cell{number}", execution_count=number, outputs=[nbformat.v4.new_output("stream", text="out\n")]
        )
        for number, source in enumerate(sources, 1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def sources(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


def beside(copy: Path) -> Path:
    """Where the newer edition of a copy that the learner changed is put."""
    return copy.with_name(f"{copy.stem}.newer.ipynb")


def edit(path: Path, source: str) -> None:
    """Change the first cell, as a learner does."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = source
    nbformat.write(notebook, path)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A repository of two lessons and an exercise, prepared once."""
    repository = tmp_path / "clone of the course"
    write(repository / "notebooks" / "00_start.ipynb", "1 + 1", "2 + 2")
    write(repository / "notebooks" / "01_more.ipynb", "3 + 3")
    write(repository / "exercises" / "01_more.ipynb", "...")
    (repository / "notebooks" / "draft.ipynb").write_text("no lesson")
    workspace = Workspace(repository / "work", repository)
    assert len(workspace.prepare()) == 3
    return workspace


def test_lessons_are_copied_without_outputs(workspace: Workspace) -> None:
    assert {path.relative_to(workspace.folder).as_posix() for path in workspace.folder.rglob("*.ipynb")} == {
        "00_start.ipynb", "01_more.ipynb", "exercises/01_more.ipynb",
    }  # fmt: skip
    notebook = nbformat.read(workspace.folder / "00_start.ipynb", as_version=4)
    assert [cell.source for cell in notebook.cells] == ["1 + 1", "2 + 2"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells)
    assert [cell.id for cell in notebook.cells] == ["cell1", "cell2"]


def test_links_between_lessons_and_exercises_lead_from_where_the_copies_lie(workspace: Workspace) -> None:
    edit(workspace.repository / "notebooks" / "01_more.ipynb", "[on](../exercises/01_more.ipynb)")
    edit(workspace.repository / "exercises" / "01_more.ipynb", "[back](../notebooks/01_more.ipynb)")
    assert len(workspace.prepare()) == 2
    assert sources(workspace.folder / "01_more.ipynb") == ["[on](exercises/01_more.ipynb)"]
    assert sources(workspace.folder / "exercises" / "01_more.ipynb") == ["[back](../01_more.ipynb)"]
    assert workspace.prepare() == []


def test_preparing_again_writes_nothing(workspace: Workspace) -> None:
    before = {path: path.read_bytes() for path in workspace.folder.rglob("*.ipynb")}
    assert workspace.prepare() == [] and workspace.kept == []
    assert before == {path: path.read_bytes() for path in workspace.folder.rglob("*.ipynb")}


def test_a_changed_copy_is_never_overwritten_and_is_reported_when_the_original_moves_on(workspace: Workspace) -> None:
    copy = workspace.folder / "00_start.ipynb"
    edit(copy, "mine")
    assert workspace.prepare() == [] and workspace.kept == []
    write(workspace.repository / "notebooks" / "00_start.ipynb", "renewed")
    assert workspace.prepare() == [beside(copy)]
    assert workspace.kept == [copy]
    assert (sources(copy), sources(beside(copy))) == (["mine", "2 + 2"], ["renewed"])
    (remark,) = workspace.remarks
    assert remark.startswith(f"You changed {Path('work/00_start.ipynb')}; there is a newer original.")
    assert remark.endswith(command("reset 00"))


def test_the_newer_one_is_put_beside_once_for_each_edition(workspace: Workspace) -> None:
    copy = workspace.folder / "00_start.ipynb"
    edit(copy, "mine")
    write(workspace.repository / "notebooks" / "00_start.ipynb", "second")
    workspace.prepare()
    assert workspace.prepare() == [] and len(workspace.remarks) == 2, "said each time, while it is there"
    beside(copy).unlink()
    assert workspace.prepare() == [] and len(workspace.remarks) == 2, "who deleted it does not want it"
    write(workspace.repository / "notebooks" / "00_start.ipynb", "third")
    assert workspace.prepare() == [beside(copy)] and sources(beside(copy)) == ["third"]


def test_what_was_written_into_the_newer_one_is_kept(workspace: Workspace) -> None:
    copy = workspace.folder / "00_start.ipynb"
    edit(copy, "mine")
    write(workspace.repository / "notebooks" / "00_start.ipynb", "second")
    workspace.prepare()
    edit(beside(copy), "mine, too")
    write(workspace.repository / "notebooks" / "00_start.ipynb", "third")
    workspace.prepare()
    (kept,) = (workspace.folder / "backup").iterdir()
    assert (sources(kept), sources(beside(copy)), sources(copy)) == (["mine, too"], ["third"], ["mine", "2 + 2"])


def test_the_newer_one_goes_when_the_copy_is_it_unless_somebody_wrote_there(workspace: Workspace) -> None:
    copy = workspace.folder / "00_start.ipynb"
    for mine, left in ((None, False), ("mine, too", True)):
        edit(copy, "mine")
        write(workspace.repository / "notebooks" / "00_start.ipynb", f"before {mine}")
        workspace.prepare()
        if mine:
            edit(beside(copy), mine)
        workspace.reset("00")
        assert sources(copy) == [f"before {mine}"] and beside(copy).exists() == left
        workspace.prepare()
        assert beside(copy).exists() == left


def test_an_unchanged_copy_follows_its_original(workspace: Workspace) -> None:
    copy = workspace.folder / "00_start.ipynb"
    write(workspace.repository / "notebooks" / "00_start.ipynb", "renewed")
    assert workspace.prepare() == [copy]
    assert sources(copy) == ["renewed"]
    assert workspace.remarks == [f"Newer now, as you had left them as they were: {Path('work/00_start.ipynb')}"]


def test_having_run_a_copy_is_no_change(workspace: Workspace) -> None:
    copy = workspace.folder / "00_start.ipynb"
    notebook = nbformat.read(copy, as_version=4)
    for number, cell in enumerate(notebook.cells, 1):
        cell.execution_count = number
        cell.outputs = [nbformat.v4.new_output("stream", text="2\n")]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11"}
    nbformat.write(notebook, copy)
    write(workspace.repository / "notebooks" / "00_start.ipynb", "renewed")
    assert workspace.prepare() == [copy]
    assert sources(copy) == ["renewed"]


def test_an_original_that_was_only_executed_again_renews_nothing(workspace: Workspace) -> None:
    original = workspace.repository / "notebooks" / "00_start.ipynb"
    notebook = nbformat.read(original, as_version=4)
    notebook.cells[0].outputs = []
    nbformat.write(notebook, original)
    assert workspace.prepare() == []


def test_a_deleted_copy_comes_back(workspace: Workspace) -> None:
    copy = workspace.folder / "exercises" / "01_more.ipynb"
    copy.unlink()
    assert workspace.prepare() == [copy]


def test_the_learners_other_files_are_left_alone(workspace: Workspace) -> None:
    own = workspace.folder / "02_my_notes.ipynb"
    own.write_text("notes")
    workspace.prepare()
    workspace.reset("01")
    workspace.reset("01", exercises=True)
    assert own.read_text() == "notes"


def test_a_notebook_that_came_to_the_same_text_is_not_reported(workspace: Workspace) -> None:
    """The learner corrected what the next version corrects too."""
    copy = workspace.folder / "01_more.ipynb"
    edit(copy, "4 + 4")
    write(workspace.repository / "notebooks" / "01_more.ipynb", "4 + 4")
    workspace.prepare()
    assert sources(copy) == ["4 + 4"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "\0",
        '{"00_start.ipynb": 3}',
        "[]",
        '"text"',
        "null",
    ],
)
def test_a_damaged_record_costs_nobody_a_change(workspace: Workspace, content: str) -> None:
    copy = workspace.folder / "00_start.ipynb"
    edit(copy, "mine")
    (workspace.folder / ".course.json").write_text(content)
    workspace.prepare()
    assert sources(copy) == ["mine", "2 + 2"]
    assert isinstance(json.loads((workspace.folder / ".course.json").read_text()), dict)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}', '{"cells": [3]}'])
def test_a_damaged_copy_is_kept_and_reset_brings_a_whole_one(workspace: Workspace, content: str) -> None:
    copy = workspace.folder / "00_start.ipynb"
    copy.write_text(content)
    workspace.prepare()
    assert copy.read_text() == content
    workspace.reset("00")
    assert sources(copy) == ["1 + 1", "2 + 2"]
    (backup,) = (workspace.folder / "backup").iterdir()
    assert backup.read_text() == content


def test_reset_keeps_what_was_there_each_time_under_the_time_of_it(workspace: Workspace) -> None:
    copy = workspace.folder / "01_more.ipynb"
    backups = []
    for mine in ("first", "second"):
        edit(copy, mine)
        copied, backup = workspace.reset("1")
        assert (copied, sources(copy)) == (copy, ["3 + 3"])
        assert backup is not None and re.fullmatch(r"01_more\.\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{6}\.ipynb", backup.name)
        backups.append(backup)
    assert [sources(path) for path in sorted(backups)] == [["first"], ["second"]]
    assert sorted((workspace.folder / "backup").iterdir()) == sorted(backups)
    assert workspace.prepare() == [], "a reset copy is as prepared"


def test_reset_takes_the_lesson_or_its_exercises_and_their_backups_are_told_apart(workspace: Workspace) -> None:
    lesson, exercises = workspace.folder / "01_more.ipynb", workspace.folder / "exercises" / "01_more.ipynb"
    edit(lesson, "my lesson")
    edit(exercises, "my answer")
    assert workspace.reset("01")[0] == lesson
    assert (sources(lesson), sources(exercises)) == (["3 + 3"], ["my answer"])
    edit(lesson, "my lesson")
    assert workspace.reset("01", exercises=True)[0] == exercises
    assert (sources(lesson), sources(exercises)) == (["my lesson"], ["..."])
    backup = workspace.folder / "backup"
    assert [sources(path) for path in backup.glob("*.ipynb")] == [["my lesson"]]
    assert [sources(path) for path in (backup / "exercises").iterdir()] == [["my answer"]]


def test_reset_of_an_unchanged_lesson_needs_no_backup(workspace: Workspace) -> None:
    assert workspace.reset("00") == (workspace.folder / "00_start.ipynb", None)
    assert not (workspace.folder / "backup").exists()


def test_reset_before_the_first_preparation(workspace: Workspace) -> None:
    fresh = Workspace(workspace.repository / "elsewhere", workspace.repository)
    assert fresh.reset("00") == (fresh.folder / "00_start.ipynb", None)


@pytest.mark.parametrize("number", ["07", "x", "000", ""])
def test_an_unknown_number_is_a_sentence(workspace: Workspace, number: str) -> None:
    with pytest.raises(CourseError, match="There is no lesson") as caught:
        workspace.reset(number)
    assert caught.value.mend == "Choose one of: 00, 01"


def test_a_lesson_without_exercises_has_none_to_reset(workspace: Workspace) -> None:
    with pytest.raises(CourseError, match="There are no exercises of a lesson 00") as caught:
        workspace.reset("00", exercises=True)
    assert caught.value.mend == "Choose one of: 01"
