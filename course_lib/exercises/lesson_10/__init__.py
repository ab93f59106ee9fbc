"""Choosing and scaling: how large, on how many servers, and what must still be true afterwards."""

from course_lib.exercises.lesson_10.bring_back import BringBack
from course_lib.exercises.lesson_10.decide import Decide
from course_lib.exercises.lesson_10.index_bytes import IndexBytes
from course_lib.exercises.lesson_10.keep_months import KeepMonths
from course_lib.exercises.lesson_10.read_your_writes import ReadYourWrites
from course_lib.exercises.lesson_10.smallest_representation import SmallestRepresentation
from course_lib.exercises.lesson_10.two_stores import TwoStores
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    IndexBytes,
    SmallestRepresentation,
    TwoStores,
    ReadYourWrites,
    KeepMonths,
    BringBack,
    Decide,
]
