"""An app behind a real uvicorn in the judge's own loop, and a real client: what reaches a client, and when."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import httpx2
import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.instruments.network.door import LOCAL, SocketFolder
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import NotAttempted, Wrong
from course_lib.judging.quoting import article
from course_lib.judging.steps import Stepped

NUMBER = "x-request-number"  # a header by which an error is known to belong to a request
PATIENCE = 8.0  # seconds for a request; all of a scene's together have ``SECONDS``
SECONDS = 24.0  # what the judge does between them counts too, and a busy machine is slow at all of it
GOODBYE = 1.0  # seconds for what an answer that failed already still does
T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """A response as the client got it, whole."""

    status: int
    headers: httpx2.Headers
    text: str
    error: BaseException | None = None
    """What came out of the app, in place of a response of its own."""

    @property
    def json(self) -> Any:
        """What its body says; None where that is no JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def said(self) -> Any:
        """Its body as a message may show it."""
        return self.text if self.json is None else self.json

    @property
    def outcome(self) -> str:
        """Its status, and the error that it is the end of."""
        return f"{self.status}" if self.error is None else f"{self.status}, because of {article(self.error)}"


class Serving:
    """A running app, and a client that can leave in mid-stream. Made by ``serving``.

    Attributes:
        client: for requests whose errors the judge looks at itself.
        sent_whole: how many responses it has handed over to the last byte.
    """

    def __init__(self, attempt: Attempt, app: ASGIApp, folder: SocketFolder | None) -> None:
        self.attempt = attempt
        self.sent_whole = 0
        self._app, self._folder = app, folder
        self._errors: dict[str, BaseException] = {}
        self._numbers = count(1)
        self._running: list[str] = []
        self._one_has_ended = asyncio.Event()
        place = {"uds": str(folder.socket)} if folder is not None else {"host": LOCAL, "port": 0}
        self.server = uvicorn.Server(
            uvicorn.Config(
                self._watched, **place, interface="asgi3", ws="none", lifespan="on", log_config=None,
                access_log=False, proxy_headers=False,
            )
        )  # fmt: skip
        self.client: httpx2.AsyncClient

    async def open(self) -> None:
        """Start the app, and connect to it.

        Raises:
            Wrong: its lifespan failed to start.
        """
        config = self.server.config
        config.load()
        self.server.lifespan = config.lifespan_class(config)
        try:
            await self.server.startup()
        except SystemExit:
            error = self._errors.get("lifespan")
            if error is not None:
                raise self._raised("lifespan", error, time.monotonic()) from error
            raise Wrong("not started", "The app did not start: its lifespan failed.") from None
        if self._folder is not None:
            address, transport = "http://service", httpx2.AsyncHTTPTransport(uds=str(self._folder.socket), verify=False)
        else:
            port = self.server.servers[0].sockets[0].getsockname()[1]
            address, transport = f"http://{LOCAL}:{port}", httpx2.AsyncHTTPTransport(verify=False)
        self._known = asyncio.all_tasks()
        self.client = httpx2.AsyncClient(transport=transport, base_url=address, timeout=None, trust_env=False)

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app; what comes out of it is remembered under the number of its request."""

        async def sent(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            self.sent_whole += last
            await send(message)

        number = dict(scope.get("headers", ())).get(NUMBER.encode(), scope["type"].encode()).decode()
        self._running.append(number)
        try:
            await self._app(scope, receive, sent)
        except BaseException as error:
            self._errors.setdefault(number, error)
            raise
        finally:
            self._running.remove(number)
            self._one_has_ended.set()

    async def idle(self) -> None:
        """Wait until the app has nothing to do: background tasks are over, and what goes on without a client.

        Raises:
            Wrong: "endless", that does not come.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while set(self._running) - {"lifespan"}:
                    await self._end_of_one()
        except TimeoutError:
            sentence = f"The client had gone, and {PATIENCE:.0f} seconds later its request had not come to an end."
            raise Wrong("endless", sentence, "Look for an `await` on something that never comes.") from None

    async def _end_of_one(self) -> None:
        self._one_has_ended.clear()
        await self._one_has_ended.wait()

    def left_behind(self) -> list[asyncio.Task[Any]]:
        """Tasks of the app that go on although it has nothing to do. To be asked right after ``idle``."""
        new = asyncio.all_tasks() - self._known - {asyncio.current_task()}
        return [task for task in new if isinstance(task.get_coro(), Stepped) and hasattr(task.get_coro(), "cr_code")]

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        """One request, its response whole. Takes the options of httpx2, such as ``json`` and ``headers``.

        Raises:
            Wrong: "raised", an error came out of the app, which no handler had made a response of; "broken off", the
                response did not come to its end; "endless", not in time.
            NotAttempted: a route is not written yet.
        """
        async with self.streaming(method, path, **options) as response:
            await response.aread()
        return Reply(response.status_code, response.headers, response.text)

    async def ask_anyway(self, method: str, path: str, **options: Any) -> Reply:
        """As ``ask``; an error that came out of the app is a 500, as it is for any client."""
        try:
            return await self.ask(method, path, **options)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            return Reply(500, httpx2.Headers(), "", wrong.__cause__)

    @asynccontextmanager
    async def streaming(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx2.Response]:
        """A response that is read by and by. To leave the block is to leave the server alone with it.

        Raises:
            Wrong, NotAttempted: as ``ask``.
        """
        number, start = f"{next(self._numbers)}", time.monotonic()
        headers = {**options.pop("headers", {}), NUMBER: number}
        try:
            async with (
                asyncio.timeout(PATIENCE),
                self.client.stream(method, path, headers=headers, **options) as response,
            ):
                if response.status_code == 500 and (error := await self._error_of(number)):
                    raise self._raised(f"{method} {path}", error, start) from error
                yield response
        except TimeoutError:
            sentence = f"`{method} {path}` had not been answered to its end after {PATIENCE:.0f} seconds."
            raise Wrong("endless", sentence, "Look for an `await` on something that never comes.") from None
        except httpx2.TransportError as broken:
            if error := await self._error_of(number):
                raise self._raised(f"{method} {path}", error, start) from error
            sentence = f"The response to `{method} {path}` broke off: {str(broken).rstrip('.')}."
            look = "An error that comes after the first byte is no status code."
            raise Wrong("broken off", sentence, look) from broken

    async def _error_of(self, number: str) -> BaseException | None:
        """The response is sent before the error comes out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                while number in self._running:
                    await self._end_of_one()
        return self._errors.get(number)

    def _raised(self, name: str, error: BaseException, start: float) -> Wrong:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, NotImplementedError):
            raise NotAttempted from error
        wrong = self.attempt.raised(name, error, seconds=time.monotonic() - start)
        wrong.__cause__ = error
        return wrong

    async def close(self) -> None:
        """End the app, as at the end of a process that was told to stop."""
        await self.client.aclose()
        for server in self.server.servers:
            server.close()
        await self.server.lifespan.shutdown()

    async def abandon(self) -> None:
        """End it whatever it is at."""
        tasks = list(self.server.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GOODBYE)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self.close()


@asynccontextmanager
async def serving(attempt: Attempt, app: ASGIApp) -> AsyncIterator[Serving]:
    """``app`` behind a uvicorn that nobody else can reach, for the length of a block.

    Raises:
        Wrong: as ``Serving.open``.
    """
    folder = SocketFolder() if os.name != "nt" else None
    served = Serving(attempt, app, folder)
    try:
        with _quiet():
            await served.open()
            try:
                yield served
                await served.idle()
            except BaseException:
                await served.abandon()
                raise
            await served.close()
    finally:
        if folder is not None:
            folder.close()


async def in_service(attempt: Attempt, make_app: Callable[[], ASGIApp], scene: Callable[[Serving], Awaitable[T]]) -> T:
    """``scene`` with the app that ``make_app`` makes, within the limits that every call of the learner's code has.

    Raises:
        Wrong: what ``scene`` raised, or as ``attempt.call`` says it of ``make_app``.
    """

    async def run() -> T:
        async with serving(attempt, make_app()) as served:
            return await scene(served)

    run.__name__ = attempt.exercise.answer  # the name that a message gives
    outcome: T = await attempt.call(function=run)
    return outcome


def app_with(attempt: Attempt, router: Any) -> FastAPI:
    """An app with the router that the answer returned, and nothing else.

    Raises:
        Wrong: it is none.
    """
    if not isinstance(router, APIRouter):
        sentence = f"`{attempt.exercise.answer}` returned {article(router)}, and not an APIRouter."
        raise Wrong("no router", sentence, "Did you forget `return router`?")
    app = FastAPI()
    app.include_router(router)
    return app


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors that come out of the app are the judge's to tell, not uvicorn's."""
    logger = logging.getLogger("uvicorn.error")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def side_by_side(requests: Iterable[Awaitable[T]]) -> asyncio.Task[list[T]]:
    """Requests at once, as a task: a future of ``gather`` speaks on stderr of an error that nobody asks it for."""

    async def all_of_them() -> list[T]:
        return await asyncio.gather(*requests)

    return asyncio.create_task(all_of_them())


def in_json(body: Any) -> dict[str, Any]:
    """Options for a request with this body: in ASCII, so that it may hold half a surrogate pair."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}
