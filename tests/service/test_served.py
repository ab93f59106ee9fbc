"""A lesson's server and client: they start, they tell what went wrong, and nothing is left of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from course_lib.errors import CourseError
from course_lib.service.served import served


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/thread")
    async def thread() -> int:
        return threading.get_ident()

    @app.get("/wrong")
    async def wrong() -> None:
        raise ValueError("the first line\nand another")

    return app


async def test_an_app_answers_from_a_thread_that_ends_with_the_block(app: FastAPI) -> None:
    before = set(threading.enumerate())
    async with served(app) as client:
        its_own = (await client.get("/thread")).json()
        assert its_own != threading.get_ident()
    assert its_own not in {thread.ident for thread in set(threading.enumerate()) - before}


async def test_what_the_server_logs_is_heard_and_not_shown(app: FastAPI, capfd: pytest.CaptureFixture[str]) -> None:
    async with served(app) as client:
        statuses = [(await client.get("/wrong")).status_code for _ in range(3)]
    assert statuses == [500] * 3
    assert client.log == ["ValueError: the first line"] * 3
    assert capfd.readouterr().err == ""


async def test_a_client_that_leaves_is_gone_for_the_server() -> None:
    app, left = FastAPI(), threading.Event()

    async def words() -> AsyncIterator[str]:
        try:
            yield "word"
            await asyncio.Event().wait()
        finally:
            left.set()

    @app.get("/")
    async def stream() -> StreamingResponse:
        return StreamingResponse(words())

    async with served(app) as client:
        async with client.stream("GET", "/") as response:
            assert await anext(response.aiter_text()) == "word"
        assert await asyncio.to_thread(left.wait, 60)


async def test_a_server_that_was_told_to_stop_takes_no_more(app: FastAPI) -> None:
    async with served(app) as client:
        client.stop_server()
        with pytest.raises(httpx2.TransportError):
            while True:
                await client.get("/thread")


async def test_a_block_that_fails_waits_for_no_request() -> None:
    app, begun = FastAPI(), threading.Event()

    @app.get("/")
    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        async with served(app) as client:
            asking = asyncio.create_task(client.get("/"))
            await asyncio.to_thread(begun.wait, 60)
            raise ZeroDivisionError
    with pytest.raises(httpx2.HTTPError):
        await asking


async def test_an_app_that_does_not_start_says_why() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("no room")
        yield

    with pytest.raises(CourseError, match="did not start") as error:
        async with served(FastAPI(lifespan=lifespan)):
            pass
    assert "no room" in str(error.value)
