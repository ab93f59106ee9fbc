"""Engines and session factories, with the options the course recommends."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from course_lib.db.vectors import use_binary_vectors


def make_engine(url: URL | str, binary_vectors: bool = False, **options: Any) -> AsyncEngine:
    """An engine on asyncpg. ``options`` go to ``create_async_engine`` as they are.

    Args:
        binary_vectors: send and read vectors in binary instead of text, see ``use_binary_vectors``.

    Raises:
        CourseError: ``binary_vectors`` on another driver than asyncpg.
    """
    engine = create_async_engine(url, **options)
    if binary_vectors:
        use_binary_vectors(engine)
    return engine


def make_session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions whose objects stay readable after commit; in async code a reload on access is an error."""
    return async_sessionmaker(engine, expire_on_commit=False)
