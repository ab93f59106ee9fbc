"""The product's tables, as SQLAlchemy 2.1 classes. Migrations build them; these only describe them."""

from course_lib.models.accounts import ApiKey, User
from course_lib.models.base import Base
from course_lib.models.conversations import Conversation, Message
from course_lib.models.documents import DIMENSIONS, CachedEmbedding, Document, DocumentChunk
from course_lib.models.jobs import Job

__all__ = [
    "DIMENSIONS",
    "ApiKey",
    "Base",
    "CachedEmbedding",
    "Conversation",
    "Document",
    "DocumentChunk",
    "Job",
    "Message",
    "User",
]
