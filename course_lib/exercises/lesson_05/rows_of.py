"""5.4: a connection that comes back, however its reader leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg
import psycopg
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError

from course_lib.instruments import PoolGauge
from course_lib.judging.asking import small_pool, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.foreign import plain
from course_lib.judging.held import held_now, out_of
from course_lib.judging.quoting import article, kind_of

ROWS, READ_AHEAD = 50_000, 20_000  # of the long answer, and of that what a stream may have fetched after three rows
ENOUGH, TURNS = 3, 15  # rows that a reader takes before it leaves, and looks in which nothing more is fetched
PATIENCE = 1.0  # seconds for a connection to come back; only a wrong answer makes us wait for so long
SERIES = text(f"SELECT n, 'row ' || n AS name FROM generate_series(1, {ROWS}) AS n")
FEW = text("SELECT n, n * n AS square FROM generate_series(1, 5) AS n")
FAILING = text(f"SELECT n, 1 / ({READ_AHEAD // 8} - n) AS share FROM generate_series(1, {ROWS}) AS n")
REFUSED = text("SELECT n FROM rows_that_are_not_there")
LOCKED = text("SELECT n FROM waiting_room")  # it waits before there is any row, and before there is a cursor
LOCK = text("LOCK TABLE waiting_room IN ACCESS EXCLUSIVE MODE")


class ReaderFailed(Exception):
    """What the judge's reader raises in the middle of the rows."""


class RowsOf(Exercise):
    """Two blocks, entered in order and left in order."""

    id = "5.4"
    title = "The connection that never comes back"
    answer = "rows_of"
    minutes = 10
    points = 2
    level = "mid"
    recipe = "empty"
    hints: ClassVar = (
        "`__aexit__` is not called when `__aenter__` raised, or was cancelled. Which of its lines can fail after the "
        "connection is there?",
        "`contextlib.asynccontextmanager` makes a context manager of an async generator with one `yield`. Everything "
        "that it has open in `async with` is closed when the block is left, whichever way.",
        "`engine.connect()` is an async context manager, and `connection.stream(statement)` is one too: the result.",
    )
    why = (
        "Whatever is opened is opened by an `async with`, from the first line on, and nothing else can happen between "
        "opening and being guarded. Then an error, a `break`, a `return` and a cancelled task all leave by the same "
        "door. The result is closed before the connection goes back, so that the next one does not find an open cursor."
    )
    follow_up = (
        "An export is read by a slow client for ten minutes. The connection always comes back. What is bad still?"
    )
    mistakes: ClassVar = {
        "not a context manager": "`rows_of` gave {kind}, and `async with` cannot enter that. "
        "| `@asynccontextmanager`, or a class with `__aenter__` and `__aexit__`.",
        "no rows": "What `async with` gave is {kind}, and `async for` cannot read rows from it. "
        "| The result of `connection.stream(…)`.",
        "wrong rows": "A statement of {n} rows gave {got}. | The rows as they come, none of them read before.",
        "read everything": "The reader had taken 3 rows, and {fetched} of {n} had been fetched. "
        "| `connection.stream(…)` fetches in portions, `execute` everything. Fetch no more than is asked for.",
        "read the rest": "The reader left after 3 rows, and when the block was left {fetched} of {n} had been fetched. "
        "| Who wants no more rows need not wait for them. Close the result as it is.",
        "kept at the end": "All rows were read, the block was left, and the connection did not come back. "
        "| Who closes it?",
        "kept after break": "The reader left the loop with `break`, and the connection did not come back. "
        "| The end of the rows is not the end of the block.",
        "kept after an error": "An error was raised in the block, and the connection did not come back. "
        "| An error is raised at the `yield`: what stands after it needs `finally`, or `async with`.",
        "kept after a failure": "The server failed in the middle of the rows, and the connection did not come back. "
        "| The error is raised where the next row is asked for, which is inside of the block.",
        "kept after a refusal": "The server refused the statement, and the connection did not come back. "
        "| `__aexit__` is not called when entering fails.",
        "kept after a cancel": "{what}, and the connection did not come back. "
        "| CancelledError is no `Exception`, and it comes at any `await`.",
        "late": "{what}, and the connection was still out then; it came back afterwards. "
        "| Who waits for it? `await` what closes it, in the block's own task.",
        "another engine": "{what}, the pool had all its connections, and {count} more were open at the server. "
        "| The connection is to come from `engine`.",
        "error swallowed": "{what}, and the code after the block went on as if nothing had happened. "
        "| The error has to reach the caller: no `return True`, and no `except` that ends it.",
        "unusable": "{how}, and the next statement on the pool's only connection failed with {error}. "
        "| Was everything closed before the connection went back?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql("CREATE TABLE waiting_room (n int)")
        async with small_pool(attempt, 1):
            for leaving in WAYS:
                await self._leaves(attempt, leaving)

    async def _leaves(self, attempt: Attempt, leaving: Leaving) -> None:
        visit, out = Visit(attempt), 0

        async def scene() -> None:
            nonlocal out
            try:
                await leaving.reader(visit)
            except leaving.errors as error:
                visit.error = error  # and what it refers to, so that nothing is tidied by chance
            out = gauge.still_out  # before anybody else gets a turn

        scene.__name__ = self.answer  # the name that a message gives
        with PoolGauge(attempt.engine) as gauge:
            await attempt.call(function=scene)
            attempt.expect(visit.fetched <= READ_AHEAD, "read everything", fetched=visit.fetched, n=ROWS)
            attempt.expect(not visit.besides, "another engine", what="While rows were read", count=visit.besides)
            if visit.fetched:
                fetched = attempt.log.received
                attempt.expect(fetched <= READ_AHEAD, "read the rest", fetched=fetched, n=ROWS)
            await _until_back(gauge)
        attempt.expect(not gauge.still_out and not gauge.lost, leaving.mistake, what=leaving.what)
        attempt.expect(not out or leaving.may_be_late, "late", what=leaving.what)
        besides = await held_now(attempt)
        attempt.expect(not besides, "another engine", what=leaving.what, count=besides)
        swallowed = leaving.errors != () and visit.error is None
        attempt.expect(not swallowed, "error swallowed", what=leaving.what)
        await self._next_one(attempt, leaving.what)

    async def _next_one(self, attempt: Attempt, how: str) -> None:
        """The pool's only connection serves whoever comes next."""
        try:
            async with attempt.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise attempt.wrong("unusable", how=how, error=kind_of(error.orig)) from error


class Visit:
    """One use of the answer. It keeps what it was given: nothing of that goes away by itself."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.fetched = 0
        """Rows that had been fetched when the reader had a few and took its time."""
        self.besides = 0
        """Connections that were open then, if none of the pool's was in use."""
        self.error: BaseException | None = None
        self.kept: list[Any] = []

    def enter(self, statement: TextClause) -> Any:
        """The answer's context manager."""
        manager = self.attempt.answer(self.attempt.engine, statement)
        if not hasattr(manager, "__aenter__") or not hasattr(manager, "__aexit__"):
            kind = "a coroutine" if asyncio.iscoroutine(manager) else article(manager)
            if asyncio.iscoroutine(manager):
                manager.close()
            raise self.attempt.wrong("not a context manager", kind=kind)
        self.kept.append(manager)
        return manager

    def rows(self, given: Any) -> Any:
        """What the block was given, to be read with ``async for``."""
        self.attempt.expect(hasattr(given, "__aiter__"), "no rows", kind=article(given))
        self.kept.append(given)
        return given


async def _reads_all(visit: Visit) -> None:
    got: list[Any] = []
    async with visit.enter(FEW) as given:
        async for row in visit.rows(given):
            got.append(plain(row, visit.attempt.exercise.answer))
    values = [tuple(row.values()) if isinstance(row, Mapping) else _values(row) for row in got]
    wanted = [(n, n * n) for n in range(1, 6)]
    visit.attempt.expect(values == wanted, "wrong rows", n=len(wanted), got=f"{len(got)}, such as {got[:1]}")


def _values(row: Any) -> Any:
    return tuple(row) if isinstance(row, Sequence) and not isinstance(row, str) else row


async def _breaks(visit: Visit) -> None:
    took = 0
    async with visit.enter(SERIES) as given:
        async for _ in visit.rows(given):
            took += 1
            if took == ENOUGH:
                visit.fetched = await _fetched_in_the_end(visit.attempt)
                visit.besides = 0 if out_of(visit.attempt.engine) else await held_now(visit.attempt)
                break


async def _fetched_in_the_end(attempt: Attempt) -> int:
    """How many rows are fetched while nobody asks for more: as many as one who reads ahead wants."""
    fetched, quiet = attempt.log.received, 0
    while quiet < TURNS and fetched <= READ_AHEAD:
        await asyncio.sleep(0.001)
        quiet = quiet + 1 if attempt.log.received == fetched else 0
        fetched = attempt.log.received
    return fetched


async def _fails(visit: Visit) -> None:
    async with visit.enter(SERIES) as given:
        async for _ in visit.rows(given):
            raise ReaderFailed


async def _is_refused(visit: Visit) -> None:
    async with visit.enter(REFUSED) as given:
        async for _ in visit.rows(given):
            pass


async def _fails_on_the_way(visit: Visit) -> None:
    async with visit.enter(FAILING) as given:
        async for _ in visit.rows(given):
            pass


async def _is_cancelled_inside(visit: Visit) -> None:
    inside = asyncio.Event()

    async def read() -> None:
        async with visit.enter(SERIES) as given:
            async for _ in visit.rows(given):
                inside.set()
                await asyncio.Event().wait()

    reader, waiting = asyncio.ensure_future(read()), asyncio.ensure_future(inside.wait())
    await asyncio.wait({reader, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await _cancel(reader)


async def _is_cancelled_asking(visit: Visit) -> None:
    async def read() -> None:
        async with visit.enter(LOCKED) as given:
            async for _ in visit.rows(given):
                pass

    async with visit.attempt.judge_session() as other:
        await other.execute(LOCK)
        reader = asyncio.ensure_future(read())
        await until_blocked(visit.attempt, reader, 1)
        await _cancel(reader)


async def _is_cancelled_leaving(visit: Visit) -> None:
    """At the first ``await`` after the block. Whether the reader ends as cancelled is open: it had all it wanted."""

    async def read() -> None:
        async with visit.enter(SERIES) as given:
            async for _ in visit.rows(given):
                break
            reader.cancel()

    reader = asyncio.ensure_future(read())
    await asyncio.wait({reader})
    if not reader.cancelled() and (error := reader.exception()) is not None:
        raise error


async def _cancel(reader: asyncio.Task[None]) -> None:
    """Cancel the reader, and end as it does."""
    reader.cancel()
    await asyncio.wait({reader})
    if reader.cancelled():
        raise Cancelled
    if (error := reader.exception()) is not None:
        raise error


class Cancelled(Exception):
    """The reader's task ended as a cancelled one."""


@dataclass(frozen=True)
class Leaving:
    """A way to leave the block, what it is called, and the errors one of which the caller is to see."""

    what: str
    mistake: str
    reader: Callable[[Visit], Awaitable[None]]
    errors: tuple[type[BaseException], ...] = ()
    may_be_late: bool = False


OF_THE_SERVER = (DBAPIError, asyncpg.PostgresError, psycopg.Error)  # also as the driver raises it, in mid-stream
WAYS = (
    Leaving("The block was left at the end", "kept at the end", _reads_all),
    Leaving("The loop was left with break", "kept after break", _breaks),
    Leaving("An error was raised in the block", "kept after an error", _fails, (ReaderFailed,)),
    Leaving("The server refused the statement", "kept after a refusal", _is_refused, OF_THE_SERVER),
    Leaving("The server failed in the middle of the rows", "kept after a failure", _fails_on_the_way, OF_THE_SERVER),
    Leaving("The task was cancelled in the block", "kept after a cancel", _is_cancelled_inside, (Cancelled,)),
    Leaving("The task was cancelled while it asked", "kept after a cancel", _is_cancelled_asking, (Cancelled,)),
    Leaving("The task was cancelled while it left", "kept after a cancel", _is_cancelled_leaving, may_be_late=True),
)  # fmt: skip


async def _until_back(gauge: PoolGauge) -> None:
    """A connection may come back a moment late, from a task of its own."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE
    while gauge.still_out and clock() < deadline:  # noqa: ASYNC110 - a gauge has no event to wait for
        await asyncio.sleep(0.005)
