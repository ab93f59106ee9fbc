"""The judging of lesson 07 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson07(FairJudging):
    lesson = "07"
