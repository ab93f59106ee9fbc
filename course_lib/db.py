"""Engines and session factories, with the options the course recommends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from course_lib.settings import REPOSITORY

_alembic = threading.Lock()


def make_engine(url: URL | str, **options: Any) -> AsyncEngine:
    """An engine on asyncpg. ``options`` go to ``create_async_engine`` as they are."""
    return create_async_engine(url, **options)


def make_session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions whose objects stay readable after commit; in async code a reload on access is an error."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def migrate(url: URL, revision: str = "head") -> None:
    """Bring a database to ``revision`` with this repository's own migrations.

    Alembic's environment calls ``asyncio.run``, which a running loop forbids, so it gets a thread of its own;
    one at a time, because Alembic keeps its environment in module-wide variables.
    """
    from alembic import command
    from alembic.config import Config

    config = Config(REPOSITORY / "alembic.ini")
    config.attributes["url"] = url.render_as_string(hide_password=False)

    def upgrade() -> None:
        with _alembic:
            command.upgrade(config, revision)

    await asyncio.to_thread(upgrade)
