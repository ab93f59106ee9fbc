"""One try at an exercise: a fresh database, the learner's code kept on a leash, and what can be seen of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from secrets import choice
from types import MethodType
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.data.fresh import FreshDatabase
from course_lib.db import make_engine, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, Rows
from course_lib.instruments.network import Wire
from course_lib.judging.calling import PatientSession, Raised, name_of, result_of
from course_lib.judging.deadline import NeverEnds, Tasks, end, run_within
from course_lib.judging.exercise import Exercise, NotAttempted, Wrong
from course_lib.judging.quoting import article, sentence_of
from course_lib.judging.source import failing_line, foreign_frame, is_stub
from course_lib.judging.steps import Ended, OutOfTime
from course_lib.judging.trouble import (
    QUERY_CANCELED,
    Before,
    clear_away,
    explain,
    is_of_a_connection,
    is_of_the_server,
    look_before,
    sqlstate_of,
)
from course_lib.postgres.server import Connection

POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 2}  # of the learner's engine
STATEMENT_SECONDS = 3  # of the judge's own
WATCHERS = 20  # connections of the judge's own at once; it keeps one of them
ZONES = ("Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham")  # of the database: no server has to be on UTC
OWN_SETTINGS = {  # of the judge's own connections, whatever the database or the role have been set to
    "statement_timeout": f"{STATEMENT_SECONDS}s", "default_transaction_read_only": "off",
    "search_path": '"$user", public',
}  # fmt: skip
KEPT: dict[str, Any] = {  # of their engine: an answer may end a connection, or change what is in the database
    "pool_size": 1, "max_overflow": WATCHERS, "pool_pre_ping": True,
    "isolation_level": "AUTOCOMMIT",  # or each statement, and each ping, would take two more round trips
    "connect_args": {"timeout": 5, "server_settings": OWN_SETTINGS, "prepared_statement_cache_size": 0},
}  # fmt: skip


class Attempt:
    """What a judge works with.

    Attributes:
        answer: what the learner's cell defined: a function, a class, any value.
        url: the address of the attempt's own database for the learner's side. Whatever talks to it is logged.
        engine: the learner's engine, a pool of five on that address.
        log: what passed on that address during the last ``call``; it can be read while the call runs.
        admin: the connection that made the database, to the server's own.
        left_open: whether the answer still held connections when the attempt was closed.
        before: what was there before the answer was called, once the attempt is prepared.
        watchers: backends of the judge's own, those that have ended too.
    """

    def __init__(self, exercise: Exercise, answer: Any, database: FreshDatabase, admin: Connection) -> None:
        self.exercise = exercise
        self.answer = answer
        self.database = database
        self.admin = admin
        self.wire = Wire.open(database.url)
        self.url = self.wire.url
        self.engine: AsyncEngine = make_engine(self.url, **POOL)
        self.log = self.wire.log()
        self._observer = make_engine(database.url, **KEPT)
        self.watchers: set[int] = set()
        event.listen(self._observer.sync_engine, "connect", self._remember)
        self._seconds_left = exercise.seconds
        self._written: list[Any] = []
        self._called = False
        self._tasks = Tasks()
        self._short: list[BaseException] = []  # what the server said to be out of, to whomever
        self.before: Before | None = None
        self.left_open = False

    # -- the learner's side --------------------------------------------------------------------------------

    def session(self) -> AsyncSession:
        """A new session for the learner's code, on the learner's engine."""
        return PatientSession(self.engine, expire_on_commit=False)  # as make_session_factory makes them

    async def call(self, *arguments: Any, function: Callable[..., Any] | None = None, **named: Any) -> Any:
        """Call the answer (or ``function``, such as a method of it), log its statements, return what it returns.

        One call at a time: the clock that interrupts busy code and the log are the attempt's. To try an answer from
        several sessions at once, gather them inside one ``function``.

        Raises:
            Wrong: it raised, was no coroutine function, returned a coroutine, or did not come to an end.
            NotAttempted: it is still the stub.
        """
        target = self.answer if function is None else function
        written = target.__func__ if type(target) is MethodType else target  # a method is another object each time
        if not any(written is known for known in self._written):
            if is_stub(target):
                raise NotAttempted
            self._written.append(written)  # reading the source at every call would be a good part of a check
        if not callable(target):
            raise Wrong("not a function", f"`{self.exercise.answer}` is {article(target)}, not a function.")
        with self._listening(), self._clock():
            return await self._run(target, lambda: target(*arguments, **named))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """The wire is the witness; a QueryLog beside it, which is in the answer's reach, knows the lines of code."""
        lines = None
        with ExitStack() as stack:
            with suppress(Exception):
                lines = stack.enter_context(QueryLog(self.engine))
            with self.wire.log(lines) as self.log:
                yield
            with suppress(Exception):
                stack.close()

    def connections(self) -> int:
        """How many connections to the attempt's address are open now, whoever opened them."""
        return self.wire.connections()

    async def _run(self, target: Callable[..., Any], call: Callable[[], Any]) -> Any:
        self._called = True
        name, start = name_of(target, self.exercise.answer), time.monotonic()

        async def invoke() -> Any:
            try:
                return await result_of(target, call, name)
            except (Wrong, NotAttempted, CourseError, asyncio.CancelledError, OutOfTime, SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # pytest.fail, for one, raises no Exception
                raise Raised(error, sentence_of(error)) from error

        try:
            return await run_within(self._seconds_left, invoke, self._tasks)
        except NeverEnds:
            raise Wrong(
                "endless", f"`{name}` had not come to an end after {self.exercise.seconds:.0f} seconds.",
                "Look for a loop that never ends, or an `await` on something that never comes.",
            ) from None  # fmt: skip
        except Ended as ended:
            raise Wrong("ended", f"`{name}` tried to end the program.", failing_line(ended, self.answer)) from ended
        except Raised as raised:
            if isinstance(raised.error, NotImplementedError):
                raise NotAttempted from raised.error
            if is_of_the_server(raised.error):  # also of a driver that was used alone
                self._short.append(raised.error)
            raise self.raised(name, raised.error, raised.sentence, time.monotonic() - start) from raised.error

    def raised(self, name: str, error: BaseException, said: str = "", seconds: float = inf) -> Wrong:
        """The mistake of having raised ``error``, ``seconds`` after the call; ``said`` is what it says, if known."""
        where = failing_line(error, self.answer)
        if sqlstate_of(error) != QUERY_CANCELED:
            return Wrong("raised", f"`{name}` raised {(said or sentence_of(error)).rstrip('.')}.", where)
        limit = self.exercise.statement_seconds
        if seconds < limit / 2:
            return Wrong("stopped", f"A statement of `{name}` was cancelled before its time was over.", where)
        sentence = f"A statement of `{name}` ran, or waited for a lock, for {limit} seconds and was stopped."
        return Wrong("stopped", sentence, where)

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
        # where the role's own default had to be overridden in this database, only another such setting wins over that
        seconds = self.exercise.statement_seconds
        whose = "ROLE SESSION_USER IN " if "statement_timeout" in self.database.server.settings else ""
        limit = f"ALTER {whose}DATABASE \"{self.database.name}\" SET statement_timeout = '{seconds}s'"
        zone = f"ALTER {whose}DATABASE \"{self.database.name}\" SET timezone = '{choice(ZONES)}'"
        await self.admin.execute(f"{limit};{zone}")
        self.before = await look_before(self.database, self.admin)
        event.listen(Engine, "handle_error", self._note)

    def _remember(self, connection: Any, _: object) -> None:
        self.watchers.add(connection.driver_connection.get_server_pid())

    def _note(self, context: ExceptionContext) -> None:
        if is_of_the_server(context.original_exception):
            self._short.append(context.original_exception)

    async def sql(self, statement: str, **values: Any) -> Rows:
        """Run a statement of the judge's own, seen by no log, in a transaction of its own.

        Raises:
            Wrong: the answer has done something to the database, so that it fails.
            CourseError: the server lacks what it needs.
        """
        try:
            async with self._observer.connect() as connection:
                return Rows.of(await connection.execute(text(statement), values))
        except Exception as error:
            raise await self.explain(error) from error

    async def explain(self, error: Exception) -> Exception:
        """What an error of the judge's own means once the answer has been called: to be raised.

        That is the error itself where it is neither the answer's doing nor the server's.
        """
        if is_of_a_connection(error) and (self._called or is_of_the_server(error)):
            return await explain(error, self.database)
        if self._called and (home := foreign_frame(error)):
            name = self.exercise.answer
            return Wrong("raised", f"Looking at what `{name}` made raised {sentence_of(error).rstrip('.')}.", home)
        return error

    async def explain_shortage(self) -> None:
        """Nothing is judged where the server ran short of something on its own.

        Raises:
            Wrong: the answer has used it up.
            CourseError: it is nobody's fault.
        """
        if self._short:
            await self._hang_up()  # one connection to ask with
            raise await explain(self._short[0], self.database) from self._short[0]

    async def value(self, statement: str, **values: Any) -> Any:
        """The single value that ``statement`` returns, or None without a row."""
        rows = await self.sql(statement, **values)
        return rows[0][0] if rows else None

    def judge_session(self) -> AsyncSession:
        """A session of the judge's own, in transactions."""
        engine = AsyncEngine(self._observer.sync_engine.execution_options(isolation_level="READ COMMITTED"))
        return make_session_factory(engine)()

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

    def look_for_tasks(self) -> None:
        """Raise Wrong if something that the answer started goes on. To be asked before anything else is awaited."""
        if self._at_work():
            sentence = f"`{self.exercise.answer}` returned, and a task that it had started was still at work."
            raise Wrong("still at work", sentence, "Its caller goes on as if all were done: `await` what you start.")

    async def tasks_over(self) -> None:
        """Wait for tasks that the answer has left, as long as its time is not over."""
        if left := self._at_work():
            await asyncio.wait(left, timeout=self._seconds_left)

    def _at_work(self) -> list[asyncio.Task[Any]]:
        """Without those by which the event loop closes a generator that was left early."""
        left = [task for task in self._tasks if not (task.done() or task.cancelling())]
        return [task for task in left if hasattr(task.get_coro(), "cr_code")]

    async def _hang_up(self) -> None:
        await self.engine.dispose(close=self.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]

    async def close(self) -> list[str]:
        """Give everything back and drop the database, whatever state it is in; settings of the role put back."""
        if event.contains(Engine, "handle_error", self._note):
            event.remove(Engine, "handle_error", self._note)
        await end(self._tasks)
        self._written.clear()  # a function may hold on to what the answer left open, which is to be collected now
        self.left_open |= self.engine.pool.checkedout() > 0  # type: ignore[attr-defined]
        await self._hang_up()
        said = ""
        with suppress(CourseError):  # the relay may have lost track
            said = "\n".join(self.wire.traffic().texts)
            self.left_open |= self.wire.connections() > 0
        self.wire.close()
        await self._observer.dispose()
        return await clear_away(self.database, self.admin, self.before, said)
