"""What is said to teachers and to those who choose a route: minutes as the lessons have them, names that exist."""

from __future__ import annotations

import re
from itertools import accumulate

import nbformat
import pytest

from course_lib.exercises import manifest
from course_lib.notebooks.minutes import seconds_to_read
from course_lib.settings import REPOSITORY
from tests.notebook_files import LESSONS

TEACHING = (REPOSITORY / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FILES = {path.name[:2]: path for path in LESSONS if path.parent.name == "notebooks"}
EXERCISES = {exercise.id: exercise for exercise in manifest()}
ROW = re.compile(r"^\| \[(\d\d)\]\((.+?)\) \| (.+?) \| (\d+) \| (.+?) \| (\d+) \| (\d+) \|$", re.MULTILINE)
WHOLE = re.compile(r"^\| \[(\d\d) · .+?\]\((.+?)\) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)
ROUTE = re.compile(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+?) \| (\d+) \|$", re.MULTILINE)
STOP = re.compile(r"\[(\d\d)\]\((.+?)\)( [\d, –]+)?")
MISTAKE = re.compile(r"^- (\d+\.\d+) \*(.+?)\*: ", re.MULTILINE)


def sections(number: str) -> dict[str, float]:
    """Minutes of each part of a lesson: ``"0"`` is its head, the numbers are its sections."""
    minutes: dict[str, float] = {}
    part = "0"
    for cell in nbformat.read(FILES[number], as_version=4).cells:
        if cell.cell_type == "markdown" and (head := re.match(r"## (?:(\d+) · )?(.*)", cell.source)):
            part = head[1] or head[2]
        minutes[part] = minutes.get(part, 0) + seconds_to_read(cell) / 60
    return minutes


def reading(number: str, which: str) -> int:
    """Minutes of a lesson's head and the sections that a text names, as ``1–3, 7``; of the whole one for ``whole``."""
    parts = sections(number)
    if which.strip() in ("", "whole"):
        return round(sum(parts.values()))
    named = [span.partition("–") for span in which.split(",")]
    chosen = [str(part) for first, _, last in named for part in range(int(first), int(last or first) + 1)]
    return round(parts["0"] + sum(parts[part] for part in chosen))


def solving(ids: str) -> int:
    return sum(EXERCISES[id].minutes for id in re.findall(r"\d+\.\d+", ids))


@pytest.mark.parametrize("plan", re.findall(r"^### ((?:Half|One|Two|A term).*)$", TEACHING, re.MULTILINE))
def test_a_plan_has_the_lessons_minutes(plan: str) -> None:
    rows = ROW.findall(TEACHING.partition(f"### {plan}\n")[2].partition("\n### ")[0].partition("\n## ")[0])
    assert len(rows) >= 5
    found = [(number, reading(number, which), solving(ids)) for number, _, which, _, ids, _, _ in rows]
    assert [(number, int(read), int(solve)) for number, _, _, read, _, solve, _ in rows] == found
    assert [int(row[-1]) for row in rows] == list(accumulate(read + solve for _, read, solve in found))
    assert all(FILES[number].name == file for number, file, *_ in rows)


def test_the_table_of_lessons_adds_up() -> None:
    rows = WHOLE.findall(TEACHING)
    assert [number for number, *_ in rows] == sorted(FILES)
    found = [(reading(number, ""), sum(e.minutes for e in manifest() if e.lesson == number)) for number, *_ in rows]
    assert [(int(read), int(solve)) for _, _, read, solve, _, _ in rows] == found
    assert [int(both) for *_, both, _ in rows] == [read + solve for read, solve in found]
    assert [int(total) for *_, total in rows] == list(accumulate(read + solve for read, solve in found))


@pytest.mark.parametrize("number", sorted(FILES))
def test_a_lessons_part_has_its_sections_and_its_mistakes(number: str) -> None:
    part = re.split(rf"^### {number} · ", TEACHING, flags=re.MULTILINE)[1].partition("\n## ")[0].partition("\n### ")[0]
    said = dict(re.findall(r"(\d+) \((\d+)\)", part.partition("minutes: ")[2].partition("\n")[0]))
    minutes = {name: max(1, round(spent)) for name, spent in sections(number).items() if name.isdigit() and name != "0"}
    assert {name: int(spent) for name, spent in said.items()} == minutes
    mistakes = MISTAKE.findall(part)
    assert len(mistakes) >= 3 and part.count("?* ") >= 3
    assert all(EXERCISES[id].lesson == number and name in EXERCISES[id].mistakes for id, name in mistakes)
    named = re.findall(r"[Ss]ections? (\d+)(?:(?:, (\d+))* and (\d+))?", part)
    assert {one for group in named for one in group if one} <= set(minutes)


def test_routes_have_the_lessons_minutes() -> None:
    rows = ROUTE.findall(README.partition("## Routes\n")[2].partition("\n## ")[0])
    assert len(rows) >= 4
    for route, lessons, ids, total in rows:
        stops = STOP.findall(lessons)
        assert all(REPOSITORY / file == FILES[number] for number, file, _ in stops)
        assert int(total) == sum(reading(number, which) for number, _, which in stops) + solving(ids), route
