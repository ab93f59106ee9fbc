"""The judging of lesson 03 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson03(FairJudging):
    lesson = "03"
