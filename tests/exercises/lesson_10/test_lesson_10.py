"""The judging of lesson 10 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson10(FairJudging):
    lesson = "10"
