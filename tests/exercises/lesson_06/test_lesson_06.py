"""The judging of lesson 06 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson06(FairJudging):
    lesson = "06"
