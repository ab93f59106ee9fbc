"""Choosing and scaling: how large, on how many servers, and what must still be true afterwards."""

from course_lib.exercises.lesson_10.two_stores import TwoStores
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    # in the lesson's order: size of an index, smallest representation, two stores, a replica, months, restore, decide
    TwoStores,
]
