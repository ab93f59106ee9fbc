"""Warm-ups: how checks, hints and progress work, on the smallest possible tasks."""

from course_lib.exercises.lesson_00.count_users import CountUsers
from course_lib.exercises.lesson_00.nearest import Nearest
from course_lib.exercises.lesson_00.titles_of import TitlesOf
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [CountUsers, TitlesOf, Nearest]
