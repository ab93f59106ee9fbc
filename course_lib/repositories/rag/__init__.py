"""Retrieval: store documents as passages with vectors, and find the passages nearest to a question.

>>> question = await embed_question("Which oven bakes evenly?")
>>> async with sessions() as session:
...     passages = await RagRepository(session).search(user.id, question, k=5)

The model is asked before a session has a connection: it takes longer than everything the database does.
"""

from course_lib.repositories.rag.cache import EmbeddingCache, delete_unneeded
from course_lib.repositories.rag.cutting import cut
from course_lib.repositories.rag.deleting import Traces, count_left, delete_user, traces_of
from course_lib.repositories.rag.embedding import Embedding, Embeddings, embed, embed_question
from course_lib.repositories.rag.index import INDEX, create_index
from course_lib.repositories.rag.ingest import ingest
from course_lib.repositories.rag.reading import ReadDocument, read_document
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.rag.search import Passage, search_statement
from course_lib.repositories.rag.store import NewDocument, Stored

__all__ = [
    "INDEX",
    "Embedding",
    "EmbeddingCache",
    "Embeddings",
    "NewDocument",
    "Passage",
    "RagRepository",
    "ReadDocument",
    "Stored",
    "Traces",
    "count_left",
    "create_index",
    "cut",
    "delete_unneeded",
    "delete_user",
    "embed",
    "embed_question",
    "ingest",
    "read_document",
    "search_statement",
    "traces_of",
]
