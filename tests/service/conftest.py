"""One database and one running app for all tests that only use them; each test has accounts of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import httpx2
import pytest
from sqlalchemy import URL

from course_lib.data.fresh import make_database
from tests.service.running import Serving, serving

NUMBERS = count()


@pytest.fixture(scope="session")
def service_url() -> Iterator[URL]:
    database = asyncio.run(make_database("99"))
    yield database.url
    asyncio.run(database.drop())


@pytest.fixture(scope="session")
def running(service_url: URL) -> Iterator[Serving]:
    with serving(service_url) as running:
        yield running


@pytest.fixture
async def ada(running: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    """A seeded user with documents and conversations, which tests do not change."""
    async with running.client("ada") as client:
        yield client


@pytest.fixture
async def stranger(running: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who has signed up just now."""
    async with running.client() as client:
        email = f"stranger{next(NUMBERS)}@example.org"
        signed_up = (await client.post("/accounts", json={"email": email, "name": "A Stranger"})).json()
        client.headers["Authorization"] = f"Bearer {signed_up['key']['secret']}"
        yield client
