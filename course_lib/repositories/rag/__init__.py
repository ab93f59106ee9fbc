"""Retrieval: store documents as passages with vectors, and find the passages nearest to a question.

>>> question = await embed_question("Which oven bakes evenly?")
>>> async with sessions() as session:
...     passages = await RagRepository(session).search(user.id, question, k=5)
...     with_words = await RagRepository(session).search_both(user.id, "Which oven bakes evenly?", question, k=5)

The model is asked before a session has a connection: it takes longer than everything the database does.
"""

from course_lib.repositories.rag.answering import NEAR, Answer, Usage, answer, ask_model, stream_answer, stream_model
from course_lib.repositories.rag.asking import Asked, ask, prepare, stream_turn
from course_lib.repositories.rag.cache import EmbeddingCache, delete_unneeded
from course_lib.repositories.rag.citing import Source, check_citations
from course_lib.repositories.rag.cutting import cut
from course_lib.repositories.rag.deleting import Traces, count_left, delete_user, traces_of
from course_lib.repositories.rag.embedding import Embedding, Embeddings, embed, embed_question
from course_lib.repositories.rag.index import INDEX, create_index
from course_lib.repositories.rag.ingest import ingest
from course_lib.repositories.rag.prompt import Budget, Prompt, build_prompt, count_tokens
from course_lib.repositories.rag.reading import ReadDocument, read_document
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.rag.search import Passage, search_statement
from course_lib.repositories.rag.store import NewDocument, Stored
from course_lib.repositories.rag.turns import StoredTurn, Turn, store_turn, stored_turn

__all__ = [
    "INDEX",
    "NEAR",
    "Answer",
    "Asked",
    "Budget",
    "Embedding",
    "EmbeddingCache",
    "Embeddings",
    "NewDocument",
    "Passage",
    "Prompt",
    "RagRepository",
    "ReadDocument",
    "Source",
    "Stored",
    "StoredTurn",
    "Traces",
    "Turn",
    "Usage",
    "answer",
    "ask",
    "ask_model",
    "build_prompt",
    "check_citations",
    "count_left",
    "count_tokens",
    "create_index",
    "cut",
    "delete_unneeded",
    "delete_user",
    "embed",
    "embed_question",
    "ingest",
    "prepare",
    "read_document",
    "search_statement",
    "store_turn",
    "stored_turn",
    "stream_answer",
    "stream_model",
    "stream_turn",
    "traces_of",
]
