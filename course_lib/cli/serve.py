"""``course serve``: the product on the course's own server, for whoever started it, with a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import typer
from fastapi import FastAPI
from sqlalchemy import URL

from course_lib.cli.lab import leave_as_found
from course_lib.commands import command
from course_lib.data.corpus import golden_questions, users
from course_lib.data.fresh import make_database
from course_lib.errors import CourseError
from course_lib.llm import openai_client
from course_lib.llm.offline.embedding_model import load_model
from course_lib.postgres.address import libpq_uri, parse_url
from course_lib.service.app import create_app
from course_lib.service.gate import TOKEN, Gate
from course_lib.service.page import Person, add_page
from course_lib.service.serving import DrainingServer
from course_lib.service.worker import work_until
from course_lib.settings import get_settings

LESSON = "08"
HOST = "127.0.0.1"  # a name might be another address's, too, where another user listens
PORTS = 20
WORKER_SECONDS = 15
LATENCY_MS, TOKEN_MS = 150, 25  # of the offline model, which would be done before anybody sees it stream


def run_serve(port: int, root_path: str) -> None:
    """Serve a fresh, seeded database on 127.0.0.1 until Ctrl-C; then drain, and drop it.

    Args:
        port: the first port to try.
        root_path: the path below which a proxy shows the service.

    Raises:
        CourseError: there is no server, or no free port.
    """
    asyncio.run(_serve(port, root_path))


async def _serve(port: int, root_path: str) -> None:
    database = await make_database(LESSON)
    try:
        with listening(port, command("serve --port 9000")) as listener:
            place = f"http://{HOST}:{listener.getsockname()[1]}{root_path}/"
            app = _app(database.url)
            app.root_path = root_path
            gate = Gate(app, listener.getsockname()[1], lambda token: announce("For another browser:", place, token))
            typer.echo(f"{database.server.describe()} · a fresh database for the service")
            typer.echo(f"API keys: {', '.join(user.demonstration_key for user in users())}")
            if get_settings().offline:
                typer.echo("The offline model answers slowly here, so that its answers can be seen to stream.")
            announce("\nThe service is at", place, gate.token)
            typer.echo("Ctrl-C ends it.\n")
            async with _worker(libpq_uri(database.url)):
                # or the first question waits for it
                loading = asyncio.create_task(asyncio.to_thread(load_model)) if get_settings().offline else None
                await DrainingServer(app, around=gate, root_path=root_path).serve([listener])
                if loading is not None:
                    await loading
            typer.echo("\nThe service has ended, and its database is dropped.")
    finally:
        await database.drop()
    await asyncio.to_thread(leave_as_found, database.server)


def _app(url: URL) -> FastAPI:
    """The app as it is developed with: its page, whose people are the seeded users, and the X-ray."""
    offline = get_settings().offline
    client = openai_client(latency_ms=LATENCY_MS, token_delay_ms=TOKEN_MS) if offline else openai_client()
    app = create_app(url, client=client, xray=True)
    examples = {question.user: question.text for question in reversed(golden_questions())}
    add_page(app, [Person(u.name, u.about, u.demonstration_key, examples[u.slug]) for u in users()])
    return app


def announce(what: str, place: str, token: str) -> None:
    """Print an address that is good for one time, at once."""
    typer.echo(f"{what}  {place}?{TOKEN}={token}")
    sys.stdout.flush()


def listening(first: int, another: str) -> socket.socket:
    """A socket on the first port that is free.

    Args:
        first: the port to begin with.
        another: the command that chooses another one.

    Raises:
        CourseError: none is free.
    """
    for port in range(first, first + PORTS):
        listener = socket.socket()
        if os.name != "nt":  # there it would let two listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError):
            listener.close()
        else:
            return listener
    raise CourseError(f"No port from {first} to {first + PORTS - 1} is free.", f"Choose another: {another}")


@asynccontextmanager
async def _worker(address: str) -> AsyncIterator[None]:
    """A worker in a process of its own. It ends when we do, however that is: its standard input does."""
    started_by = [sys.executable, "-m", "course_lib.cli", "worker", "--attached"]
    environment = {**os.environ, "DATABASE_URL": str.__str__(address)}
    apart: dict[str, Any] = {} if os.name == "nt" else {"start_new_session": True}  # Ctrl-C is ours
    process = await asyncio.create_subprocess_exec(
        *started_by, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, **apart
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), WORKER_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def run_worker(attached: bool) -> None:
    """Do the service's jobs on the database that DATABASE_URL names, until Ctrl-C.

    Args:
        attached: until standard input ends, too.

    Raises:
        CourseError: DATABASE_URL is not set.
    """
    url = get_settings().database_url
    if url is None:
        raise CourseError("A worker needs the address of a database.", f"Set DATABASE_URL, or run: {command('serve')}")
    asyncio.run(_work(url.get_secret_value(), attached))


async def _work(address: str, attached: bool) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping(*_: object) -> None:
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopping)
    if attached:
        threading.Thread(target=_at_end_of_input, args=[stopping], daemon=True).start()
    await work_until(stop, parse_url(address), get_settings(), openai_client())


def _at_end_of_input(then: Callable[[], None]) -> None:
    """Past Python's buffer, whose lock a process that ends cannot get from a thread that reads."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    then()
