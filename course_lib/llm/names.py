"""Which models answer in this process."""

from __future__ import annotations

from course_lib.settings import get_settings

OFFLINE_EMBEDDING_MODEL = "wordllama-l2-256"
OFFLINE_CHAT_MODEL = "offline-extractive"


def embedding_model() -> str:
    """Name to write as ``model=`` for embeddings, and to store beside each vector."""
    settings = get_settings()
    return OFFLINE_EMBEDDING_MODEL if settings.offline else settings.embedding_model


def chat_model() -> str:
    """Name to write as ``model=`` for answers."""
    settings = get_settings()
    return OFFLINE_CHAT_MODEL if settings.offline else settings.chat_model
