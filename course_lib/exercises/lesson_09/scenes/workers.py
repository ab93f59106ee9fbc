"""What a worker of pytest-xdist has: an id, and here a server to make its database on, and a template for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.db import make_engine
from course_lib.judging.testing.plugin import CaseHere


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
