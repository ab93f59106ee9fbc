"""What the service bears, in requests a second, beside the patterns of the field on the same machine."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from secrets import token_hex
from time import perf_counter, sleep

import httpx2
import uvicorn
from fastapi import FastAPI
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.bench.report import seconds_text, write_table
from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments.network.door import SocketFolder
from course_lib.llm import openai_client
from course_lib.repositories.rag import ingest
from course_lib.service import create_app
from course_lib.settings import get_settings

POOL = 5
CLIENTS = 50
THINKING = 0.2  # seconds that the model of the patterns takes
KEY = {"Authorization": "Bearer ada-demonstration-key"}
ASKED = {"question": "What was the last light of the old lens?"}
READ = text("SELECT count(*) FROM documents")
HEAD = ["what", "processes", "clients", "requests/s", "median", "p99", "refused"]
TOKEN_MS = 20

Call = Callable[[httpx2.AsyncClient], Awaitable[int]]


@dataclass(frozen=True)
class Rate:
    """``requests`` a second, seconds of the middle one and of the hundredth, and how many were no 2xx."""

    what: str
    processes: int
    clients: int
    rate: float
    median: float
    p99: float
    refused: int

    @property
    def row(self) -> list[str]:
        times = [seconds_text(self.median), seconds_text(self.p99)]
        return [self.what, str(self.processes), str(self.clients), f"{self.rate:,.0f}", *times, str(self.refused)]


def measure(quick: bool) -> None:
    """Print and write ``bench-results/service``."""
    asyncio.run(_measure(*((100, 100) if quick else (500, 1000))))


async def _measure(requests: int, documents: int) -> None:
    found: list[Rate] = []
    async with fresh_database("97") as database:
        await _allow_all(database.url)
        for processes in (1, 2):
            async with _running(_product, database.url, processes) as clients:
                found += [
                    await _rate("GET /account", clients, 8, requests, _getting("/account")),
                    await _rate("GET /documents", clients, 8, requests, _getting("/documents")),
                    await _rate(f"POST /questions, {TOKEN_MS} ms a token", clients, 8, requests // 2, _asking),
                    await _rate(f"stream, {TOKEN_MS} ms a token", clients, CLIENTS, CLIENTS, _streaming),
                ]
        for pattern in (_held, _released, _in_threads):
            async with _running(pattern, database.url, 1) as clients:
                what = (pattern.__doc__ or "").rstrip(".")
                found.append(await _rate(what, clients, CLIENTS, requests // 2, _getting("/")))
        seconds = await _ingest(database.url, documents)
    notes = [
        f"A pool of {POOL} in each process. Patterns wait {THINKING * 1000:.0f} ms for a model; the service asks the "
        "offline one, which computes in the same process.",
        f"{documents:,} documents of two new passages each were ingested in {seconds_text(seconds)}, eight at once.",
    ]
    content = {"rates": [asdict(one) for one in found], "ingest": seconds}
    write_table("service", "What the service bears", HEAD, [one.row for one in found], content, notes)


async def _allow_all(url: URL) -> None:
    """Nobody comes to the end of their tokens."""
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE users SET token_limit = 2000000000"))
    await engine.dispose()


# -- the service, and what it is compared with ---------------------------------------------------------------------


def _product(url: str) -> FastAPI:
    unlimited = dict.fromkeys(["requests_at_once", "questions_at_once", "requests_a_minute"], 1_000_000)
    settings = get_settings().model_copy(update={**unlimited, "pool_size": POOL, "pool_seconds": 30})
    app: FastAPI = create_app(url, settings, openai_client(token_delay_ms=TOKEN_MS))
    return app


def _held(url: str) -> FastAPI:
    """A session per request, held while the model thinks."""
    app, sessions = FastAPI(), make_session_factory(make_engine(url, pool_size=POOL, max_overflow=0))

    @app.get("/")
    async def answer() -> int:
        async with sessions() as session:
            count: int = await session.scalar(READ) or 0
            await asyncio.sleep(THINKING)
            return count + (await session.scalar(READ) or 0)

    return app


def _released(url: str) -> FastAPI:
    """Two short sessions, and none while the model thinks."""
    app, sessions = FastAPI(), make_session_factory(make_engine(url, pool_size=POOL, max_overflow=0))

    async def read(sessions: async_sessionmaker[AsyncSession]) -> int:
        async with sessions() as session:
            return await session.scalar(READ) or 0

    @app.get("/")
    async def answer() -> int:
        before = await read(sessions)
        await asyncio.sleep(THINKING)
        return before + await read(sessions)

    return app


def _in_threads(url: str) -> FastAPI:
    """A synchronous endpoint, in a thread of the forty."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    app, engine = FastAPI(), create_engine(address, pool_size=POOL, max_overflow=0)

    @app.get("/")
    def answer() -> int:
        with engine.connect() as connection:
            count: int = connection.scalar(READ) or 0
            sleep(THINKING)
            return count + (connection.scalar(READ) or 0)

    return app


# -- processes -----------------------------------------------------------------------------------------------------


def _run(make: Callable[[str], FastAPI], url: str, socket: str) -> None:
    """In a process of its own, until it is ended."""
    uvicorn.run(make(url), uds=socket, log_level="error", access_log=False)


@asynccontextmanager
async def _running(make: Callable[[str], FastAPI], url: URL, processes: int) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """A client for each process, which listens where nobody else can come."""
    address = url.render_as_string(hide_password=False)
    spawn = multiprocessing.get_context("spawn")
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(processes):
            folder = SocketFolder()
            stack.callback(folder.close)
            process = spawn.Process(target=_run, args=(make, address, str(folder.socket)), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            transport = httpx2.AsyncHTTPTransport(uds=str(folder.socket))
            clients.append(
                await stack.enter_async_context(
                    httpx2.AsyncClient(transport=transport, base_url="http://service", headers=KEY, timeout=60)
                )
            )
            await _there(clients[-1], process)
        yield clients


async def _there(client: httpx2.AsyncClient, process: BaseProcess) -> None:
    """Wait until it answers."""
    while process.is_alive():
        try:
            await client.get("/")
        except httpx2.HTTPError:
            await asyncio.sleep(0.05)
        else:
            return
    raise CourseError("A process of the service has ended before it answered.", "Above stands what it said.")


# -- requests ------------------------------------------------------------------------------------------------------


def _getting(path: str) -> Call:
    async def get(client: httpx2.AsyncClient) -> int:
        return (await client.get(path)).status_code

    return get


async def _asking(client: httpx2.AsyncClient) -> int:
    return (await client.post("/questions", json=ASKED)).status_code


async def _streaming(client: httpx2.AsyncClient) -> int:
    async with client.stream("POST", "/questions/stream", json=ASKED) as response:
        async for _ in response.aiter_bytes():
            pass
        return response.status_code


async def _rate(what: str, clients: list[httpx2.AsyncClient], at_once: int, requests: int, call: Call) -> Rate:
    """So many requests, ``at_once`` of them under way at any time."""
    await asyncio.gather(*(call(client) for client in clients for _ in range(4)))  # connects, which is not measured
    seconds: list[float] = []
    refused = 0
    waiting = iter(range(requests))

    async def one(client: httpx2.AsyncClient) -> None:
        nonlocal refused
        for _ in waiting:
            began = perf_counter()
            refused += not 200 <= await call(client) < 300
            seconds.append(perf_counter() - began)

    began = perf_counter()
    await asyncio.gather(*(one(clients[number % len(clients)]) for number in range(at_once)))
    whole = perf_counter() - began
    seconds.sort()
    hundredth = seconds[max(0, math.ceil(0.99 * len(seconds)) - 1)]
    return Rate(what, len(clients), at_once, requests / whole, seconds[len(seconds) // 2], hundredth, refused)


async def _ingest(url: URL, documents: int) -> float:
    engine, client = make_engine(url, pool_size=POOL, binary_vectors=True), openai_client()
    sessions, waiting = make_session_factory(engine), iter(range(documents))
    async with sessions() as session:
        user = await session.scalar(text("SELECT id FROM users LIMIT 1"))

    async def one() -> None:
        for number in waiting:
            passages = [f"Ferry {token_hex(4)} leaves at nine.", f"A ticket for ferry {token_hex(4)} is four crowns."]
            await ingest(sessions, user, f"bench-{number}.md", "Bench", passages, client)

    began = perf_counter()
    await asyncio.gather(*(one() for _ in range(8)))
    await engine.dispose()
    return perf_counter() - began
