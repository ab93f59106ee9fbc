"""What a worker of pytest-xdist has: an id, and here a server to make its database on, and a template for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.db import make_engine
from course_lib.judging.testing.plugin import CASE, CaseHere

COMES, STAYS = "gw1", "gw11"
"""Two workers at once: one comes and goes while the other is at its first test."""
HERE, OVER = Path("here"), Path("over")
PATIENCE = 4.5  # seconds, for the other worker


def wait_for(there: Path) -> None:
    """Until the other worker has made this file, or it is not to be expected any more."""
    end = time.monotonic() + PATIENCE
    while not there.exists() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    options = item.config.stash[CASE].options
    if options.get("together") and options["worker_id"] == COMES:
        wait_for(HERE)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[CASE].options["worker_id"] == COMES:
        OVER.touch()


@pytest.fixture(scope="session")
def worker_id(_case: CaseHere) -> str:
    return str(_case.options["worker_id"])


@pytest.fixture(scope="session")
def template(_case: CaseHere) -> str:
    return str(_case.options["template"])


@pytest.fixture(scope="session")
def prefix(_case: CaseHere) -> str:
    return str(_case.options["prefix"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin(_case: CaseHere) -> AsyncIterator[AsyncEngine]:
    """On another database of the server, one for all workers; CREATE and DROP DATABASE run in no transaction."""
    engine = make_engine(_case.options["admin"], poolclass=NullPool, isolation_level="AUTOCOMMIT")
    yield engine
    await engine.dispose()
