"""Repair drills: code of the kind that is put before a candidate, with what the product reports."""

from course_lib.exercises.interview.around_a_hit import AroundAHit
from course_lib.exercises.interview.message_export import MessageExport
from course_lib.exercises.interview.shared_search import SharedSearch
from course_lib.exercises.interview.title_by_model import TitleByModel
from course_lib.exercises.interview.to_translate import ToTranslate
from course_lib.exercises.interview.tokens_sold import TokensSold
from course_lib.judging.exercise import Drill

DRILLS: list[type[Drill]] = [
    ToTranslate,
    TitleByModel,
    MessageExport,
    AroundAHit,
    TokensSold,
    SharedSearch,
]
