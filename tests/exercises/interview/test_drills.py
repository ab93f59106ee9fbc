"""The judging of repair drills is fair: what was found is told its symptom, halves of a repair what is left."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from course_lib.exercises import Exercise, drills, judge_answer
from course_lib.judging.exercise import Drill
from tests.exercises.fairness import FairJudging, cell, defined_by, written


class TestDrills(FairJudging):
    lesson = "interview"

    def exercises(self) -> list[Exercise]:
        return [*drills()]

    async def test_the_stub_is_not_attempted(self, exercise: Exercise, tmp_path: Path) -> None:
        """There is no stub: the code as it was found misbehaves as was reported."""
        drill = cast("Drill", exercise)
        verdict = await judge_answer(drill, defined_by(cell(drill, f"given-{drill.id}"), drill, tmp_path))
        assert verdict.mistake == drill.faults[0], str(verdict)

    def test_each_fault_is_left_by_a_written_half(self, exercise: Exercise) -> None:
        drill = cast("Drill", exercise)
        assert 1 <= len(drill.faults) <= 3
        assert set(drill.faults) <= {mistake for mistake, _ in written(drill).wrong_ones}
        assert len(written(drill).right_ones) >= 3
        assert len(written(drill).wrong_ones) >= 6

    def test_the_statement_reports_and_does_not_explain(self, exercise: Exercise) -> None:
        assert "**Reported:**" in cell(exercise, f"statement-{exercise.id}")
        assert 8 <= exercise.minutes <= 20


def test_a_drill_is_called_by_its_level_and_numbers_run_on() -> None:
    ids = [drill.id for drill in drills()]
    numbers = {letter: [int(id[1:]) for id in ids if id[0] == letter] for letter in "JMS"}
    assert ids == [f"{letter}{number}" for letter in "JMS" for number in numbers[letter]]
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    assert all(drill.level[0].upper() == drill.id[0] for drill in drills())
