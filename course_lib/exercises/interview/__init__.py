"""Repair drills: code of the kind that is put before a candidate, with what the product reports."""

from course_lib.exercises.interview.kept_plan import KeptPlan
from course_lib.exercises.interview.lost_commit import LostCommit
from course_lib.exercises.interview.new_vectors import NewVectors
from course_lib.exercises.interview.nightly_bills import NightlyBills
from course_lib.exercises.interview.to_translate import ToTranslate
from course_lib.judging.exercise import Drill

DRILLS: list[type[Drill]] = [
    ToTranslate,
    NewVectors,
    NightlyBills,
    LostCommit,
    KeptPlan,
]
