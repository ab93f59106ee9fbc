"""``course classroom export`` writes what was asked for, where nothing else is; the rest is a sentence."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from course_lib.classroom.grading.export import chosen_assignments, export
from course_lib.cli.app import app
from course_lib.errors import CourseError


@pytest.mark.parametrize(
    ("lessons", "exercises", "names"),
    [
        ("01-03,5", "", ["lesson_01", "lesson_02", "lesson_03", "lesson_05"]),
        ("3,1-3", "", ["lesson_03", "lesson_01", "lesson_02"]),
        ("", "3.3, 3.8,m4", ["exercises"]),
        ("00", "3.3,3.3", ["lesson_00", "exercises"]),
    ],
)
def test_lessons_are_assignments_each_and_single_exercises_are_one(
    lessons: str, exercises: str, names: list[str]
) -> None:
    made = chosen_assignments(lessons, exercises)
    assert [assignment.name for assignment in made] == names
    assert len(made[-1].exercises) == len({exercise.id for exercise in made[-1].exercises})


@pytest.mark.parametrize(
    ("lessons", "exercises", "sentence"),
    [
        ("", "", "Which exercises are to be graded?"),
        ("5-3", "", "5-3 counts backwards."),
        ("one", "", "'one' names no lessons."),
        ("44", "", "There is no lesson 44 with exercises."),
        ("", "3.99", "There is no exercise '3.99'."),
        ("", "M99", "There is no exercise 'M99'."),
    ],
)
def test_what_is_not_there_is_a_sentence(tmp_path: Path, lessons: str, exercises: str, sentence: str) -> None:
    with pytest.raises(CourseError) as caught:
        export(chosen_assignments(lessons, exercises), tmp_path / "graded")
    assert caught.value.sentence == sentence and caught.value.mend
    assert not (tmp_path / "graded").exists()


def test_nothing_of_others_is_touched(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(CourseError, match="is not empty"):
        export(chosen_assignments("00", ""), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "graded").write_text("mine")
    with pytest.raises(CourseError, match="A file is in the place of the folder"):
        export(chosen_assignments("00", ""), tmp_path / "graded")


def test_without_nbgrader_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("course_lib.cli.exporting.find_spec", lambda _: None)
    folder = tmp_path / "graded"
    done = CliRunner().invoke(app, ["classroom", "export", "--exercises", "3.3,3.8,M4", "--to", str(folder)])
    assert done.exit_code == 0, done.output
    assert "exercises: 3 exercises, 6 points" in done.output and "run: make grading" in done.output
    book = nbformat.read(folder / "source" / "exercises" / "03_transactions.ipynb", as_version=4)
    assert [cell.id for cell in book.cells if cell.id.startswith("check-")] == ["check-3-3", "check-3-8"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"nbgrader {word} exercises" in readme for word in ("generate_assignment", "zip_collect", "autograde"))
    assert "{" not in readme and "| `exercises` | `03_transactions.ipynb`, `M4_charged_twice.ipynb` |" in readme


def test_what_is_cut_short_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_room)
    with pytest.raises(CourseError):
        export(chosen_assignments("00", ""), tmp_path / "course")
    monkeypatch.undo()
    assert not list(tmp_path.glob(".course*"))
    assert export(chosen_assignments("00", ""), tmp_path / "course"), "and the same command works later"
    assert not list(tmp_path.glob(".course*"))
