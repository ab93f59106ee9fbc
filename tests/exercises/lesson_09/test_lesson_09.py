"""The judging of lesson 09 is fair."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from course_lib.exercises import Exercise, judge_answer
from course_lib.judging.verdict import Verdict
from tests.exercises.fairness import FairJudging, defined_by
from tests.exercises.lesson_09.cells import cell_of


class TestLesson09(FairJudging):
    lesson = "09"
    mistakes_at_most = 4
    right_ones = 1

    async def verdict_on(self, exercise: Exercise, answer: Any) -> Verdict:
        """An answer is written as a function whose body is the cell."""
        with tempfile.TemporaryDirectory() as folder:
            return await judge_answer(exercise, defined_by(cell_of(answer), exercise, Path(folder)))
