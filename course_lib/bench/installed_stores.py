"""Which stores there are beside pgvector, and what has to be installed for each."""

from __future__ import annotations

from importlib.metadata import version

from course_lib.bench.library_stores import FaissStore, HnswlibStore
from course_lib.bench.stores import EdgeStore

STORES: dict[str, tuple[str, type[EdgeStore] | type[HnswlibStore] | type[FaissStore]]] = {
    "qdrant-edge": ("qdrant_edge", EdgeStore),
    "hnswlib": ("hnswlib", HnswlibStore),
    "faiss": ("faiss", FaissStore),
}
"""Name in the tables: the module that must be there, and the class."""
PACKAGES = {"qdrant-edge": "qdrant-edge-py", "hnswlib": "hnswlib", "faiss": "faiss-cpu"}


def version_of(name: str) -> str:
    """The installed version of an engine."""
    return version(PACKAGES[name])
