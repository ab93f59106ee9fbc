"""Transactions: all or nothing, several at once, and what is tried again."""

from course_lib.exercises.lesson_03.charge import Charge
from course_lib.exercises.lesson_03.import_documents import ImportDocuments
from course_lib.exercises.lesson_03.ingest import Ingest
from course_lib.exercises.lesson_03.job_queue import QueueOfJobs
from course_lib.exercises.lesson_03.post_message import PostMessage
from course_lib.exercises.lesson_03.post_once import PostOnce
from course_lib.exercises.lesson_03.revoke_key import RevokeKey
from course_lib.exercises.lesson_03.run_with_retry import RunWithRetry
from course_lib.exercises.lesson_03.sign_up import SignUp
from course_lib.exercises.lesson_03.transfer_tokens import TransferTokens
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    SignUp,
    ImportDocuments,
    Charge,
    TransferTokens,
    RunWithRetry,
    RevokeKey,
    QueueOfJobs,
    PostMessage,
    PostOnce,
    Ingest,
]
