"""Retrieval: store documents as passages with vectors, and find the passages nearest to a question.

>>> question = await embed_question("Which oven bakes evenly?")
>>> async with sessions() as session:
...     passages = await RagRepository(session).search(user.id, question, k=5)
...     with_words = await RagRepository(session).search_both(user.id, "Which oven bakes evenly?", question, k=5)

The model is asked before a session has a connection: it takes longer than everything the database does.
"""

from course_lib.repositories.rag.embedding import Embedding, Embeddings, embed, embed_question
from course_lib.repositories.rag.index import INDEX, create_index
from course_lib.repositories.rag.ingest import ingest
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.rag.search import Passage, search_statement
from course_lib.repositories.rag.store import NewDocument, Stored

__all__ = [
    "INDEX",
    "Embedding",
    "Embeddings",
    "NewDocument",
    "Passage",
    "RagRepository",
    "Stored",
    "create_index",
    "embed",
    "embed_question",
    "ingest",
    "search_statement",
]
