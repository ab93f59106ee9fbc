"""The judging of lesson 08 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson08(FairJudging):
    lesson = "08"
