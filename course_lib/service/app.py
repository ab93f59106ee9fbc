"""The product behind HTTP: a FastAPI app, made by ``create_app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import openai
from fastapi import FastAPI
from sqlalchemy import URL

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.llm import openai_client
from course_lib.postgres.address import parse_url
from course_lib.service.documented import document_errors
from course_lib.service.handlers import add_handlers
from course_lib.service.routers import ROUTERS, documents
from course_lib.service.running import running
from course_lib.service.too_large import TooLargeIsAProblem
from course_lib.service.too_slow import TooSlowIsAProblem
from course_lib.settings import Settings, get_settings

if TYPE_CHECKING:
    from course_lib.service.xray import XRay

SMALL = 64_000  # bytes of a body that holds no document
AROUND_A_FILE = 4_000  # bytes: boundaries, names, a title


def create_app(
    url: URL | str | None = None,
    settings: Settings | None = None,
    client: openai.AsyncOpenAI | None = None,
    *,
    xray: bool = False,
) -> FastAPI:
    """The app. Nothing is connected to before its lifespan begins, nor then: the database may come later.

    Args:
        url: the database, migrated; ``DATABASE_URL`` if left out.
        settings: this process's if left out.
        client: the language model's; ``openai_client()`` if left out.
        xray: for development: keep what each request does, for its user to look at. It takes time and memory.

    Raises:
        CourseError: there is no address of a database.
    """
    settings = settings or get_settings()
    address = _address(settings) if url is None else url

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(address, settings, client or openai_client()) as service:
            app.state.service = service
            async with seen.watching(service) if seen else nullcontext():
                yield

    app = FastAPI(
        title="Ask your documents",
        version="1.0.0",
        description="Documents in, answers with their sources out.",
        lifespan=lifespan,
        docs_url=None,  # its page is loaded from elsewhere
        redoc_url=None,
    )
    app.state.settings = settings
    _add_routes(app, settings)
    seen = _add_xray(app) if xray else None
    return app


def _add_routes(app: FastAPI, settings: Settings) -> None:
    add_handlers(app)
    app.add_middleware(TooLargeIsAProblem)
    app.add_middleware(TooSlowIsAProblem, seconds=settings.body_seconds)
    for router in ROUTERS:
        app.include_router(router, max_body_size=SMALL)
    app.include_router(documents.router, max_body_size=settings.upload_bytes + AROUND_A_FILE)
    document_errors(app)


def _add_xray(app: FastAPI) -> XRay:
    from course_lib.service.xray import add_xray  # with the instruments, which a service in use does not load

    return add_xray(app)


def _address(settings: Settings) -> URL:
    if settings.database_url is None:
        raise CourseError(
            "The service needs the address of a database.", f"Set DATABASE_URL, or run: {command('serve')}"
        )
    return parse_url(settings.database_url.get_secret_value())
