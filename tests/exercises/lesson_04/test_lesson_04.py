"""The judging of lesson 04 is fair."""

from tests.exercises.fairness import FairJudging


class TestLesson04(FairJudging):
    lesson = "04"
