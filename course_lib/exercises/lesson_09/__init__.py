"""Tests and fixtures: can they fail, and do they fail for nothing?"""

from course_lib.exercises.lesson_09.bad_day import BadDay
from course_lib.exercises.lesson_09.budget_test import BudgetTest
from course_lib.exercises.lesson_09.chat_property import ChatProperty
from course_lib.exercises.lesson_09.db_fixture import DbFixture
from course_lib.exercises.lesson_09.migration_test import MigrationTest
from course_lib.exercises.lesson_09.plan_test import PlanTest
from course_lib.exercises.lesson_09.race_test import RaceTest
from course_lib.exercises.lesson_09.worker_database import WorkerDatabase
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    DbFixture,
    BudgetTest,
    RaceTest,
    BadDay,
    MigrationTest,
    ChatProperty,
    PlanTest,
    WorkerDatabase,
]
