"""Exercise notebooks come from solution notebooks and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from course_lib.exercises import drills, find_exercise, manifest, solution
from course_lib.exercises.book import (
    CELL_ID,
    EXERCISES,
    SOLUTIONS,
    drill_notebook,
    learners_notebooks,
    sheet_name,
    solution_source,
)

NOTEBOOKS = sorted(SOLUTIONS.glob("*.ipynb"))

by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_exercises_are_up_to_date() -> None:
    made = learners_notebooks()
    assert set(EXERCISES.rglob("*.ipynb")) == set(made)
    for path, notebook in made.items():
        assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n", f"{path.name}: make exercises"


@pytest.mark.parametrize("path", sorted(EXERCISES.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_no_solution_and_no_output_reaches_the_learner(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    for cell in nbformat.reads(text, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@by_notebook
def test_each_exercise_is_a_statement_an_answer_and_a_bare_check(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    parts = [match.groups() for cell in cells if (match := CELL_ID.match(cell.id))]
    exercises = [e for e in manifest() if e.lesson == path.name[:2]]
    assert parts == [(part, e.place) for e in exercises for part in ("statement", "answer", "check")]
    by_id = {cell.id: cell for cell in cells}
    for exercise in exercises:
        suffix = exercise.place
        assert by_id[f"check-{suffix}"].source == f'await check("{exercise.id}")'
        assert "### BEGIN SOLUTION" in by_id[f"answer-{suffix}"].source
        statement = by_id[f"statement-{suffix}"].source
        assert f"{exercise.id} · {exercise.title}" in statement
        points = f"{exercise.points} point" + ("" if exercise.points == 1 else "s")
        assert f"{exercise.minutes} minutes · {points} · {exercise.level}" in statement
        assert exercise.answer in by_id[f"answer-{suffix}"].source


def test_a_sheet_holds_what_a_candidate_is_given_and_no_more() -> None:
    for drill in drills():
        cells = {cell.id: cell.source for cell in drill_notebook(drill).cells}
        assert list(cells) == [f"statement-{drill.id}", "how", "setup", f"answer-{drill.id}", f"check-{drill.id}"]
        found = nbformat.read(SOLUTIONS / drill.book, as_version=4).cells
        assert cells[f"answer-{drill.id}"] == next(c.source for c in found if c.id == f"given-{drill.id}")
        assert sheet_name(drill).startswith(f"{drill.id}_")


@pytest.mark.parametrize("exercise", [*manifest(), *drills()], ids=lambda e: e.id)
def test_every_exercise_has_hints_a_why_and_three_named_mistakes(exercise: object) -> None:
    from course_lib.exercises import Exercise

    assert isinstance(exercise, Exercise)
    assert len(exercise.hints) >= 2
    assert exercise.why
    assert "?" in exercise.follow_up
    assert len(exercise.mistakes) >= 3
    for sentence in exercise.mistakes.values():
        assert "!" not in sentence.replace("!r}", "}").replace("!=", "")


def test_a_solution_is_shown_at_the_second_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from course_lib.settings import get_settings

    monkeypatch.setenv("COURSE_WORK", str(tmp_path))
    get_settings.cache_clear()
    assert "ask again" in solution("0.1")
    assert "async def count_users" in solution("0.1")
    get_settings.cache_clear()


def test_a_solution_is_shown_without_its_marks() -> None:
    source = solution_source(find_exercise("0.1"))
    assert "SOLUTION" not in source
    assert "return await session.scalar" in source
