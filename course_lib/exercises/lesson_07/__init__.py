"""A RAG repository: what edits, questions and deletions cost, and what goes wrong between the model and the table."""

from course_lib.exercises.lesson_07.answer_from import AnswerFrom
from course_lib.exercises.lesson_07.cut_paragraphs import CutParagraphs
from course_lib.exercises.lesson_07.delete_document import DeleteDocument
from course_lib.exercises.lesson_07.embed_politely import EmbedPolitely
from course_lib.exercises.lesson_07.evaluate import Evaluate
from course_lib.exercises.lesson_07.ingest_again import IngestAgain
from course_lib.exercises.lesson_07.shared_cache import SharedCache
from course_lib.exercises.lesson_07.within_limit import WithinLimit
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    CutParagraphs,
    EmbedPolitely,
    IngestAgain,
    SharedCache,
    AnswerFrom,
    WithinLimit,
    DeleteDocument,
    Evaluate,
]
