"""The language model of the course: OpenAI's own SDK, answered in this process unless a server is set.

>>> client = openai_client()
>>> response = await client.embeddings.create(model=EMBEDDING_MODEL, input=["a text"], dimensions=DIMENSIONS)

``EMBEDDING_MODEL`` and ``CHAT_MODEL`` are the names in force in this process: the offline models', or
those of the settings once ``OPENAI_API_KEY`` or ``OPENAI_BASE_URL`` is set. They are read when they are
asked for, so the module costs nothing to import and starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .behaviour import Behaviour
    from .client import openai_client, openai_client_sync
    from .embed import embed_texts
    from .offline.transport import OfflineTransport

DIMENSIONS = 256
"""Dimensions of every vector the course stores; asked of a real server too, so that the schema stays."""

EMBEDDING_MODEL: str
CHAT_MODEL: str

_HOMES = {
    "Behaviour": "behaviour",
    "OfflineTransport": "offline.transport",
    "embed_texts": "embed",
    "openai_client": "client",
    "openai_client_sync": "client",
}

__all__ = [
    "CHAT_MODEL",
    "DIMENSIONS",
    "EMBEDDING_MODEL",
    "Behaviour",
    "OfflineTransport",
    "embed_texts",
    "openai_client",
    "openai_client_sync",
]


def __getattr__(name: str) -> Any:
    if name in ("EMBEDDING_MODEL", "CHAT_MODEL"):
        from . import names

        return names.embedding_model() if name == "EMBEDDING_MODEL" else names.chat_model()
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
