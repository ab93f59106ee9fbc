"""The judging of a lesson is fair: right answers pass however written, wrong ones are told their own mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import pytest
from _pytest.mark import ParameterSet

from course_lib.exercises import Exercise, judge_answer
from course_lib.exercises.book import SOLUTIONS, exercise_notebook, solution_source
from course_lib.exercises.manifest import lesson_exercises
from course_lib.judging.verdict import Verdict
from tests.exercises.written import Answers

# not of one exercise; the second line is of tests that a learner writes
FROM_ANYWHERE = {
    "raised", "forgotten await", "not async", "unreadable", "remembered", "still at work", "swallowed",
    "not a test", "no source", "not collected", "nothing collected", "set-up", "endless", "ended", "skipped",
    "only in one order",
}  # fmt: skip


def name_of(answer: Any) -> str:
    return str(getattr(answer, "__name__", type(answer).__name__))


def written(exercise: Exercise) -> Answers:
    """The answers in ``lesson_02/answers_2_03.py``, or of a drill in ``interview/answers_m4.py``."""
    number, _, place = exercise.id.partition(".")
    home = f"lesson_{exercise.lesson}.answers_{number}_{place:0>2}" if place else f"interview.answers_{number.lower()}"
    answers: Answers = import_module(f"tests.exercises.{home}").ANSWERS
    return answers


def notebook_of(exercise: Exercise) -> Path:
    return next(SOLUTIONS.glob(exercise.book))


def cell(exercise: Exercise, id: str) -> str:
    return str(next(c.source for c in nbformat.read(notebook_of(exercise), as_version=4).cells if c.id == id))


def defined_by(source: str, exercise: Exercise, folder: Path) -> Any:
    """What a notebook's answer cell defines, with the notebook's imports; from a file, as cells have one too."""
    file = folder / "cell.py"
    file.write_text(f"{cell(exercise, 'setup')}\n\n{source}\n", encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "cell"}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True), namespace)
    return namespace[exercise.answer]


def wrong_cases(exercises: list[Exercise], at_most: int | None) -> Iterator[ParameterSet]:
    """Each mistake of an exercise is told once in every run; other ways to make it are for ``--soak``.

    So are mistakes from anywhere, of which ``test_framework`` and ``test_tests_of_learners`` tell.
    """
    for exercise in exercises:
        told = set[str]()
        for mistake, answer in written(exercise).wrong_ones:
            once = mistake not in told and mistake in exercise.mistakes and (at_most is None or len(told) < at_most)
            marks = [] if once else [pytest.mark.soak]
            told |= {mistake} if once else set()
            yield pytest.param(exercise, mistake, answer, id=f"{exercise.id}-{name_of(answer)}", marks=marks)


def right_cases(exercises: list[Exercise], at_most: int) -> Iterator[ParameterSet]:
    """A right answer goes through all that a judge tries; the solution does so in its notebook, too."""
    for exercise in exercises:
        for number, answer in enumerate(written(exercise).right_ones):
            marks = [] if number < at_most else [pytest.mark.soak]
            yield pytest.param(exercise, answer, id=f"{exercise.id}-{name_of(answer)}", marks=marks)


class FairJudging:
    """What is asked of every lesson's exercises. A subclass names the lesson."""

    lesson: ClassVar[str]
    mistakes_at_most: ClassVar[int | None] = None
    right_ones: ClassVar[int] = 2
    """So many of an exercise in every run; fewer where a check takes seconds."""

    def exercises(self) -> list[Exercise]:
        return lesson_exercises(self.lesson)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        exercises = self.exercises()
        assert exercises, f"lesson {self.lesson} has no exercises"
        if "mistake" in metafunc.fixturenames:
            metafunc.parametrize(("exercise", "mistake", "answer"), list(wrong_cases(exercises, self.mistakes_at_most)))
        elif "answer" in metafunc.fixturenames:
            metafunc.parametrize(("exercise", "answer"), list(right_cases(exercises, self.right_ones)))
        else:
            metafunc.parametrize("exercise", exercises, ids=[e.id for e in exercises])

    @pytest.mark.soak  # once it does in its notebook
    async def test_the_committed_solution_passes_twice(self, exercise: Exercise, tmp_path: Path) -> None:
        answer = defined_by(solution_source(exercise), exercise, tmp_path)
        for _ in range(2):
            verdict = await judge_answer(exercise, answer)
            assert verdict == exercise.points, str(verdict)

    async def test_the_stub_is_not_attempted(self, exercise: Exercise, tmp_path: Path) -> None:
        wanted = f"answer-{exercise.place}"
        stub = next(c.source for c in exercise_notebook(notebook_of(exercise)).cells if c.id == wanted)
        assert "NotImplementedError" in stub
        assert (await judge_answer(exercise, defined_by(stub, exercise, tmp_path))).state == "not attempted"

    async def verdict_on(self, exercise: Exercise, answer: Any) -> Verdict:
        """Of a written answer."""
        return await judge_answer(exercise, answer)

    async def test_a_right_answer_passes_however_it_is_written(self, exercise: Exercise, answer: Any) -> None:
        verdict = await self.verdict_on(exercise, answer)
        assert verdict.passed, str(verdict)

    async def test_a_wrong_answer_is_told_its_own_mistake(self, exercise: Exercise, mistake: str, answer: Any) -> None:
        verdict = await self.verdict_on(exercise, answer)
        assert verdict.mistake == mistake, str(verdict)
        places = re.findall(r"\{\w+", exercise.mistakes.get(mistake, ""))
        assert not any(place in verdict.finding.sentence for place in places), "a number is missing"
        if mistake in exercise.mistakes:
            sentence = exercise.mistakes[mistake].partition(" | ")[0]
            pattern = ".*".join(re.escape(part) for part in re.split(r"\{[^{}]*\}", sentence))
            assert re.fullmatch(pattern, verdict.finding.sentence, re.DOTALL)

    def test_every_named_mistake_is_made_by_a_written_answer(self, exercise: Exercise) -> None:
        made = {mistake for mistake, _ in written(exercise).wrong_ones}
        assert set(exercise.mistakes) <= made
        assert made - set(exercise.mistakes) <= FROM_ANYWHERE
        assert len(exercise.mistakes) >= 5
        assert len(written(exercise).right_ones) >= 2

    @pytest.mark.soak
    async def test_another_check_of_a_wrong_answer_says_the_same(self, exercise: Exercise) -> None:
        mistake, answer = written(exercise).wrong_ones[-1]
        assert (await self.verdict_on(exercise, answer)).mistake == mistake

    def test_a_mistake_is_one_kind_sentence_and_where_to_look(self, exercise: Exercise) -> None:
        for text in exercise.mistakes.values():
            sentence, bar, look = text.partition(" | ")
            assert bar, text
            assert re.search(r"[.?]$", sentence) and re.search(r"[.?)`]$", look), text
            assert not re.search(r"[.?] [A-Z]", sentence), f"one sentence: {text}"
            assert "!" not in re.sub(r"\{\w+!r\}|!=", "", text), text

    def test_hints_lead_from_a_nudge_to_nearly_there(self, exercise: Exercise) -> None:
        assert len(exercise.hints) >= 2
        solution = solution_source(exercise)
        lines = {line.strip() for line in solution.splitlines() if len(line.strip()) > 60}
        for hint in exercise.hints:
            assert not any(line in hint for line in lines), "a hint is not the solution"

    def test_the_statement_says_what_the_exercise_says(self, exercise: Exercise) -> None:
        statement = cell(exercise, f"statement-{exercise.place}")
        points = f"{exercise.points} point" + ("" if exercise.points == 1 else "s")
        assert statement.startswith(f"## {exercise.id} · {exercise.title}\n")
        assert f"*{exercise.minutes} minutes · {points} · {exercise.level}*" in statement
        assert "**Expected:**" in statement
        assert exercise.answer in statement
