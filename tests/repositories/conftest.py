"""Sessions on a fresh, seeded database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.models import User
from course_lib.repositories import UserRepository


@pytest.fixture
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(engine)


@pytest.fixture
async def session(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@pytest.fixture
async def chidi(session: AsyncSession) -> User:
    """The user with fifty conversations."""
    user = await UserRepository(session).by_email("chidi@example.org")
    assert user is not None
    await session.commit()
    return user


@pytest.fixture
async def user(sessions: async_sessionmaker[AsyncSession]) -> User:
    """The same, and no session of a test is open."""
    async with sessions() as session:
        found = await UserRepository(session).by_email("chidi@example.org")
    assert found is not None
    return found
