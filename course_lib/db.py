"""Engines and session factories, with the options the course recommends."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine


def make_engine(url: URL | str, **options: Any) -> AsyncEngine:
    """An engine on asyncpg. ``options`` go to ``create_async_engine`` as they are."""
    return create_async_engine(url, **options)


def make_session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions whose objects stay readable after commit; in async code a reload on access is an error."""
    return async_sessionmaker(engine, expire_on_commit=False)
