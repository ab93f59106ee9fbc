"""Migrations: how a table changes, and changes back, while people use it."""

from course_lib.exercises.lesson_06.backfill import Backfill
from course_lib.exercises.lesson_06.rename import RenameName
from course_lib.exercises.lesson_06.start_up import MigrateAtStartUp
from course_lib.exercises.lesson_06.unique_hashes import UniqueHashes
from course_lib.exercises.lesson_06.visibility import AddVisibility
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    AddVisibility,
    Backfill,
    UniqueHashes,
    RenameName,
    MigrateAtStartUp,
]
