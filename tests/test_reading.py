"""Lessons as somebody reads them: minutes that are honest, places to stop, questions before their answers, links."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from course_lib.exercises import manifest
from course_lib.notebooks.minutes import PREDICTION, minutes_to_read, stretches
from course_lib.settings import REPOSITORY
from tests.notebook_files import LESSONS

LESSON_FILES = [path for path in LESSONS if path.parent.name == "notebooks"]
STRETCH = 22  # minutes after which a lesson says where to stop
INSIDE = re.compile(r"\]\(#([^)]+)\)")
LINK = re.compile(r"\]\(([^)#\s]+)\)")
ROW = re.compile(r"^\| (\d\d) \| \[.*?\]\((.*?)\) \| (\d+) \| \[\d+\]\(.*?\), (\d+) min \|$", re.MULTILINE)

of_each_lesson = pytest.mark.parametrize("path", LESSON_FILES, ids=lambda path: path.stem)


def read(path: Path) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


@of_each_lesson
def test_a_lesson_says_how_long_it_takes(path: Path) -> None:
    cells = read(path)
    said = re.search(r"\*\*(\d+) minutes\.\*\*", cells[0].source)
    assert said, cells[0].source
    assert int(said[1]) == pytest.approx(minutes_to_read(cells), rel=0.1)


@of_each_lesson
def test_a_long_lesson_has_places_to_stop(path: Path) -> None:
    assert max(stretches(read(path))) <= STRETCH


@of_each_lesson
def test_what_was_to_be_predicted_is_not_given_away_below(path: Path) -> None:
    """The text after a predicted cell stands in the same view as the question."""
    cells = read(path)
    for place, cell in enumerate(cells[:-2]):
        if cell.cell_type == "markdown" and PREDICTION in cell.source:
            after = next(later for later in cells[place + 1 :] if later.cell_type == "markdown")
            hidden = after.source.startswith(("<details", "#")) or PREDICTION in after.source.splitlines()[0]
            assert hidden, f"[{place}] asks, and this follows:\n{after.source}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_lines_of_code_fit_beside_their_numbers(path: Path) -> None:
    long = [line for cell in read(path) if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert [line for line in long if len(line) > 88] == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_links_lead_to_files(path: Path) -> None:
    for cell in read(path):
        for target in LINK.findall(cell.source) if cell.cell_type == "markdown" else []:
            assert target.startswith(("http", "attachment:")) or (path.parent / target).exists(), target


@of_each_lesson
def test_links_within_a_lesson_lead_to_its_cells(path: Path) -> None:
    """JupyterLab finds a cell by its id; it does not find a heading that has a sign other than letters."""
    cells = read(path)
    inside = [link for cell in cells if cell.cell_type == "markdown" for link in INSIDE.findall(cell.source)]
    assert set(inside) <= {f"cell-id={cell.id}" for cell in cells}


@of_each_lesson
def test_a_lesson_leads_to_its_exercises_and_to_the_next(path: Path) -> None:
    last = LINK.findall(read(path)[-1].source)
    assert f"../exercises/{path.name}" in last
    following = LESSON_FILES[LESSON_FILES.index(path) + 1 :]
    assert not following or following[0].name in last


@of_each_lesson
def test_exercises_lead_back_and_on(path: Path) -> None:
    links = LINK.findall("\n".join(cell.source for cell in read(REPOSITORY / "exercises" / path.name)))
    assert f"../notebooks/{path.name}" in links
    following = LESSON_FILES[LESSON_FILES.index(path) + 1 :]
    assert not following or f"../notebooks/{following[0].name}" in links


def test_the_readme_says_the_minutes_of_lessons_and_of_exercises() -> None:
    rows = ROW.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert [number for number, *_ in rows] == [path.name[:2] for path in LESSON_FILES]
    for number, lesson, reading, solving in rows:
        said = re.search(r"\*\*(\d+) minutes", read(REPOSITORY / lesson)[0].source)
        assert said and said[1] == reading
        assert int(solving) == sum(exercise.minutes for exercise in manifest() if exercise.lesson == number)
