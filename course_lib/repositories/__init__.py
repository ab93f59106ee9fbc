"""Repositories: the product's questions to its database, each with a name and one place to stand.

A repository works inside the session it is given. It flushes, so that ids and errors appear at once, and never
commits: how much belongs together is for the caller to say.
"""

from course_lib.repositories.conversations import ConversationRepository, Place
from course_lib.repositories.documents import DocumentRepository
from course_lib.repositories.generic import NotFound, Repository
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.users import EmailTaken, UserRepository

__all__ = [
    "ConversationRepository",
    "DocumentRepository",
    "EmailTaken",
    "NotFound",
    "Place",
    "RagRepository",
    "Repository",
    "UserRepository",
]
