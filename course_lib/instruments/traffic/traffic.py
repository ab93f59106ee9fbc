"""The traffic itself: it begins before the block, ends after it, and tells what was seen."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError
from course_lib.instruments.traffic.child import Child, Told
from course_lib.instruments.traffic.record import Kind, Lane, Record, SeenLock, SeenStatement, read
from course_lib.instruments.traffic.rendering import render_html, render_text
from course_lib.postgres.address import libpq_uri
from course_lib.postgres.lost import lost_server

if TYPE_CHECKING:
    from course_lib.instruments.pictures import Picture

BASELINE_SECONDS = 0.4  # of work before the block
PATIENCE = 1.0  # seconds that a worker may still wait after the block
SILENCE = 60.0  # seconds until the process with the workers is given up
Workers = int | Mapping[str, str]


class Traffic:
    """Readers, writers and inserters at work on a table while a block runs.

    ``async with Traffic(engine, "messages") as traffic:`` and in the block anything that is done to the table,
    from this process or another. Readers read a row by its key, with every column by name; writers set a column of a
    row to what it is; inserters copy a row under a new key, and the copies stay. They know the columns that there were
    when the block began, as a program does that was written before. Each request is a transaction of its own.

    Every worker has a connection of its own, in a process of its own, so that it neither waits for what the block
    computes nor takes a connection of the engine's pool. Before the block they work for a moment alone: ``baseline``.

    Args:
        engine: says where the database is; an AsyncEngine or an Engine.
        table: its name, with its schema where that is not on the search path.
        readers: how many, or statements of your own by name: ``{"old version": "SELECT … WHERE id = :id"}``. A value
            named as a column of the primary key is that of some row; ``:number`` is another one in each request.
        writers: likewise.
        inserters: likewise.

    Raises:
        CourseError: what was given is no engine, or no worker; and on entering the block: there is no such table, it
            is locked, or no worker can be made for it.
    """

    def __init__(
        self,
        engine: AsyncEngine | Engine,
        table: str,
        *,
        readers: Workers = 1,
        writers: Workers = 1,
        inserters: Workers = 1,
    ) -> None:
        if not isinstance(engine, AsyncEngine | Engine):
            raise CourseError(
                f"Traffic goes to an engine's database, and {type(engine).__name__} is none.",
                'Write: async with Traffic(engine, "messages") as traffic:',
            )
        if not isinstance(table, str):
            raise CourseError("Traffic takes the table's name.", 'Write: Traffic(engine, "messages")')
        self.table = table
        self._workers = [*_workers("reader", readers), *_workers("writer", writers), *_workers("inserter", inserters)]
        names = [(worker["name"], worker["kind"]) for worker in self._workers]
        if not names or len({name for name, _ in names}) < len(set(names)):
            raise CourseError("Workers need names of their own, and there must be one.", "Write: readers=1, writers=1")
        self._dsn = libpq_uri(engine.url)
        self._child: Child | None = None
        self._record: Record | None = None
        self._leaving: asyncio.Task[CourseError | None] | None = None

    async def __aenter__(self) -> Traffic:
        if self._child is not None:
            raise CourseError("Traffic is for one block.", "Make another: async with Traffic(…) as traffic:")
        job = {
            "dsn": self._dsn, "application_name": f"traffic {secrets.token_hex(4)}", "table": self.table,
            "workers": self._workers, "baseline_seconds": BASELINE_SECONDS, "patience": PATIENCE,
        }  # fmt: skip
        try:
            self._child = Child(job)
        except OSError as error:
            raise CourseError(
                f"The traffic's process cannot be started: {error.strerror}.", "Run the cell again."
            ) from error
        try:
            said = await _told(self._child.ready)
            if said is None or "refused" in said:
                raise lost_server() or CourseError(*(said["refused"] if said else _gone(self._child)))
        except BaseException:
            self._child.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._leaving = asyncio.create_task(self._leave())
        failure = await asyncio.shield(self._leaving)  # a second interrupt does not stop it
        if failure is not None and error is None:
            raise failure

    async def _leave(self) -> CourseError | None:
        """Take what was seen; or why nothing was."""
        assert self._child is not None
        try:
            self._child.stop()
            said = await asyncio.wait_for(_told(self._child.record), SILENCE)
            if said is None:
                return CourseError(*_gone(self._child))
            self._record = read(said)
            return None
        except TimeoutError:
            return CourseError(f"The process with the traffic said nothing for {SILENCE:.0f} seconds.", _AGAIN)
        finally:
            self._child.close()

    # what was seen, by the workers' names

    @property
    def record(self) -> Record:
        """Everything, request by request.

        Raises:
            CourseError: the block has not ended.
        """
        if self._record is None:
            raise CourseError("Nothing is known until the block has ended.", "Ask below the block.")
        return self._record

    @property
    def is_over(self) -> bool:
        """True when the block has ended, and what was seen is known."""
        return self._record is not None

    @property
    def seconds(self) -> float:
        """How long the block took."""
        return self.record.ended

    @property
    def requests(self) -> dict[str, int]:
        """How many there were."""
        return {name: sum(len(lane.during) for lane in lanes) for name, lanes in self._by_name().items()}

    @property
    def longest_wait(self) -> dict[str, float]:
        """Seconds of the request that took longest, whatever it waited for and however it ended."""
        return {name: max(self.waits_of(name), default=0.0) for name in self._by_name()}

    @property
    def longest_lock_wait(self) -> dict[str, float]:
        """The same of those alone that stood at a lock, as the server told; 0 where none was seen to.

        What a busy machine adds to every request is not in it, nor is a lock of a few milliseconds.
        """
        return {
            name: max((r.seconds for lane in lanes for r in lane.during if r.at_lock), default=0.0)
            for name, lanes in self._by_name().items()
        }

    @property
    def baseline(self) -> dict[str, float]:
        """Seconds of the request that took longest before the block."""
        return {
            name: max((r.seconds for lane in lanes for r in lane.before), default=0.0)
            for name, lanes in self._by_name().items()
        }

    @property
    def errors(self) -> dict[str, Counter[str]]:
        """How many requests failed with which SQLSTATE."""
        return {
            name: Counter(r.failure for lane in lanes for r in lane.during if r.failure is not None)
            for name, lanes in self._by_name().items()
        }

    def waits_of(self, name: str) -> list[float]:
        """Seconds of each request, in their order."""
        lanes = self._by_name().get(name)
        if lanes is None:
            raise CourseError(f"There is no {name!r} in this traffic.", f"There is: {', '.join(self._by_name())}")
        requests = [request for lane in lanes for request in lane.during]
        return [request.seconds for request in sorted(requests, key=lambda request: request.began)]

    @property
    def statements(self) -> list[SeenStatement]:
        """What other sessions ran in this database while the block did, as far as the server was seen to."""
        return list(self.record.statements)

    @property
    def locks(self) -> list[SeenLock]:
        """Their locks on the table, held and waited for, as far as they were seen."""
        return list(self.record.locks)

    def _by_name(self) -> dict[str, list[Lane]]:
        found: dict[str, list[Lane]] = {}
        for lane in self.record.lanes:
            found.setdefault(lane.name, []).append(lane)
        return found

    # how it looks

    def __str__(self) -> str:
        return render_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render_html(self)

    def plot(self, title: str | None = None, seconds: float | None = None) -> Picture:
        """The workers as lanes over time, and below them the other sessions' statements and locks.

        Args:
            title: what stands above.
            seconds: where the clock ends, for pictures that are compared; by default with the last request.
        """
        from course_lib.instruments.traffic.picture import draw

        return draw(self, title, seconds)


_AGAIN = "Run the cell again."


def _gone(child: Child) -> tuple[str, str]:
    words = child.last_words()
    return "The process with the traffic has ended, and nothing was seen" + (f": {words}" if words else "."), _AGAIN


def _workers(kind: Kind, given: Workers) -> list[dict[str, Any]]:
    if isinstance(given, Mapping):
        return [{"name": name, "kind": kind, **_statement(name, sql)} for name, sql in given.items()]
    if not isinstance(given, int):
        raise CourseError(
            f"{kind}s is a number, or statements by name.", f'Write: {kind}s=2, or {kind}s={{"{kind}": "…"}}'
        )
    return [{"name": kind, "kind": kind, "sql": None, "values": []} for _ in range(given)]


def _statement(name: str, sql: object) -> dict[str, Any]:
    """Numbered values, as the server knows them."""
    if not isinstance(sql, str):
        raise CourseError(
            f"The statement of {name!r} is SQL in a text; {type(sql).__name__} cannot go to another process.",
            'Write: readers={"reader": "SELECT title FROM documents WHERE id = :id"}',
        )
    compiled = text(sql).compile(dialect=asyncpg_dialect())  # type: ignore[no-untyped-call]
    return {"sql": str(compiled), "values": list(compiled.positiontup or ())}


async def _told(future: Future[Told]) -> Told:
    """Cancelling who waits for it does not cancel what is waited for."""
    return await asyncio.shield(asyncio.wrap_future(future))
