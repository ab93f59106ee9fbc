"""Repair drills: code of the kind that is put before a candidate, with what the product reports."""

from course_lib.exercises.interview.find_titles import FindTitles
from course_lib.exercises.interview.rename_marked import RenameMarked
from course_lib.exercises.interview.save_upload import SaveUpload
from course_lib.exercises.interview.sidebar import Sidebar
from course_lib.exercises.interview.to_translate import ToTranslate
from course_lib.exercises.interview.tokens_by_day import TokensByDay
from course_lib.judging.exercise import Drill

DRILLS: list[type[Drill]] = [
    ToTranslate,
    SaveUpload,
    Sidebar,
    TokensByDay,
    RenameMarked,
    FindTitles,
]
