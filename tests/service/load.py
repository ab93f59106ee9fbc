"""Load for the service, for as long as one likes: what a client saw is there afterwards, and there once.

``make soak ARGS="service --minutes 5"``. Meanwhile the database is restarted, the worker killed, and clients leave.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import httpx2
import psutil
from sqlalchemy import text

from course_lib.data.corpus import users
from course_lib.data.fresh import make_database
from course_lib.llm import openai_client
from course_lib.postgres.address import libpq_uri
from course_lib.postgres.server import find_server, stop_embedded
from course_lib.service.problems import QUOTA
from tests.service.running import Serving, serving
from tests.service.test_questions import events

USERS = [user.slug for user in users()]
CLIENTS = 16
TRIES = 40
MODEL = {"token_delay_ms": 5}
TURNS = """
    SELECT asked.content, answered.content FROM messages AS asked
    JOIN messages AS answered USING (conversation_id)
    WHERE answered.seq = asked.seq + 1 AND asked.role = 'user' AND asked.content LIKE 'Load %'
"""
RICH = "UPDATE users SET token_limit = 2000000000 WHERE tier <> 'free'"  # the others come to their limits
ABOVE = "SELECT count(*) FROM users WHERE tokens_used > token_limit"
CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'course service'"


@dataclass
class Load:
    """What clients did and saw.

    Attributes:
        seen: each answer that a client has seen whole, by its question.
        statuses: how many responses of each status.
        gone: how often a connection broke.
        wrong: what no client should see.
    """

    running: Serving
    seen: dict[str, str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    left: int = 0
    gone: int = 0
    wrong: list[str] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    async def client(self, slug: str, end: float) -> None:
        """One client, who does one thing after another."""
        chance = Random(f"{slug} {next(self._numbers)}")
        acts: list[Callable[[httpx2.AsyncClient], Awaitable[None]]] = [
            self._ask, self._ask, self._stream, self._leave, self._upload, self._read,
        ]  # fmt: skip
        async with self.running.client(slug) as client:
            while time.monotonic() < end:
                try:
                    await chance.choice(acts)(client)
                except httpx2.HTTPError:
                    self.gone += 1

    def _question(self) -> str:
        return f"Load {next(self._numbers)} {secrets.token_hex(4)}: what was the last light of the old lens?"

    def _count(self, response: httpx2.Response) -> None:
        self.statuses[response.status_code] += 1
        if response.status_code >= 500 and response.status_code != 503:
            self.wrong.append(f"{response.status_code} of {response.request.url.path}")

    async def _ask(self, client: httpx2.AsyncClient) -> None:
        """Until there is an answer, with one key: a turn that is asked again is the same turn."""
        question, key = self._question(), secrets.token_hex(16)
        for _ in range(TRIES):
            began = time.perf_counter()
            try:
                response = await client.post(
                    "/questions", json={"question": question}, headers={"Idempotency-Key": key}
                )
            except httpx2.HTTPError:
                self.gone += 1
                continue
            self._count(response)
            if response.status_code == 201:
                self.seen[question] = response.json()["text"]
                self.seconds.append(time.perf_counter() - began)
                return
            if response.json()["type"] == QUOTA.type:
                return
            await asyncio.sleep(0.3)

    async def _stream(self, client: httpx2.AsyncClient) -> None:
        question = self._question()
        async with client.stream("POST", "/questions/stream", json={"question": question}) as response:
            self._count(response)
            async for name, data in events(response):
                if name == "done":
                    self.seen[question] = data["text"]

    async def _leave(self, client: httpx2.AsyncClient) -> None:
        async with client.stream("POST", "/questions/stream", json={"question": self._question()}) as response:
            self._count(response)
            heard = 0
            async for _ in events(response):
                if (heard := heard + 1) == 3:
                    self.left += 1
                    return

    async def _upload(self, client: httpx2.AsyncClient) -> None:
        body = {"title": "Load", "text": f"The ferry number {next(self._numbers)} leaves at nine.\n\n" * 8}
        sent = await client.post("/documents", json=body)
        self._count(sent)
        if sent.status_code == 202:
            gone = await client.delete(f"/documents/{sent.json()['document']['id']}")
            self._count(gone)

    async def _read(self, client: httpx2.AsyncClient) -> None:
        for path in ("/documents", "/conversations", "/account"):
            self._count(await client.get(path))


@asynccontextmanager
async def a_worker(running: Serving) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A worker in a process of its own, and what kills it and starts another."""
    address = str.__str__(libpq_uri(running.service.engine.url))

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "course_lib.cli", "worker", env={**os.environ, "DATABASE_URL": address},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    process = await start()

    async def another() -> None:
        nonlocal process
        process.kill()
        await process.wait()
        process = await start()

    try:
        yield another
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def soak_service(minutes: float) -> int:
    """Load for so long; prints what was seen. How many things were wrong."""
    database, own = await make_database("97"), psutil.Process()
    try:
        with serving(database.url, openai_client(**MODEL), pool_size=5) as running:  # type: ignore[arg-type]
            async with running.database() as connection:
                await connection.execute(text(RICH))
            load, memory, began = Load(running), list[int](), time.monotonic()
            end = began + 60 * minutes
            async with a_worker(running) as another_worker, asyncio.TaskGroup() as tasks:
                for number in range(CLIENTS):
                    tasks.create_task(load.client(USERS[number % len(USERS)], end))
                for share in (0.3, 0.5, 0.7, 0.99):
                    await asyncio.sleep(max(0.0, began + share * 60 * minutes - time.monotonic()))
                    memory.append(own.memory_info().rss // 2**20)
                    if share == 0.5:
                        await asyncio.to_thread(stop_embedded)
                        await find_server()
                    else:
                        await another_worker()
            await asyncio.sleep(1)
            load.wrong += await _afterwards(running, load)
            _tell(load, memory, minutes)
            return len(load.wrong)
    finally:
        await database.drop()


async def _afterwards(running: Serving, load: Load) -> list[str]:
    """What is in the database that should not be, and what is missing."""
    async with running.database() as connection:
        turns = [(str(asked), str(answered)) for asked, answered in await connection.execute(text(TURNS))]
        above = await connection.scalar(text(ABOVE))
        connected = await connection.scalar(text(CONNECTED))
    stored, times = dict(turns), Counter(asked for asked, _ in turns)
    wrong = [f"lost: {question}" for question, said in load.seen.items() if stored.get(question) != said]
    wrong += [f"{number} times: {question}" for question, number in times.items() if number > 1]
    wrong += [f"{above} user(s) above their limit"] if above else []
    wrong += [f"{running.held} connection(s) still out"] if running.held else []
    wrong += [f"{connected} connections to the server"] if (connected or 0) > 2 * 5 else []
    return wrong


def _tell(load: Load, memory: list[int], minutes: float) -> None:
    seconds = sorted(load.seconds) or [0.0]
    print(f"service: {minutes:g} minutes, {CLIENTS} clients, a pool of 5")
    print(f"  {len(load.seen)} answers seen whole, {load.left} left after three tokens, {load.gone} connections broken")
    print(f"  responses by status: {dict(sorted(load.statuses.items()))}")
    middle, last = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    print(f"  POST /questions: median {1000 * middle:.0f} ms, p99 {1000 * last:.0f} ms")
    print(f"  memory of service and clients: {', '.join(f'{one} MB' for one in memory)}")
    for one in load.wrong[:20]:
        print(f"  WRONG: {one}")
