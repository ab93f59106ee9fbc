"""The board as a page: HTML, CSS and JavaScript as they are in this folder, and an event for each change.

All addresses in it are relative, so that it works below whatever path a proxy shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from course_lib.classroom.board.page.told import told
from course_lib.classroom.board.watching import EVERY, Sight, watch
from course_lib.service.page import add_files
from course_lib.settings import get_settings

FOLDER = Path(__file__).parent
LOOK = 0.25  # seconds between two looks whether there is something to send


class Feed:
    """What all who look at the page are shown: read once, however many they are."""

    def __init__(self, first: Sight) -> None:
        self.sight = first

    async def follow(self, class_name: str, lessons: Sequence[str] | None) -> None:
        """Keep it up to date, until this is cancelled."""
        while True:
            try:
                async with aclosing(watch(class_name, lessons)) as sights:
                    async for sight in sights:
                        self.sight = sight
                        await asyncio.sleep(EVERY)
            except Exception as error:  # it is shown, and a board goes on for as long as the class does
                self.sight = replace(self.sight, trouble=f"The board cannot be read: {type(error).__name__}.")
            await asyncio.sleep(EVERY)

    async def changes(self, stopping: Callable[[], bool]) -> AsyncIterator[dict[str, Any]]:
        """What is to be shown now, and then whenever it is something else."""
        shown: dict[str, Any] = {}
        while not stopping():
            now = told(self.sight)
            if now != shown:
                shown = now
                yield now
            await asyncio.sleep(LOOK)


def create_board_app(
    first: Sight, lessons: Sequence[str] | None = None, stopping: Callable[[], bool] = lambda: False
) -> FastAPI:
    """The page at ``/`` and what it shows at ``/events``: for what a gate stands before, since it has names in it.

    Args:
        first: what is shown until the next look.
        lessons: the columns.
        stopping: whether the server is about to end, and streams with it.
    """
    feed = Feed(first)

    @asynccontextmanager
    async def following(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(feed.follow(first.board.class_name, lessons))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    app = FastAPI(title="The board of a class", lifespan=following, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = get_settings()
    add_files(app, FOLDER)

    @app.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for shown in feed.changes(stopping):
            yield ServerSentEvent(data=shown)

    return app
