"""The judging of lesson 01 is fair: right answers pass however written, wrong ones are told their own mistake."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import pytest

from course_lib.exercises import Exercise, judge_answer
from course_lib.exercises.book import SOLUTIONS, exercise_notebook, solution_source
from course_lib.exercises.lesson_01 import EXERCISES
from tests.exercises.lesson_01.written import Answers

NOTEBOOK = SOLUTIONS / "01_models_and_crud.ipynb"
ALL: list[Exercise] = [kind() for kind in EXERCISES]
WRITTEN: dict[str, Answers] = {
    e.id: import_module(f"tests.exercises.lesson_01.answers_1_{e.id.partition('.')[2]:0>2}").ANSWERS for e in ALL
}
FROM_ANYWHERE = {"raised", "forgotten await", "not async", "unreadable"}  # mistakes that are not of one exercise
RIGHT = [(e, answer) for e in ALL for answer in WRITTEN[e.id].right_ones]
WRONG = [(e, mistake, answer) for e in ALL for mistake, answer in WRITTEN[e.id].wrong_ones]

each = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)


def name_of(answer: Any) -> str:
    return str(getattr(answer, "__name__", type(answer).__name__))


def defined_by(source: str, exercise: Exercise, folder: Path) -> Any:
    """What a notebook's answer cell defines, with the notebook's imports; from a file, as cells have one too."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    setup = next(cell.source for cell in cells if cell.id == "setup")
    file = folder / "cell.py"
    file.write_text(f"{setup}\n\n{source}\n", encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "cell"}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
    return namespace[exercise.answer]


@each
async def test_the_committed_solution_passes_twice(exercise: Exercise, tmp_path: Path) -> None:
    answer = defined_by(solution_source(exercise), exercise, tmp_path)
    for _ in range(2):
        verdict = await judge_answer(exercise, answer)
        assert verdict == exercise.points, str(verdict)


@each
async def test_the_stub_is_not_attempted(exercise: Exercise, tmp_path: Path) -> None:
    wanted = f"answer-{exercise.id.replace('.', '-')}"
    stub = next(cell.source for cell in exercise_notebook(NOTEBOOK).cells if cell.id == wanted)
    assert "NotImplementedError" in stub
    assert (await judge_answer(exercise, defined_by(stub, exercise, tmp_path))).state == "not attempted"


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=[f"{e.id}-{name_of(answer)}" for e, answer in RIGHT])
async def test_a_right_answer_passes_however_it_is_written(exercise: Exercise, answer: Any) -> None:
    verdict = await judge_answer(exercise, answer)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(
    ("exercise", "mistake", "answer"), WRONG, ids=[f"{e.id}-{name_of(answer)}" for e, _, answer in WRONG]
)
async def test_a_wrong_answer_is_told_its_own_mistake(exercise: Exercise, mistake: str, answer: Any) -> None:
    verdict = await judge_answer(exercise, answer)
    assert verdict.mistake == mistake, str(verdict)
    assert "{" not in re.sub(r"\{'.*?\}|\{[0-9a-f]{4}\}", "", verdict.finding.sentence), "a number is missing"
    if mistake in exercise.mistakes:
        sentence = exercise.mistakes[mistake].partition(" | ")[0]
        pattern = ".*".join(re.escape(part) for part in re.split(r"\{[^{}]*\}", sentence))
        assert re.fullmatch(pattern, verdict.finding.sentence, re.DOTALL)


@each
def test_every_named_mistake_is_made_by_a_written_answer(exercise: Exercise) -> None:
    made = {mistake for mistake, _ in WRITTEN[exercise.id].wrong_ones}
    assert made - FROM_ANYWHERE == set(exercise.mistakes)
    assert len(exercise.mistakes) >= 5
    assert len(WRITTEN[exercise.id].right_ones) >= 2


@each
async def test_another_check_of_a_wrong_answer_says_the_same(exercise: Exercise) -> None:
    mistake, answer = WRITTEN[exercise.id].wrong_ones[-1]
    assert (await judge_answer(exercise, answer)).mistake == mistake


@each
def test_a_mistake_is_one_kind_sentence_and_where_to_look(exercise: Exercise) -> None:
    for text in exercise.mistakes.values():
        sentence, bar, look = text.partition(" | ")
        assert bar, text
        assert re.search(r"[.?]$", sentence) and re.search(r"[.?)`]$", look), text
        assert not re.search(r"[.?] [A-Z]", sentence), f"one sentence: {text}"
        assert "!" not in re.sub(r"\{\w+!r\}", "", text), text


@each
def test_hints_lead_from_a_nudge_to_nearly_there(exercise: Exercise) -> None:
    assert len(exercise.hints) >= 2
    solution = solution_source(exercise)
    lines = {line.strip() for line in solution.splitlines() if len(line.strip()) > 60}
    for hint in exercise.hints:
        assert not any(line in hint for line in lines), "a hint is not the solution"


@each
def test_the_statement_says_what_the_exercise_says(exercise: Exercise) -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    statement = next(cell.source for cell in cells if cell.id == f"statement-{exercise.id.replace('.', '-')}")
    points = f"{exercise.points} point" + ("" if exercise.points == 1 else "s")
    assert statement.startswith(f"## {exercise.id} · {exercise.title}\n")
    assert f"*{exercise.minutes} minutes · {points} · {exercise.level}*" in statement
    assert "**Expected:**" in statement
    assert exercise.answer in statement
