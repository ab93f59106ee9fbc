"""Choosing and scaling: how large, on how many servers, and what must still be true afterwards."""

from course_lib.exercises.lesson_10.index_bytes import IndexBytes
from course_lib.exercises.lesson_10.smallest_representation import SmallestRepresentation
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    # in the lesson's order: size of an index, smallest representation, two stores, a replica, months, restore, decide
    IndexBytes,
    SmallestRepresentation,
]
