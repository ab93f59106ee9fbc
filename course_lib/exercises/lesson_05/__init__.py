"""Connections: how long they are held, how many there are, and what becomes of them."""

from course_lib.exercises.lesson_05.answer_freely import AnswerFreely
from course_lib.exercises.lesson_05.background_work import BackgroundWork
from course_lib.exercises.lesson_05.behind_pgbouncer import BehindPgBouncer
from course_lib.exercises.lesson_05.guard_rails import GuardRails
from course_lib.exercises.lesson_05.pool_size import PoolFor
from course_lib.exercises.lesson_05.rows_of import RowsOf
from course_lib.exercises.lesson_05.stream_freely import StreamFreely
from course_lib.exercises.lesson_05.surviving_engine import SurvivingEngine
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    AnswerFreely,
    StreamFreely,
    PoolFor,
    RowsOf,
    SurvivingEngine,
    BackgroundWork,
    GuardRails,
    BehindPgBouncer,
]
