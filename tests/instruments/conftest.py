"""What the instruments are held against: sessions of both kinds on one seeded database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory

collect_ignore = ["own_project"]  # test_own_project.py runs its tests, in a folder and a process of their own


@pytest.fixture
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(engine)


@pytest.fixture
def sync_engine(seeded_url: URL) -> Iterator[Engine]:
    """psycopg on the same database as ``engine``."""
    engine = create_engine(seeded_url.set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()
