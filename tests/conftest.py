"""Fresh databases for tests, from the same templates that lessons use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.seed import fingerprint
from course_lib.db import make_engine
from course_lib.lesson import RECIPES
from course_lib.postgres import clone, drop, ensure_template, find_server


async def fresh_database(recipe: str | None) -> AsyncIterator[URL]:
    """The address of a new database: from a lesson's recipe, or empty."""
    server = await find_server()
    async with server.connection() as connection:
        template = "template1"
        if recipe is not None:
            template = await ensure_template(server, connection, recipe, fingerprint(), RECIPES[recipe])
        name = await clone(connection, template, "99")
    yield server.url.set(database=name)
    async with server.connection() as connection:
        await drop(connection, name)


@pytest.fixture
async def empty_url() -> AsyncIterator[URL]:
    """A database without any table."""
    async for url in fresh_database(None):
        yield url


@pytest.fixture
async def seeded_url() -> AsyncIterator[URL]:
    """A database with the corpus and its users, as lessons find it."""
    async for url in fresh_database("base"):
        yield url


@pytest.fixture
async def engine(seeded_url: URL) -> AsyncIterator[AsyncEngine]:
    """An engine on a fresh, seeded database."""
    engine = make_engine(seeded_url)
    yield engine
    await engine.dispose()
