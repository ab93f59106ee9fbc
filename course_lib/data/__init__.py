"""What the lessons' databases hold: the authored corpus, the seed made from it, and larger corpora on demand."""

from course_lib.data.corpus import CorpusDocument, CorpusUser, GoldenQuestion, documents, golden_questions, users

__all__ = ["CorpusDocument", "CorpusUser", "GoldenQuestion", "documents", "golden_questions", "users"]
