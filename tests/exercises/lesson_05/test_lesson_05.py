"""The judging of lesson 05 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson05(FairJudging):
    lesson = "05"
