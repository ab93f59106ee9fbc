"""Run the app until it is told to stop, and then drain: not ready, no new requests, those under way to their end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from course_lib.service.running import Service

AFTER_DRAINING = 2  # seconds that a request has beyond its time before it is cancelled


class DrainingServer(uvicorn.Server):
    """uvicorn, which at the first signal tells the service, and looks away from new connections a little later.

    Args:
        app: as ``create_app`` makes it.
        notice: seconds for which ``/readyz`` says 503 and requests are still taken, so that whoever sends them
            learns of it first. A second signal ends it.
        around: ``app`` with more around it, if that is what is to be run.
        options: uvicorn's own, such as ``port``.
    """

    def __init__(self, app: FastAPI, notice: float = 0, around: ASGIApp | None = None, **options: Any) -> None:
        drain = app.state.settings.drain_seconds
        defaults: dict[str, Any] = {
            "host": "127.0.0.1",
            "log_level": "warning",
            "access_log": False,
            "server_header": False,
            "lifespan": "on",
            "timeout_graceful_shutdown": int(drain + AFTER_DRAINING),
            "timeout_keep_alive": 30,
        }
        super().__init__(uvicorn.Config(around or app, **defaults | options))
        self._app, self._notice = app, notice
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn has it, but that a signal is not sent again when the server has ended because of it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What uvicorn does at once is done after the notice; a second signal is for it to judge."""
        service: Service | None = getattr(self._app.state, "service", None)
        if service is None or service.stopping.is_set() or self._loop is None:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._drain, service)

    def _drain(self, service: Service) -> None:
        service.stop()
        asyncio.get_running_loop().call_later(self._notice, super().handle_exit, signal.SIGTERM, None)
