"""A real uvicorn on 127.0.0.1 in a thread, and a real client: what TestClient and ASGITransport cannot show."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from fastapi import FastAPI
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.types import ASGIApp

from course_lib.db import make_engine
from course_lib.service import create_app
from course_lib.service.running import Service
from course_lib.service.serving import DrainingServer
from course_lib.settings import get_settings
from tests.service.documented import Documented

MANY = 1_000_000


@dataclass
class Serving:
    """A running app: where it is, and its inside, to look at."""

    app: FastAPI
    server: DrainingServer
    documented: Documented
    port: int

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def held(self) -> int:
        """Connections that are checked out of the pool."""
        return self.service.engine.pool.checkedout()  # type: ignore[attr-defined]

    @asynccontextmanager
    async def database(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on the service's database, past the service and in the test's own loop."""
        engine = make_engine(self.service.engine.url)
        async with engine.begin() as connection:
            yield connection
        await engine.dispose()

    def client(self, slug: str | None = None, **options: Any) -> httpx2.AsyncClient:
        """A client with the key of one of the seeded users, whose responses are compared with the documentation."""
        headers = {"Authorization": f"Bearer {slug}-demonstration-key"} if slug else {}
        hooks = {"response": [self.documented.check]}
        return httpx2.AsyncClient(
            base_url=self.address, headers=headers | options.pop("headers", {}), event_hooks=hooks, timeout=20,
            trust_env=False, **options,
        )  # fmt: skip


@contextmanager
def serving(
    url: URL,
    client: openai.AsyncOpenAI | None = None,
    notice: float = 0,
    app: FastAPI | None = None,
    around: ASGIApp | None = None,
    root_path: str = "",
    **changed: Any,
) -> Iterator[Serving]:
    """The service on a free port, for the length of a block; ``changed`` settings by their names."""
    changed = {"requests_a_minute": MANY} | changed  # tests are in a hurry
    app = app or create_app(url, get_settings().model_copy(update=changed), client)
    server = DrainingServer(app, notice, around, host="127.0.0.1", port=0, root_path=root_path)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    assert server.started
    try:
        yield Serving(app, server, Documented(app.openapi()), server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.handle_exit(15, None)
        thread.join(30)
        assert not thread.is_alive(), "it stops"
