"""Fresh databases for tests, from the same templates that lessons use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine


@pytest.fixture
async def empty_url() -> AsyncIterator[URL]:
    """A database without any table."""
    async with fresh_database("99", "empty") as database:
        yield database.url


@pytest.fixture
async def seeded_url() -> AsyncIterator[URL]:
    """A database with the corpus and its users, as lessons find it."""
    async with fresh_database("99") as database:
        yield database.url


@pytest.fixture
async def engine(seeded_url: URL) -> AsyncIterator[AsyncEngine]:
    """An engine on a fresh, seeded database."""
    engine = make_engine(seeded_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def binary(seeded_url: URL) -> AsyncIterator[AsyncEngine]:
    """Another engine on the same database, whose vectors travel in binary."""
    engine = make_engine(seeded_url, binary_vectors=True)
    yield engine
    await engine.dispose()
