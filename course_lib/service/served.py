"""An app behind a real uvicorn, and a real client, for the length of a block.

It shows what clients without a server do not: TestClient raises what a real client never sees, and ends the whole app
when it leaves; httpx2's ASGITransport hands out a stream when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp

from course_lib.errors import CourseError
from course_lib.instruments.network.door import LOCAL, SocketFolder

LOGGERS = ("uvicorn.error", "sqlalchemy.pool", "asyncio")
ONE_REQUEST_EACH = httpx2.Limits(max_keepalive_connections=0)  # uvicorn closes a connection after a 500, a little later
PATIENCE = 60  # seconds for what the requests under way and the lifespan's end take
SILENT = {"access_log": False, "log_config": None, "lifespan": "on"}


def plain(app: ASGIApp, **options: Any) -> uvicorn.Server:
    """uvicorn as it is."""
    return uvicorn.Server(uvicorn.Config(app, **options))


class Client(httpx2.AsyncClient):
    """A client of the one server that was started with it.

    Attributes:
        log: what the server wrote into its log, an exception as its name and its first line.
    """

    def __init__(self, server: uvicorn.Server, log: list[str], **options: Any) -> None:
        super().__init__(timeout=PATIENCE, trust_env=False, **options)
        self._server, self.log = server, log

    def stop_server(self) -> None:
        """What SIGTERM does: an orchestrator's "please end"."""
        self._server.handle_exit(signal.SIGTERM, None)


@asynccontextmanager
async def served(app: ASGIApp, server: Callable[..., uvicorn.Server] = plain, **options: Any) -> AsyncIterator[Client]:
    """Serve ``app`` in a thread, with a loop of its own, and stop it at the end of the block.

    It listens at a Unix socket that nobody else can reach; where there is none, on a free port of 127.0.0.1.

    Args:
        server: makes the server, for example ``DrainingServer``.
        options: the server's own, such as ``timeout_graceful_shutdown``.

    Raises:
        CourseError: the app does not start.
    """
    with _place() as (where, transport), _logged() as log:
        running = server(app, **SILENT | where | options)
        thread = threading.Thread(target=_run, args=[running], daemon=True)
        thread.start()
        while not running.started and thread.is_alive():  # noqa: ASYNC110 - it ends by itself
            await asyncio.sleep(0.002)
        if not running.started:
            raise CourseError("The app did not start.", "\n".join(log) or "Look at its lifespan.")
        try:
            async with Client(running, log, **transport(running)) as client:
                yield client
        except BaseException:
            running.config.timeout_graceful_shutdown = 0  # nobody is there to hear what is under way
            raise
        finally:
            running.should_exit = True
            await asyncio.to_thread(thread.join, PATIENCE)


def _run(server: uvicorn.Server) -> None:
    with suppress(SystemExit):  # the app did not start; the log says why
        asyncio.run(server.serve())


@contextmanager
def _place() -> Iterator[tuple[dict[str, Any], Callable[[uvicorn.Server], dict[str, Any]]]]:
    """Where the server listens, and the client's way there."""
    if not hasattr(socket, "AF_UNIX"):
        yield {"host": LOCAL, "port": 0}, _port_of
        return
    folder = SocketFolder()
    try:
        path = str(folder.socket)
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a socket has none, and reading them takes time
        transport = httpx2.AsyncHTTPTransport(uds=path, verify=no_certificates, limits=ONE_REQUEST_EACH)
        yield {"uds": path}, lambda _: {"base_url": "http://service", "transport": transport}
    finally:
        folder.close()


def _port_of(server: uvicorn.Server) -> dict[str, Any]:
    host, port = server.servers[0].sockets[0].getsockname()
    return {"base_url": f"http://{host}:{port}", "limits": ONE_REQUEST_EACH}


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What the server has to say goes into a list, and not onto the page."""
    heard = _Heard()
    before = {name: logging.getLogger(name).propagate for name in LOGGERS}
    for name in before:
        logging.getLogger(name).addHandler(heard)
        logging.getLogger(name).propagate = False
    try:
        yield heard.lines
    finally:
        for name, propagate in before.items():
            logging.getLogger(name).removeHandler(heard)
            logging.getLogger(name).propagate = propagate


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() if error is None else f"{type(error).__name__}: {error}"
        # of a start that failed, uvicorn logs the traceback as a text
        lines = text.strip().splitlines()
        self.lines.append(lines[-1] if lines[0].startswith("Traceback") else lines[0])
