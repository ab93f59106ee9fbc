"""The judging of lesson 02 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson02(FairJudging):
    lesson = "02"
