"""One try at an exercise: a fresh database, the learner's code kept on a leash, and what can be seen of it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IllegalStateChangeError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import NullPool

from course_lib.data.fresh import FreshDatabase
from course_lib.db import make_engine, make_session_factory
from course_lib.exercises.deadline import Ended, NeverEnds, run_within
from course_lib.exercises.exercise import Exercise, NotAttempted, Wrong
from course_lib.exercises.source import failing_line, is_stub
from course_lib.instruments import QueryLog, Rows

POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 2}  # of the learner's engine
STATEMENT_SECONDS = 3
LEFT_BEHIND_SECONDS = 0.5  # for such a task to come to its end
GOODBYE_SECONDS = 2  # only a wrong answer makes us wait for so long
MISSING = {"42P01", "42703", "3F000", "42883"}  # SQLSTATEs: no such table, column, schema, function
QUERY_CANCELED = "57014"  # PostgreSQL's SQLSTATE for a statement stopped by statement_timeout


class _Session(AsyncSession):
    """Its closing bears with a task that the answer has left behind and that still uses it, as ``gather`` does."""

    async def close(self) -> None:
        patience = time.monotonic() + LEFT_BEHIND_SECONDS
        while time.monotonic() < patience:
            try:
                await super().close()
                break
            except (IllegalStateChangeError, InterfaceError):  # the session, or its connection, is in use
                await asyncio.sleep(0.01)


class Attempt:
    """What a judge works with.

    Attributes:
        answer: what the learner's cell defined: a function, a class, any value.
        engine: the learner's engine, a pool of five on the attempt's own database.
        log: the statements of the last ``call``.
    """

    def __init__(self, exercise: Exercise, answer: Any, database: FreshDatabase) -> None:
        self.exercise = exercise
        self.answer = answer
        self.database = database
        self.engine: AsyncEngine = make_engine(database.url, **POOL)
        self.log = QueryLog(self.engine)
        self._observer = make_engine(database.url, poolclass=NullPool, connect_args={"timeout": 10})
        self._seconds_left = exercise.seconds
        self._written: list[Any] = []

    # -- the learner's side --------------------------------------------------------------------------------

    def session(self) -> AsyncSession:
        """A new session for the learner's code, on the learner's engine."""
        return _Session(self.engine, expire_on_commit=False)  # as make_session_factory makes them

    async def call(self, *arguments: Any, function: Callable[..., Any] | None = None, **named: Any) -> Any:
        """Call the answer (or ``function``, such as a method of it), log its statements, return what it returns.

        One call at a time: the clock that interrupts busy code and the log are the attempt's. To try an answer from
        several sessions at once, gather them inside one ``function``.

        Raises:
            Wrong: it raised, was no coroutine function, returned a coroutine, or did not come to an end.
            NotAttempted: it is still the stub.
        """
        target = function or self.answer
        written = getattr(target, "__func__", target)  # a method is another object each time it is looked up
        if not any(written is known for known in self._written):
            if is_stub(target):
                raise NotAttempted
            self._written.append(written)  # reading the source at every call would be a good part of a check
        if not callable(target):
            raise Wrong("not a function", f"`{self.exercise.answer}` is {_article(target)}, not a function.")
        with QueryLog(self.engine) as self.log, self._clock():
            return await self._run(target, lambda: target(*arguments, **named))

    async def _run(self, target: Callable[..., Any], call: Callable[[], Any]) -> Any:
        name = _name(target, self.exercise.answer)
        awaited = [inspect.iscoroutinefunction(target)]

        async def invoke() -> Any:
            result = call()
            if isinstance(result, Awaitable):
                awaited[0] = True
                result = await result
            return result

        try:
            result = await run_within(self._seconds_left, invoke)
        except (Wrong, NotAttempted):
            raise
        except NeverEnds:
            raise Wrong(
                "endless", f"`{name}` had not come to an end after {self.exercise.seconds:.0f} seconds.",
                "Look for a loop that never ends, or an `await` on something that never comes.",
            ) from None  # fmt: skip
        except NotImplementedError as error:
            raise NotAttempted from error
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # pytest.fail, for one, raises no Exception
            raise self.raised(name, error) from error
        if isinstance(result, Awaitable):
            _discard(result)
            raise Wrong("forgotten await", f"`{name}` returned a coroutine: an `await` is missing before a call.")
        if not awaited[0] and inspect.isroutine(target):
            kind = "yields, and is to return" if inspect.isasyncgen(result) else "is a plain function"
            raise Wrong("not async", f"`{name}` {kind}; the database is awaited here.", "Write `async def`.")
        return result

    def raised(self, name: str, error: BaseException) -> Wrong:
        """The mistake of having raised ``error``, to be raised."""
        code = sqlstate_of(error)
        where = failing_line(error, self.answer)
        if code == QUERY_CANCELED:
            sentence = (
                f"A statement of `{name}` ran, or waited for a lock, for {STATEMENT_SECONDS} seconds and was stopped."
            )
            return Wrong("stopped", sentence, where)
        if isinstance(error, Ended):
            return Wrong("ended", f"`{name}` tried to end the program.", where)
        message = first_line(error)
        return Wrong("raised", f"`{name}` raised {type(error).__name__}" + (f": {message}" if message else "."), where)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds_left = max(0.1, self._seconds_left - (time.monotonic() - start))

    # -- the judge's side ----------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Put limits on every connection to the database, those of engines the learner makes too."""
        limit = f"ALTER DATABASE \"{self.database.name}\" SET statement_timeout = '{STATEMENT_SECONDS}s'"
        async with self._observer.begin() as connection:
            await connection.execute(text(limit))

    async def sql(self, statement: str, **values: Any) -> Rows:
        """Run a statement of the judge's own, seen by no log, and commit it.

        Raises:
            Wrong: the answer has dropped what the statement needs.
        """
        try:
            async with self._observer.begin() as connection:
                return Rows.of(await connection.execute(text(statement), values))
        except DBAPIError as error:
            if sqlstate_of(error) not in MISSING:
                raise
            sentence = f"After your answer the database is no longer whole: {first_line(error)}."
            raise Wrong("database broken", sentence, "Something was dropped or renamed.") from error

    async def value(self, statement: str, **values: Any) -> Any:
        """The single value that ``statement`` returns, or None without a row."""
        rows = await self.sql(statement, **values)
        return rows[0][0] if rows else None

    def judge_session(self) -> AsyncSession:
        """A session of the judge's own."""
        return make_session_factory(self._observer)()

    def wrong(self, mistake: str, /, **numbers: object) -> Wrong:
        """A mistake named in the exercise, to be raised."""
        return self.exercise.mistake(mistake, **numbers)

    def expect(self, right: bool, mistake: str, /, **numbers: object) -> None:
        """Raise the named mistake unless ``right``."""
        if not right:
            raise self.wrong(mistake, **numbers)

    def look_for_held_connections(self) -> None:
        """A right answer leaves no connection out of the pool.

        Raises:
            Wrong: it did.
        """
        held = self.engine.pool.checkedout()  # type: ignore[attr-defined]
        if held:
            raise Wrong(
                "connection held", f"{held} connection(s) were not given back to the pool.",
                "Open sessions and connections with `async with`.",
            )  # fmt: skip

    async def look_for_leftovers(self) -> None:
        """A right answer leaves no connection out of the pool and no transaction open.

        Raises:
            Wrong: it did.
        """
        self.look_for_held_connections()
        await self.engine.dispose()
        others = await self._connections_left()
        if any("transaction" in (state or "") for state in others.column("state")):
            raise Wrong("transaction open", "A transaction was left open.", "Commit or roll back before returning.")
        if len(others):
            raise Wrong(
                "own engine", f"{len(others)} connection(s) of an engine of your own were left open.",
                "Use the session you are given, or `await engine.dispose()`.",
            )  # fmt: skip

    async def _connections_left(self) -> Rows:
        """Who is still connected. The server takes a moment to see a closed connection off."""
        patience = time.monotonic() + GOODBYE_SECONDS
        while True:
            others = await self.sql(
                "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            )
            if not len(others) or time.monotonic() > patience:
                return others
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Give everything back and drop the database, whatever state it is in."""
        await self.engine.dispose(close=self.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
        await self._observer.dispose()
        await self.database.drop()


def _name(target: Any, otherwise: str) -> str:
    return str(getattr(target, "__name__", otherwise))


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE that an error carries, None for one that is not the server's."""
    code: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return code


def first_line(error: BaseException) -> str:
    """What the server or Python says of an error, on one line and without the driver's class."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    text = lines[0] if lines else ""
    return text.rpartition(": ")[2] if text.startswith("<class") else text


def _discard(result: Any) -> None:
    close = getattr(result, "close", None)
    if close is not None:
        close()
