"""Tests that a learner writes are run by pytest in a process of its own, and what comes of each is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import text

from course_lib.exercises import judge_answer
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import answered
from course_lib.judging.testing.report import Case, Report
from course_lib.judging.testing.run import expect_tests, run_tests

GIVEN = "course_lib.exercises.lesson_09.scenes.given"


class Tried(Exercise):
    """Runs the answer on two cases, and keeps the report."""

    id, title, answer, hints, why, follow_up = "9.1", "Tests", "test_it", (), "", ""
    recipe, crowded, seconds, statement_seconds = "migrated", False, 60.0, 1
    reports: ClassVar[list[Report]] = []

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        cases = [Case("one", right=True), Case("two", right=True, backwards=True)]
        self.reports.append(await run_tests(attempt, module, cases, GIVEN))
        expect_tests(self.reports[-1], module)


Judged = Callable[[str], Any]


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    """Judge a cell: the verdict, and the report if there is one."""

    async def judged(source: str) -> Any:
        file = tmp_path / "cell.py"
        file.write_text(source, encoding="utf-8")
        namespace: dict[str, Any] = {"__name__": "cell", "text": text, "pytest": pytest}
        exec(compile(source, str(file), "exec"), namespace)
        Tried.reports.clear()
        verdict = await judge_answer(Tried(), namespace["test_it"])
        return verdict, (Tried.reports or [None])[0]

    return judged


MANY = """
@pytest.fixture
def broken():
    raise LookupError("a fixture")

async def test_it(engine):
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO users (email, name) VALUES ('a@example.org', 'A')"))

async def test_fails(session):
    n = await session.scalar(text("SELECT count(*) FROM users"))
    assert n == 5

async def test_raises(session):
    await session.execute(text("SELECT 1 / 0"))

def test_set_up(broken):
    pass

@pytest.mark.skip(reason="why not")
def test_skipped():
    pass

@pytest.mark.xfail
def test_expected():
    assert False

def test_in_a_group():
    raise ExceptionGroup("several", [ValueError(), AssertionError("one")])
"""


async def test_the_outcome_of_each_test_is_told(judged: Judged) -> None:
    verdict, report = await judged(MANY)
    assert verdict.passed, str(verdict)
    first, second = report.tried
    outcomes = {run.test: run.outcome for run in first.runs}
    assert outcomes == {
        "test_it": "passed", "test_fails": "failed", "test_raises": "raised", "test_set_up": "set-up",
        "test_skipped": "skipped", "test_expected": "xfailed", "test_in_a_group": "failed",
    }  # fmt: skip
    runs = {run.test: run for run in first.runs}
    assert runs["test_raises"].sqlstate == "22012"
    assert runs["test_fails"].message.startswith("assert 1 == 5")
    assert "why not" in runs["test_skipped"].message
    assert [run.test for run in second.runs] == [run.test for run in reversed(first.runs)]
    assert {run.test: run.message for run in second.runs}["test_fails"].startswith("assert 0 == 5")


@pytest.mark.parametrize(
    ("source", "mistake"),
    [
        ("async def test_it():\n    while True:\n        pass", "endless"),
        ("import os\n\ndef test_it():\n    os._exit(0)", "ended"),
        ("class test_it:\n    def test_a(self):\n        assert True", "nothing collected"),
        ("def test_it():\n    pytest.skip('later')", "skipped"),
        ("@pytest.mark.parametrize('n', [1])\ndef test_it():\n    assert True", "not collected"),
        ("test_it = 5", "not a test"),
        ("def test_it():\n    raise NotImplementedError", "not attempted"),
    ],
)
async def test_what_is_no_test_is_told_why(judged: Judged, source: str, mistake: str) -> None:
    verdict, _ = await judged(source)
    assert verdict.mistake == mistake, str(verdict)


async def test_a_cell_brings_what_it_needs_from_other_cells(judged: Judged) -> None:
    source = (
        "from __future__ import annotations\n\nWORD = 'a'\nprint(WORD)\n\ndef test_it(engine):\n    assert WORD == 'a'"
    )
    verdict, report = await judged(source)
    assert verdict.passed, str(verdict)
    assert [run.outcome for run in report.runs] == ["passed", "passed"]
