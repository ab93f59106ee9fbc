"""Which models answer in this process."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import urlsplit

from course_lib.settings import get_settings

OFFLINE_EMBEDDING_MODEL = "wordllama-l2-256"
OFFLINE_CHAT_MODEL = "offline-extractive"
OPENAI_URL = "https://api.openai.com/v1"
OFFLINE_URL = "http://offline.invalid/v1"  # RFC 2606: a name under .invalid never resolves
PLACEHOLDER_KEY = "no-key-needed"  # the SDK refuses to be built without one


def embedding_model() -> str:
    """Name to write as ``model=`` for embeddings, and to store beside each vector."""
    settings = get_settings()
    return OFFLINE_EMBEDDING_MODEL if settings.offline else settings.embedding_model


def chat_model() -> str:
    """Name to write as ``model=`` for answers."""
    settings = get_settings()
    return OFFLINE_CHAT_MODEL if settings.offline else settings.chat_model


def embedding_space() -> str:
    """Whose vectors a process gets, for what is kept of them: the model, and the server that is asked for it.

    Two servers may serve two models under one name. The address is in it as a hash, the same however it is spelled,
    and without its account and query.
    """
    settings = get_settings()
    if settings.offline:
        return embedding_model()
    address = settings.openai_base_url
    parts = urlsplit(OPENAI_URL if address is None else address.get_secret_value())
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    place = f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}"
    return f"{embedding_model()} {sha256(place.encode()).hexdigest()[:16]}"
