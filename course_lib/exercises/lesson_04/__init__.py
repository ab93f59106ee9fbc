"""Vectors: searches that are right, searches that use the index, and how to tell."""

from course_lib.exercises.lesson_04.hybrid import Hybrid
from course_lib.exercises.lesson_04.indexed_search import IndexedSearch
from course_lib.exercises.lesson_04.load_chunks import LoadChunks
from course_lib.exercises.lesson_04.model_move import ModelMove
from course_lib.exercises.lesson_04.nearest_chunks import NearestChunks
from course_lib.exercises.lesson_04.row_security import RowSecurity
from course_lib.exercises.lesson_04.small_tenant import SmallTenant
from course_lib.exercises.lesson_04.smallest_ef import SmallestEf
from course_lib.exercises.lesson_04.threshold import Threshold
from course_lib.exercises.lesson_04.wide_vectors import WideVectors
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    NearestChunks,
    IndexedSearch,
    Threshold,
    WideVectors,
    SmallestEf,
    SmallTenant,
    LoadChunks,
    Hybrid,
    ModelMove,
    RowSecurity,
]
