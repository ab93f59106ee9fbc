"""The X-ray itself: it stands around the app, and listens to the engine and the model's client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.instruments.pool import Recorder, record_each
from course_lib.instruments.query_log import QueryLog, listening, log_each
from course_lib.instruments.stage.attribution import pid_of
from course_lib.service.running import Service
from course_lib.service.xray.calls import record_calls
from course_lib.service.xray.locks import watch_locks
from course_lib.service.xray.record import Kept, Record, Running

HEADER = "X-Request-Id"
OWN = "/xray"
DISTANCE = "<=>"  # pgvector's sign: a statement that has it is a search
OF_EACH, USERS = 40, 50  # requests that are kept of a user, and users of whom any are

current: ContextVar[Record | None] = ContextVar("current_request", default=None)
"""The request this task works for. Tasks that it makes inherit it, and so do SQLAlchemy's greenlets."""


class XRay:
    """Watches the requests of one app, from the moment its lifespan begins."""

    def __init__(self) -> None:
        self._engine: AsyncEngine | None = None
        self._under_way: dict[str, Record] = {}
        self._kept = Kept(OF_EACH, USERS)

    @asynccontextmanager
    async def watching(self, service: Service) -> AsyncIterator[None]:
        """For the length of a block."""
        self._engine = engine = service.engine
        with (
            log_each(engine, _log), record_each(engine, _connections), listening(engine, LISTENERS),
            record_calls(service.client, current.get),
        ):  # fmt: skip
            async with watch_locks(engine, self._under_way.values):
                yield

    async def request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let ``app`` answer, and keep what happens meanwhile."""
        assert self._engine is not None
        record = Record(scope, self._engine.pool)
        self._under_way[record.id] = record
        token = current.set(record)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)[HEADER] = record.id
            elif message.get("body") and record.first_byte is None:
                record.first_byte = record.now()
            await send(message)

        try:
            await app(scope, receive, sent)
        except Exception:
            record.status = record.status or 500  # which is sent by what stands around
            raise
        finally:
            current.reset(token)
            del self._under_way[record.id]
            record.end()
            self._kept.add(record)

    def of(self, owner: UUID) -> dict[str, Record]:
        """The user's own requests by id, oldest first, those under way last."""
        under_way = {key: record for key, record in self._under_way.items() if record.owner == owner}
        return self._kept.of(owner) | under_way


class Watched:
    """Around the whole app. The X-ray's own requests are not looked at."""

    def __init__(self, app: ASGIApp, xray: XRay) -> None:
        self.app, self._xray = app, xray

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path == OWN or path.startswith(f"{OWN}/"):
            await self.app(scope, receive, send)
        else:
            await self._xray.request(self.app, scope, receive, send)


def _log() -> QueryLog | None:
    record = current.get()
    return None if record is None else record.log


def _connections() -> Recorder | None:
    record = current.get()
    return None if record is None else record.connections


def _asked(connection: Connection, statement: Any, many: Any, one: Mapping[str, Any], options: Any) -> None:
    record = current.get()
    if record is not None and isinstance(statement, TextClause) and DISTANCE in statement.text:
        record.search = (statement, dict(one))


def _sent(connection: Connection, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
    if (record := current.get()) is not None:
        pid = pid_of(connection.connection.driver_connection)
        record.running[id(context)] = Running(pid, record.now())


def _answered(connection: Connection, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
    if (record := current.get()) is not None:
        record.running.pop(id(context), None)


def _failed(context: ExceptionContext) -> None:
    if (record := current.get()) is not None:
        record.running.pop(id(context.execution_context), None)


LISTENERS: list[tuple[str, Callable[..., None]]] = [
    ("before_execute", _asked), ("before_cursor_execute", _sent), ("after_cursor_execute", _answered),
    ("handle_error", _failed),
]  # fmt: skip
"""Which statement is the search, and on which process of the server a statement runs."""
