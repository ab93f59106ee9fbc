"""Starting before the database, going on after it was away, and stopping without losing what was begun."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import URL, text

from course_lib.llm import openai_client
from tests.service.running import serving
from tests.service.test_questions import ASKED, events, until

SLOW = {"token_delay_ms": 100}


class Gate:
    """A way to the database that can be closed: a forwarder on 127.0.0.1, with a loop in a thread of its own."""

    def __init__(self, url: URL, port: int) -> None:
        self.target, self.port = url, port
        self.server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def open(self) -> None:
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(5)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(5)

    async def _open(self) -> None:
        self.server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self.server is not None:
            self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = str(self.target.query.get("host") or self.target.host), self.target.port or 5432
        if host.startswith("/"):
            up, down = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            up, down = await asyncio.open_connection(host, port)
        self.writers |= {writer, down}
        await asyncio.gather(pump(reader, down), pump(up, writer))


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def behind_a_gate(url: URL) -> Iterator[tuple[Gate, URL]]:
    """A gate that is closed as yet, and the database's address through it."""
    gate = Gate(url, free_port())
    query = {name: value for name, value in url.query.items() if name not in ("host", "port")}
    yield gate, url.set(host="127.0.0.1", port=gate.port, query=query)
    gate.close()
    gate.loop.call_soon_threadsafe(gate.loop.stop)


async def test_it_starts_without_a_database_says_so_and_recovers(service_url: URL) -> None:
    with behind_a_gate(service_url) as (gate, url), serving(url, pool_seconds=3) as running:
        async with running.client("ada") as ada:
            for _ in range(2):
                assert (await ada.get("/livez")).status_code == 200
                for path in ("/readyz", "/account"):
                    away = await ada.get(path)
                    assert away.status_code == 503
                    assert away.json()["type"] == "urn:problem:database-away"
                    assert away.headers["retry-after"]
                gate.open()
                assert (await ada.get("/readyz")).status_code == 200
                assert (await ada.get("/account")).status_code == 200
                gate.close()
            assert running.held == 0


async def test_an_answer_is_stored_although_the_database_is_away_when_it_ends(service_url: URL) -> None:
    with behind_a_gate(service_url) as (gate, url):
        gate.open()
        with serving(url, openai_client(token_delay_ms=40), pool_seconds=3) as running:
            async with running.client("ada") as ada, ada.stream("POST", "/questions/stream", json=ASKED) as answer:
                got = []
                async for event in events(answer):
                    got.append(event)
                    if len(got) == 3:
                        gate.close()
                        threading.Timer(2.5, gate.open).start()
            assert got[-1][0] == "done"
            async with running.client("ada") as ada:
                place = got[-1][1]["conversation_id"]
                messages = (await ada.get(f"/conversations/{place}")).json()["messages"]
    assert [message["status"] for message in messages] == ["complete", "complete"]
    assert messages[1]["content"] == "".join(data["text"] for name, data in got if name == "token")


async def test_told_to_stop_it_is_not_ready_and_takes_requests_a_little_longer(service_url: URL) -> None:
    with serving(service_url, notice=0.8) as running:
        async with running.client("ada") as ada:
            assert (await ada.get("/readyz")).status_code == 200
            running.server.handle_exit(15, None)
            await until(running.service.stopping.is_set)
            ready = await ada.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["type"] == "urn:problem:stopping"
            assert (await ada.get("/livez")).status_code == 200
            assert (await ada.get("/account")).status_code == 200
            assert (await ada.post("/questions", json=ASKED)).status_code == 503


async def test_what_was_begun_goes_on_to_its_end(service_url: URL) -> None:
    with serving(service_url, openai_client(token_delay_ms=30)) as running:
        async with running.client("ada") as ada, ada.stream("POST", "/questions/stream", json=ASKED) as answer:
            got = []
            async for event in events(answer):
                got.append(event)
                if len(got) == 2:
                    running.server.handle_exit(15, None)
    assert got[-1][0] == "done"
    with pytest.raises(httpx2.ConnectError):
        async with httpx2.AsyncClient(trust_env=False) as client:
            await client.get(f"{running.address}/livez")


async def test_an_answer_that_takes_too_long_is_ended_and_stored(service_url: URL) -> None:
    asked = one_question()
    with serving(service_url, openai_client(**SLOW), drain_seconds=0.5) as running:  # type: ignore[arg-type]
        async with running.client("bruno") as bruno, bruno.stream("POST", "/questions/stream", json=asked) as answer:
            got = []
            began = time.monotonic()
            async for event in events(answer):
                got.append(event)
                if len(got) == 1:
                    running.server.handle_exit(15, None)
                    began = time.monotonic()
        assert time.monotonic() - began < 4
    assert got[-1][0] == "error"
    assert got[-1][1]["type"] == "urn:problem:stopping"
    await check_aborted(service_url, asked["question"], "".join(data["text"] for name, data in got if name == "token"))


async def test_a_model_that_says_nothing_more_does_not_hold_up_the_end(service_url: URL) -> None:
    """uvicorn cancels what is still there; what was said is stored before the pool is closed."""
    asked = one_question()
    with serving(service_url, openai_client(token_delay_ms=4000), drain_seconds=0.1) as running:
        async with running.client("bruno") as bruno:
            said = ""
            with suppress(httpx2.HTTPError):
                async with bruno.stream("POST", "/questions/stream", json=asked) as answer:
                    async for name, data in events(answer):
                        said += data["text"] if name == "token" else ""
                        running.server.handle_exit(15, None)
    assert said
    await check_aborted(service_url, asked["question"], said)


def one_question() -> dict[str, str]:
    """That nobody else has asked."""
    return {"question": f"{ASKED['question']} ({uuid4()})"}


async def check_aborted(url: URL, question: str, said: str) -> None:
    from course_lib.db import make_engine

    query = """
        SELECT answered.status, answered.content
        FROM messages AS asked JOIN messages AS answered USING (conversation_id)
        WHERE asked.content = :question AND answered.seq = asked.seq + 1
    """
    engine = make_engine(url)
    async with engine.connect() as connection:
        assert [tuple(row) for row in await connection.execute(text(query), {"question": question})] == [
            ("aborted", said)
        ]
    await engine.dispose()


async def test_nothing_is_left_of_a_service_that_ended(service_url: URL) -> None:
    threads = threading.active_count()
    with serving(service_url) as running:
        async with running.client("ada") as ada:
            await asyncio.gather(*(ada.get("/account") for _ in range(10)))
        async with running.database() as connection:
            count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'course service' AND pid <> 0")
            during = await connection.scalar(count)
        engine_of = running
    assert during >= 1
    async with engine_of.database() as connection:
        for _ in range(50):
            if (await connection.scalar(count)) < during:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("its connections are still there")
    assert threading.active_count() <= threads
