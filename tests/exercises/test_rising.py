"""An error that no task speaks of reaches the caller: who catches everything is told so, and which call it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer

FUNCTIONS = ["0.1", "1.2", "2.6", "3.3", "3.4", "3.6", "4.1", "4.3", "4.6"]
METHODS = [("3.7", "claim"), ("3.7", "complete"), ("4.4", "search"), ("4.9", "backfill"), ("4.10", "protect")]


def catching_everything(function: Callable[..., Any]) -> Callable[..., Any]:
    async def caught(*arguments: Any, **named: Any) -> Any:
        try:
            return await function(*arguments, **named)
        except Exception:
            return None

    return caught


@pytest.mark.parametrize("id", FUNCTIONS)
async def test_a_function_that_catches_everything_is_told(id: str) -> None:
    exercise = find_exercise(id)
    verdict = await judge_answer(exercise, catching_everything(solution_answer(exercise)))
    assert verdict.mistake == "swallowed", str(verdict)
    assert f"`{exercise.answer}` raised nothing: it returned None" in verdict.finding.sentence


@pytest.mark.parametrize(("id", "method"), METHODS)
async def test_a_method_that_catches_everything_is_told(id: str, method: str) -> None:
    exercise = find_exercise(id)
    right = solution_answer(exercise)
    careless = type(exercise.answer, (right,), {method: catching_everything(getattr(right, method))})
    verdict = await judge_answer(exercise, careless)
    assert verdict.mistake == "swallowed", str(verdict)
    assert f"`{method}` raised nothing: it returned None" in verdict.finding.sentence
