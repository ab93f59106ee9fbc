"""N+1 and eager loading: eight functions that send few statements, and a test that keeps it so."""

from course_lib.exercises.lesson_02.cut_off_answers import CutOffAnswers
from course_lib.exercises.lesson_02.documents_with_chunks import DocumentsWithChunks
from course_lib.exercises.lesson_02.export_user import ExportUser
from course_lib.exercises.lesson_02.last_three import LastThree
from course_lib.exercises.lesson_02.message_counts import MessageCounts
from course_lib.exercises.lesson_02.newest_messages import NewestMessages
from course_lib.exercises.lesson_02.query_budget import QueryBudget
from course_lib.exercises.lesson_02.two_statements import TwoStatements
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    TwoStatements,
    NewestMessages,
    MessageCounts,
    DocumentsWithChunks,
    CutOffAnswers,
    ExportUser,
    LastThree,
    QueryBudget,
]
