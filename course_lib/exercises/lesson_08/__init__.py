"""A FastAPI service: what happens between the request and the COMMIT, and what the client is told of it."""

from course_lib.exercises.lesson_08.ask_within_quota import AskWithinQuota
from course_lib.exercises.lesson_08.create import Create
from course_lib.exercises.lesson_08.enqueue_once import EnqueueOnce
from course_lib.exercises.lesson_08.nobody_elses import NobodyElses
from course_lib.exercises.lesson_08.post_twice import PostTwice
from course_lib.exercises.lesson_08.session_for_routes import SessionForRoutes
from course_lib.exercises.lesson_08.start_and_drain import StartAndDrain
from course_lib.exercises.lesson_08.stream_and_keep import StreamAndKeep
from course_lib.exercises.lesson_08.turn_pages import TurnPages
from course_lib.exercises.lesson_08.who_asks import WhoAsks
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    SessionForRoutes,
    Create,
    WhoAsks,
    TurnPages,
    StreamAndKeep,
    PostTwice,
    AskWithinQuota,
    StartAndDrain,
    EnqueueOnce,
    NobodyElses,
]
