"""Repair drills: code of the kind that is put before a candidate, with what the product reports."""

from course_lib.exercises.interview.as_user import AsUser
from course_lib.exercises.interview.changed_since import ChangedSince
from course_lib.exercises.interview.stream_paid import StreamPaid
from course_lib.exercises.interview.to_translate import ToTranslate
from course_lib.exercises.interview.work import Work
from course_lib.judging.exercise import Drill

DRILLS: list[type[Drill]] = [
    ToTranslate,
    ChangedSince,
    StreamPaid,
    AsUser,
    Work,
]
