"""The judging of lesson 10 is fair."""

import pytest

from course_lib.exercises.manifest import lesson_exercises
from tests.exercises.fairness import FairJudging

if not lesson_exercises("10"):
    pytest.skip("lesson 10 has no exercises yet", allow_module_level=True)


class TestLesson10(FairJudging):
    lesson = "10"
