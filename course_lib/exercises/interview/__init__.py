"""Repair drills: code of the kind that is put before a candidate, with what the product reports."""

from course_lib.exercises.interview.keep_stream import KeepStream
from course_lib.exercises.interview.plan_events import PlanEvents
from course_lib.exercises.interview.purge_failed import PurgeFailed
from course_lib.exercises.interview.reviewer_key import ReviewerKey
from course_lib.exercises.interview.run_nightly import RunNightly
from course_lib.exercises.interview.to_translate import ToTranslate
from course_lib.judging.exercise import Drill

DRILLS: list[type[Drill]] = [
    ToTranslate,
    KeepStream,
    PurgeFailed,
    ReviewerKey,
    PlanEvents,
    RunNightly,
]
