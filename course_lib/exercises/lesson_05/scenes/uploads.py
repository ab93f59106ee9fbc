"""The uploads of 5.6: requests whose session is closed, and work that answers when it is told to."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import Callable
from secrets import choice, randbelow, token_hex
from time import perf_counter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.db import make_engine, make_session_factory
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import article, kind_of

PATIENCE = 2.0  # seconds; only a wrong answer makes us wait for so long
TURNS = 20  # of the event loop: more than a task needs to begin
A_MOMENT = 0.03  # seconds, for a task that pauses before it does
THE_REST = 0.3  # seconds, for what is stored in another transaction than the status
DOCUMENT = "SELECT id, status, meta, error, title FROM documents WHERE user_id = :user AND source = :source"
TAKEN = "INSERT INTO documents (user_id, source, title) VALUES (:user, :source, 'Already here')"


class Work:
    """The slow part, as the learner's code sees it: a call that answers when the judge says so.

    What it waits for is referred to by nobody but its own task, as an answer from the network may be: so the garbage
    collector takes the task if the learner's code does not hold it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.title = f"Upload {token_hex(3)}"
        self.request: asyncio.Task[Any] | None = None
        self.given: list[Any] = []
        self.called = asyncio.Event()
        self.by_the_request = False
        self._waits: list[weakref.ref[asyncio.Future[Any]]] = []

    async def process(self, document_id: Any) -> Any:
        self.given.append(document_id)
        self.by_the_request = self.by_the_request or asyncio.current_task() is self.request
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waits.append(weakref.ref(answer))
        self.called.set()
        return await answer

    @property
    def lost(self) -> bool:
        return any(wait() is None for wait in self._waits)

    def answer(self, result: dict[str, Any] | Exception) -> None:
        for wait in self._waits:
            answer = wait()
            if answer is not None and not answer.done():
                answer.set_exception(result) if isinstance(result, Exception) else answer.set_result(result)


class Uploads:
    """Uploads, what became of them, and what their tasks did that they should not."""

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self.attempt = attempt
        self.user = user
        self.engine = make_engine(attempt.url, **POOL)
        self.moved: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Tasks other than the request's that have come to the database."""
        self.too_early = False
        self.on_its_session = False

    async def run(self) -> None:
        before = asyncio.all_tasks()
        for engine in (self.attempt.engine, self.engine):
            event.listen(engine.sync_engine, "do_connect", self._moves)
            event.listen(engine.sync_engine, "before_cursor_execute", self._moves)
            event.listen(engine.sync_engine, "commit", self._commits)
        try:
            await self._two_that_overlap()
            await self._one_that_is_refused()
        finally:
            left = asyncio.all_tasks() - before
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.engine.dispose(close=self.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]

    # -- what is tried -------------------------------------------------------------------------------------

    async def _two_that_overlap(self) -> None:
        """Both are at work at the same time; then the second one succeeds, and the first one fails."""
        first, second = (Work(f"upload/{token_hex(4)}") for _ in range(2))
        for work in (first, second):
            await self._upload(work)
            await self._is_at_work(work)
        gc.collect()
        self.attempt.expect(not (first.lost or second.lost), "task lost")
        await self._succeeds(second)
        await self._fails(first)

    async def _upload(self, work: Work) -> None:
        """A request: its session is closed when the handler has returned."""
        self.work = work
        self.moved.clear()
        async with self.attempt.session() as session:
            event.listen(session.sync_session, "after_begin", self._begins)
            try:
                said = await self._handle(session, work)
            finally:
                event.remove(session.sync_session, "after_begin", self._begins)
                event.listen(session.sync_session, "after_begin", self._begins_again)
        self.attempt.expect(not self.too_early, "started too early")
        stored = await self._stored(work)
        self.attempt.expect(stored is not None, "not stored")
        assert stored is not None
        self.attempt.expect(said is not None, "nothing returned")
        self.attempt.expect(said == stored[0], "another value", kind=article(said))
        self.attempt.expect(stored[4] == work.title, "wrong title", given=work.title, title=stored[4])

    async def _handle(self, session: AsyncSession, work: Work) -> Any:
        """What the handler returned. It is given up when it waits for ``process``."""

        async def handle() -> Any:
            work.request = asyncio.current_task()
            arguments = session, make_session_factory(self.engine), self.user, work.source, work.title, work.process
            answered = self.attempt.answer(*arguments)
            return await answered if inspect.isawaitable(answered) else answered

        request = asyncio.ensure_future(handle())
        called = asyncio.ensure_future(work.called.wait())
        try:
            await asyncio.wait({request, called}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done() and not work.by_the_request:
                await asyncio.wait({request}, timeout=PATIENCE)
            self.attempt.expect(request.done(), "waited for")
            return request.result()
        finally:
            for task in (request, called):
                task.cancel()
            await asyncio.gather(request, called, return_exceptions=True)

    async def _is_at_work(self, work: Work) -> None:
        """The handler has returned, its session is closed, and ``process`` has not answered yet."""
        try:
            await asyncio.wait_for(work.called.wait(), PATIENCE)
        except TimeoutError:
            raise self.attempt.wrong("request's session" if self.on_its_session else "never started") from None
        stored = await self._stored(work)
        assert stored is not None
        given = work.given[0]
        self.attempt.expect(given == stored[0], "not an id", kind=article(given))
        self.attempt.expect(len(work.given) == 1, "called twice", calls=len(work.given))
        self.attempt.expect(stored[1] == "processing", "wrong status", status=stored[1])
        self._uses_its_own_session()
        held = self.engine.pool.checkedout()  # type: ignore[attr-defined]
        self.attempt.expect(held == 0, "connection held", held=held)

    async def _succeeds(self, work: Work) -> None:
        result = {"pages": 1 + randbelow(90), "language": choice(["de", "en", "pt"])}
        work.answer(result)
        status, meta, _ = await self._outcome(work, lambda status, meta, _: (status, meta) == ("ready", result))
        self.attempt.expect(status != "processing", "never finished", seconds=PATIENCE, status=status)
        right = (status, meta) == ("ready", result)
        self.attempt.expect(right, "result not stored", result=result, status=status, meta=meta or "nothing")

    async def _fails(self, work: Work) -> None:
        error = RuntimeError(f"the model is away, ask for {token_hex(3)}")
        work.answer(error)
        status, _, stored = await self._outcome(work, lambda status, _, text: (status, text) == ("failed", str(error)))
        right = (status, stored) == ("failed", str(error))
        self.attempt.expect(right, "failure not stored", error=str(error), status=status, stored=stored)

    async def _outcome(self, work: Work, right: Callable[[Any, Any, Any], bool]) -> tuple[Any, Any, Any]:
        """Status, meta and error once they are right, or when patience is at its end."""
        deadline, changed = perf_counter() + PATIENCE, False
        while True:
            self._uses_its_own_session()
            _, status, meta, error, _ = await self._stored(work) or (None,) * 5
            if status != "processing" and not changed:
                deadline, changed = perf_counter() + THE_REST, True
            if right(status, meta, error) or perf_counter() > deadline:
                self._uses_its_own_session()
                return status, meta, error
            await asyncio.sleep(0.01)

    async def _one_that_is_refused(self) -> None:
        self.work = work = Work(f"upload/{token_hex(4)}")
        await self.attempt.sql(TAKEN, user=self.user, source=work.source)
        async with self.attempt.session() as session:
            try:
                said = await self._handle(session, work)
            except Wrong:
                raise
            except Exception as error:
                refused = kind_of(error)
            else:
                raise self.attempt.wrong("error swallowed", said=article(said))
        await asyncio.wait({asyncio.ensure_future(work.called.wait())}, timeout=PATIENCE / 4)
        self.attempt.expect(not work.given, "refused, and started", error=refused)

    # -- what is seen --------------------------------------------------------------------------------------

    async def _stored(self, work: Work) -> tuple[Any, ...] | None:
        rows = await self.attempt.sql(DOCUMENT, user=self.user, source=work.source)
        return rows[0] if rows else None

    def _uses_its_own_session(self) -> None:
        self.attempt.expect(not self.on_its_session, "request's session")

    def _in_the_request(self) -> bool:
        return asyncio.current_task() is self.work.request

    def _moves(self, *_: Any) -> None:
        if not self._in_the_request() and (task := asyncio.current_task()):
            self.moved.add(task)

    def _begins(self, *_: Any) -> None:
        """While the request runs, a helper task of its own may use its session, as long as the work has not begun."""
        request = self.work.request
        over = self.work.called.is_set() or (request is not None and request.done())
        self.on_its_session = self.on_its_session or (over and not self._in_the_request())

    def _begins_again(self, *_: Any) -> None:
        self.on_its_session = True

    def _commits(self, connection: Connection) -> None:
        """Before a COMMIT is sent, every task that is ready gets its turn.

        It may be the request's COMMIT although a helper task sends it: `async with sessions.begin()` ends in one.
        """
        driver = connection.connection.dbapi_connection
        driver.run_async(lambda _: self._look_around(self._in_the_request()))  # type: ignore[union-attr]

    async def _look_around(self, for_the_request: bool) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await asyncio.sleep(A_MOMENT)
        begun = self.work.given or (for_the_request and not all(task.done() for task in self.moved))
        if begun and await self._stored(self.work) is None:
            self.too_early = True
