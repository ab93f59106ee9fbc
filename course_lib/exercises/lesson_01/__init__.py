"""Models and CRUD: ten functions of a product's back end, from the first INSERT to a store of API keys."""

from course_lib.exercises.lesson_01.add_user import AddUser
from course_lib.exercises.lesson_01.api_keys import StoreOfApiKeys
from course_lib.exercises.lesson_01.conversations_page import ConversationsPage
from course_lib.exercises.lesson_01.delete_user import DeleteUser
from course_lib.exercises.lesson_01.find_user import FindUser
from course_lib.exercises.lesson_01.load_messages import LoadMessages
from course_lib.exercises.lesson_01.recent_conversations import RecentConversations
from course_lib.exercises.lesson_01.save_documents import SaveDocuments
from course_lib.exercises.lesson_01.spend_tokens import SpendTokens
from course_lib.exercises.lesson_01.tag_document import TagDocument
from course_lib.judging.exercise import Exercise

EXERCISES: list[type[Exercise]] = [
    AddUser,
    FindUser,
    RecentConversations,
    SpendTokens,
    TagDocument,
    ConversationsPage,
    SaveDocuments,
    LoadMessages,
    DeleteUser,
    StoreOfApiKeys,
]
