"""The judging of lesson 01 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson01(FairJudging):
    lesson = "01"
