"""One client does not stop the others: bodies that come slowly, requests without end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import URL

from course_lib.service import problems
from course_lib.service.admission import Rate
from course_lib.service.problems import Refused
from tests.service.running import Serving, serving

SLOWLY = 0.4  # seconds that a body may take


class Slow:
    """A client that has sent a request's head, and takes its time over the rest."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[str, dict[str, str]]:
        """The head of the response, and its body; the connection is closed then."""
        async with asyncio.timeout(10):
            head, _, body = (await self.reader.read()).decode().partition("\r\n\r\n")
        return head, json.loads(body)


@asynccontextmanager
async def slow(running: Serving, path: str, kind: str = "application/json") -> AsyncIterator[Slow]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ada-demonstration-key\r\n"
        f"Content-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
    )
    writer.write(head.encode())
    try:
        yield Slow(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/questions", "application/json"), ("/questions/stream", "application/json"),
        ("/documents/files", "multipart/form-data; boundary=x"), ("/accounts", "application/json"),
    ],
)  # fmt: skip
async def test_a_body_that_does_not_come_is_a_408(path: str, kind: str, service_url: URL) -> None:
    with serving(service_url, body_seconds=SLOWLY) as running:
        async with slow(running, path, kind) as client:
            await client.send(b'{"question": "' if kind.endswith("json") else b"--x\r\n")
            head, problem = await client.answer()
        assert head.startswith("HTTP/1.1 408 ")
        assert "content-type: application/problem+json" in head.lower()
        assert problem["type"] == "urn:problem:too-slow"
        assert running.held == 0


async def test_a_byte_now_and_then_does_not_make_it_longer(service_url: URL) -> None:
    with serving(service_url, body_seconds=SLOWLY) as running:
        async with slow(running, "/questions") as client:
            answer = asyncio.create_task(client.answer())
            clock = asyncio.get_running_loop().time
            began = clock()
            while not answer.done():
                await client.send(b" ")
                await asyncio.sleep(SLOWLY / 10)
            assert (await answer)[1]["status"] == 408
            assert SLOWLY < clock() - began < SLOWLY + 5


async def test_a_hundred_slow_bodies_do_not_keep_others_from_their_answers(service_url: URL) -> None:
    with serving(service_url, pool_size=1, body_seconds=30) as running:
        slows = [slow(running, "/questions") for _ in range(100)]
        for client in slows:
            await (await client.__aenter__()).send(b"{")
        async with running.client("bruno") as bruno, asyncio.timeout(10):
            assert (await bruno.get("/account")).status_code == 200
        assert running.held == 0
        for client in slows:
            await client.__aexit__(None, None, None)


async def test_an_answer_may_take_longer_than_a_body(service_url: URL) -> None:
    from course_lib.llm import openai_client

    with serving(service_url, openai_client(token_delay_ms=60), body_seconds=SLOWLY) as running:
        async with running.client("ada") as ada:
            began = asyncio.get_running_loop().time()
            answer = await ada.post("/questions/stream", json={"question": "What was the last light of the old lens?"})
            assert asyncio.get_running_loop().time() - began > SLOWLY
            assert "event: done" in answer.text


async def test_so_many_in_a_minute_are_one_users_and_not_the_others(service_url: URL) -> None:
    with serving(service_url, requests_a_minute=10) as running:
        async with running.client("ada") as ada, running.client("bruno") as bruno:
            made = (await ada.post("/account/keys", json={"label": "another"})).json()
            answers = [await ada.get("/account") for _ in range(9)]
            assert {answer.status_code for answer in answers} == {200}
            ada.headers["Authorization"] = f"Bearer {made['secret']}"  # another key is no other user
            refused = await ada.get("/account")
            assert refused.status_code == 429
            assert refused.json()["type"] == "urn:problem:too-many-a-minute"
            assert 1 <= int(refused.headers["retry-after"]) <= 6
            assert (await bruno.get("/account")).status_code == 200
            assert (await ada.get("/livez")).status_code == 200
            assert running.held == 0 and not running.service.requests._inside
        async with running.client() as nobody:
            assert (await nobody.get("/account")).status_code == 401
    with serving(service_url) as running:
        async with running.client("ada") as ada:
            assert (await ada.delete(f"/account/keys/{made['id']}")).status_code == 204


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rate: Rate, client: str, times: int) -> int:
    """How many of so many requests are let in."""
    let_in = 0
    for _ in range(times):
        try:
            rate.take(client)
            let_in += 1
        except Refused as refused:
            assert refused.kind is problems.TOO_MANY_A_MINUTE
    return let_in


@pytest.mark.parametrize("most", [1, 7, 600])
def test_room_for_so_many_comes_back_in_a_minute(most: int) -> None:
    clock = Clock()
    rate = Rate(most, clock)
    assert taken(rate, "ada", 3 * most) == most
    clock.now += 60 / most
    assert taken(rate, "ada", 3) == 1
    clock.now += 30
    assert taken(rate, "ada", 3 * most) == most // 2
    clock.now += 3600
    assert taken(rate, "ada", 3 * most) == most, "no more than a minute's is saved up"


def test_who_waits_as_long_as_told_is_let_in() -> None:
    clock = Clock()
    rate = Rate(7, clock)
    taken(rate, "ada", 7)
    for _ in range(50):
        with pytest.raises(Refused) as refused:
            rate.take("ada")
        clock.now += int(refused.value.headers["Retry-After"])
        assert taken(rate, "ada", 1) == 1
        taken(rate, "ada", 7)


def test_who_has_not_come_for_a_minute_is_forgotten() -> None:
    clock = Clock()
    rate = Rate(60, clock)
    for number in range(10_000):
        clock.now += 0.01
        rate.take(f"user {number}")
    assert len(rate._taken_until) <= 102
    clock.now += 61
    rate.take("ada")
    assert list(rate._taken_until) == ["ada"]
