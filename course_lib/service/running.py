"""What a running process of the service has: one engine, one client of the model, and what all its requests share."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import openai
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_engine, make_session_factory
from course_lib.service.admission import Admission, Rate
from course_lib.service.cursors import Cursors
from course_lib.settings import Settings

STATEMENT_SECONDS, LOCK_SECONDS = 15, 5
FINISH_SECONDS = 30  # for storing what was said, the database restarting meanwhile


@dataclass
class Service:
    """Made by the lifespan, found in ``app.state.service``."""

    settings: Settings
    engine: AsyncEngine
    client: openai.AsyncOpenAI
    cursors: Cursors
    sessions: async_sessionmaker[AsyncSession] = field(init=False)
    requests: Admission = field(init=False)
    rate: Rate = field(init=False)
    questions: Admission = field(init=False)
    answers: int = 0
    """So many are being written, or stored."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process was told to stop: not ready any more, and answers end soon."""
    stop_at: float = math.inf

    def __post_init__(self) -> None:
        self.sessions = make_session_factory(self.engine)
        self.client = self.client.with_options(timeout=self.settings.model_seconds)
        self.requests = Admission(self.settings.requests_at_once)
        self.rate = Rate(self.settings.requests_a_minute)
        self.questions = Admission(self.settings.questions_at_once)

    def stop(self) -> None:
        """Begin nothing that takes long; what was begun has ``drain_seconds``."""
        self.stopping.set()
        self.stop_at = min(self.stop_at, time.monotonic() + self.settings.drain_seconds)

    async def answered(self) -> None:
        """Wait until nothing is being stored any more: uvicorn has cancelled what went on, and did not wait for it."""
        patience = time.monotonic() + FINISH_SECONDS
        while self.answers and time.monotonic() < patience:  # noqa: ASYNC110 - the loop ends anyway
            await asyncio.sleep(0.02)

    def out_of_time(self) -> bool:
        return time.monotonic() > self.stop_at


def make_service_engine(url: URL | str, settings: Settings) -> AsyncEngine:
    """An engine with a pool that is as large as it says, asks before it hands out, and never waits for ever."""
    limits = {
        "application_name": "course service",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
    }
    return make_engine(
        url,
        binary_vectors=True,
        pool_size=settings.pool_size,
        max_overflow=0,
        pool_timeout=settings.pool_seconds,
        pool_pre_ping=True,
        connect_args={"server_settings": limits, "timeout": settings.pool_seconds},
    )


@asynccontextmanager
async def running(url: URL | str, settings: Settings, client: openai.AsyncOpenAI) -> AsyncIterator[Service]:
    """Start without asking the database, which may come later; end when all is stored and the pool is closed."""
    secret = settings.service_secret
    cursors = Cursors(secret.get_secret_value().encode() if secret else secrets.token_bytes(32))
    service = Service(settings, make_service_engine(url, settings), client, cursors)
    try:
        yield service
    finally:
        service.stop()
        await service.answered()
        await service.engine.dispose()
