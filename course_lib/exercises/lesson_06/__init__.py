"""Migrations: how a table changes, and changes back, while people use it."""

from course_lib.exercises.lesson_06.backfill import Backfill
from course_lib.exercises.lesson_06.language import AddLanguage
from course_lib.exercises.lesson_06.mended import MendedRevision
from course_lib.exercises.lesson_06.rename import RenameName
from course_lib.exercises.lesson_06.required import RequireModel
from course_lib.exercises.lesson_06.start_up import MigrateAtStartUp
from course_lib.exercises.lesson_06.unique_hashes import UniqueHashes
from course_lib.exercises.lesson_06.visibility import AddVisibility
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    AddVisibility,
    MendedRevision,
    AddLanguage,
    RequireModel,
    Backfill,
    UniqueHashes,
    RenameName,
    MigrateAtStartUp,
]
