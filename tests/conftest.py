"""Fresh databases for tests, from the same templates that lessons use."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine
from tests.postgres.conftest import temporary_folder
from tests.postgres.places import OPEN, cluster_in, run_python


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


@pytest.fixture(scope="session")
def used_data() -> Path:
    """The data of a server that was used and stopped, for tests that start one on a copy; made once for all workers.

    They hold the templates of two recipes: ``migrated``, and the one with the corpus and its users.
    """
    shared = Path(os.environ["TESTS_SHARED"])
    with FileLock(shared / "lock"):
        if not (shared / "data").exists():
            with temporary_folder() as folder:
                run_python(folder / "home", f"{OPEN}; asyncio.run(open_lesson('02'))")
                cluster = cluster_in(folder / "home")
                cluster.stop()
                shutil.copytree(cluster.data, shared / "partial")
            (shared / "partial").rename(shared / "data")
    return shared / "data"
