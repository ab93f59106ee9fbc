"""The fixtures that every exercise of lesson 09 promises: an engine on the case's database, and sessions on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_engine, make_session_factory
from course_lib.judging.testing.plugin import CaseHere


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(_case: CaseHere) -> AsyncIterator[AsyncEngine]:
    """Without a pool, so that any loop may use it, and nothing that one test has left is met by another."""
    engine = make_engine(_case.url, poolclass=NullPool)
    yield engine
    await _end_tasks()
    await engine.dispose()


async def _end_tasks() -> None:
    """What a test has started and left is not to go on while the next case is tried."""
    left: set[asyncio.Task[Any]] = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1)


@pytest.fixture(scope="session")
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(engine)


@pytest_asyncio.fixture(loop_scope="session")
async def session(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session
