"""A RAG repository: from a file to an answer with sources, what each step costs, and what may go wrong between."""

from course_lib.exercises.lesson_07.answer_from import AnswerFrom
from course_lib.exercises.lesson_07.evaluate import Evaluate
from course_lib.exercises.lesson_07.within_limit import WithinLimit
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    AnswerFrom,
    WithinLimit,
    Evaluate,
]
