"""Repair drills: code of the kind that is put before a candidate, with what the product reports."""

from course_lib.exercises.interview.around_a_hit import AroundAHit
from course_lib.exercises.interview.as_user import AsUser
from course_lib.exercises.interview.changed_since import ChangedSince
from course_lib.exercises.interview.find_titles import FindTitles
from course_lib.exercises.interview.keep_stream import KeepStream
from course_lib.exercises.interview.kept_plan import KeptPlan
from course_lib.exercises.interview.lost_commit import LostCommit
from course_lib.exercises.interview.message_export import MessageExport
from course_lib.exercises.interview.new_vectors import NewVectors
from course_lib.exercises.interview.nightly_bills import NightlyBills
from course_lib.exercises.interview.plan_events import PlanEvents
from course_lib.exercises.interview.purge_failed import PurgeFailed
from course_lib.exercises.interview.rename_marked import RenameMarked
from course_lib.exercises.interview.reviewer_key import ReviewerKey
from course_lib.exercises.interview.run_nightly import RunNightly
from course_lib.exercises.interview.save_upload import SaveUpload
from course_lib.exercises.interview.shared_search import SharedSearch
from course_lib.exercises.interview.sidebar import Sidebar
from course_lib.exercises.interview.stream_paid import StreamPaid
from course_lib.exercises.interview.title_by_model import TitleByModel
from course_lib.exercises.interview.to_translate import ToTranslate
from course_lib.exercises.interview.tokens_by_day import TokensByDay
from course_lib.exercises.interview.tokens_sold import TokensSold
from course_lib.exercises.interview.work import Work
from course_lib.judging.exercise import Drill

DRILLS: list[type[Drill]] = [
    ToTranslate,
    SaveUpload,
    Sidebar,
    TokensByDay,
    RenameMarked,
    FindTitles,
    TitleByModel,
    MessageExport,
    AroundAHit,
    TokensSold,
    SharedSearch,
    KeepStream,
    PurgeFailed,
    ReviewerKey,
    PlanEvents,
    RunNightly,
    ChangedSince,
    StreamPaid,
    AsUser,
    Work,
    NewVectors,
    NightlyBills,
    LostCommit,
    KeptPlan,
]
