"""The uploads of 5.6: requests whose session is closed, and work that goes on without them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.db import make_engine, make_session_factory
from course_lib.exercises.lesson_05.scenes.work import Work, failures, many, successes
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.foreign import plain
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.staging import add_user, other_rows

PATIENCE = 2.0  # seconds; only a wrong answer makes us wait for so long
TURNS = 20  # of the event loop: more than a task needs to begin
A_MOMENT = 0.03  # seconds, for a task that pauses before it does
THE_REST = 0.3  # seconds, for what is stored in another transaction than the status
AT_ONCE = 11  # uploads whose work begins side by side, and ends in the same moment
DOCUMENT = "SELECT id, status, meta, error, title FROM documents WHERE user_id = :user AND source = :source"
OUTCOMES = "SELECT source, status, meta, error FROM documents WHERE user_id = :user"
TAKEN = "INSERT INTO documents (user_id, source, title) VALUES (:user, :source, 'Already here')"
SAME = """
    INSERT INTO documents (user_id, source, title, status)
    SELECT :user, source, 'Of somebody else', 'processing' FROM unnest(CAST(:sources AS text[])) AS source
"""


class Uploads:
    """Uploads, what became of them, and what their tasks did that they should not."""

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self.attempt = attempt
        self.user = user
        self.engine = make_engine(attempt.url, **POOL)
        self.sessions = make_session_factory(self.engine)
        self.watched: Work | None = None
        """The upload before whose COMMIT everybody gets a turn."""
        self.moved: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Tasks other than its request's that have come to the database."""
        self.too_early = False
        self.on_its_session = False

    async def run(self) -> None:
        before = asyncio.all_tasks()
        for engine in (self.attempt.engine, self.engine):
            event.listen(engine.sync_engine, "do_connect", self._moves)
            event.listen(engine.sync_engine, "before_cursor_execute", self._moves)
            event.listen(engine.sync_engine, "commit", self._commits)
        try:
            for result, failure in zip(successes(), failures(), strict=True):
                await self._two_that_overlap(Work(failure), Work(result))
            await self._one_that_is_refused(Work({}))
            await self._many_at_once([Work(result) for result in many(AT_ONCE)])
        finally:
            left = asyncio.all_tasks() - before
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.engine.dispose(close=self.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]

    # -- what is tried -------------------------------------------------------------------------------------

    async def _two_that_overlap(self, first: Work, second: Work) -> None:
        """Both are at work at the same time; then the second one succeeds, and the first one fails.

        The second one's session is open until then: a request may take its time to close it.
        """
        await self._sources_of_others([first, second])
        others = await other_rows(self.attempt, "documents", "user_id", self.user)
        async with AsyncExitStack() as requests:
            await self._upload(first, watched=True)
            await self._is_at_work(first)
            await self._upload(second, requests)
            await self._is_at_work(second)
            gc.collect()
            self.attempt.expect(not (first.lost or second.lost), "task lost")
            await self._ends(second)
            await self._is_over()
            gc.collect()
            self.attempt.expect(not first.lost, "let go early")
            await self._ends(first)
        same = others == await other_rows(self.attempt, "documents", "user_id", self.user)
        self.attempt.expect(same, "another document")

    async def _sources_of_others(self, works: Sequence[Work]) -> None:
        """Somebody else has uploaded the same."""
        other = await add_user(self.attempt)
        await self.attempt.sql(SAME, user=other, sources=[work.source for work in works])

    async def _upload(self, work: Work, requests: AsyncExitStack | None = None, watched: bool = False) -> None:
        """A request: its session is closed when the handler has returned, or with ``requests``."""
        self.watched = work if watched else None
        self.moved.clear()
        async with AsyncExitStack() as alone:
            session = await (requests or alone).enter_async_context(self.attempt.session())
            begins = partial(self._begins, work)
            event.listen(session.sync_session, "after_begin", begins)
            said = await self._handle(session, work)
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
            arguments = session, self.sessions, self.user, work.source, work.title, work.process
            answered = self.attempt.answer(*arguments)
            return await answered if inspect.isawaitable(answered) else answered

        request = asyncio.ensure_future(handle())
        called = asyncio.ensure_future(work.called.wait())
        try:
            await asyncio.wait({request, called}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done() and not work.by_the_request:
                await asyncio.wait({request}, timeout=PATIENCE)
            self.attempt.expect(request.done(), "waited for")
            return plain(request.result(), self.attempt.exercise.answer)
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
        held = await held_now(self.attempt, self.attempt.engine, self.engine)
        self.attempt.expect(held == 0, "connection held", held=held)

    async def _ends(self, *works: Work) -> None:
        """``process`` answers for all of them in the same moment; what is stored then."""
        for work in works:
            work.answer()
        found = await self._outcomes(works)
        wrong = [work for work in works if not work.is_right(*found[work.source])]
        for work in wrong[:1]:
            self.attempt.expect(len(work.given) == 1, "called twice", calls=len(work.given))
            if len(works) > 1:
                raise self.attempt.wrong("not side by side", n=len(works), wrong=len(wrong))
            status, meta, error = found[work.source]
            if isinstance(work.result, Exception):
                said = str(work.result)
                numbers = {"length": len(said), "kept": "none" if error is None else len(error)}
                raise self.attempt.wrong("failure not stored", error=said, status=status, stored=error, **numbers)
            self.attempt.expect(status != "processing", "never finished", seconds=PATIENCE, status=status)
            result = work.result or "an empty dict"
            raise self.attempt.wrong("result not stored", result=result, status=status, meta=meta or "nothing")

    async def _is_over(self) -> None:
        """What was to be stored is, and whoever has stored it comes to an end."""
        deadline = perf_counter() + PATIENCE
        while (  # noqa: ASYNC110 - a pool has no event to wait for
            await held_now(self.attempt, self.attempt.engine, self.engine) and perf_counter() < deadline
        ):
            await asyncio.sleep(0.003)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _outcomes(self, works: Sequence[Work]) -> dict[str, tuple[Any, Any, Any]]:
        """Status, meta and error of each by its source, once all are right, or when patience is at its end."""
        deadline, changed = perf_counter() + PATIENCE, False
        while True:
            self._uses_its_own_session()
            rows = await self.attempt.sql(OUTCOMES, user=self.user)
            found = {row[0]: (row[1], row[2], row[3]) for row in rows}
            found |= {work.source: (None, None, None) for work in works if work.source not in found}
            if not changed and all(found[work.source][0] != "processing" for work in works):
                deadline, changed = perf_counter() + THE_REST, True
            if all(work.is_right(*found[work.source]) for work in works) or perf_counter() > deadline:
                self._uses_its_own_session()
                return found
            await asyncio.sleep(0.003)

    async def _one_that_is_refused(self, work: Work) -> None:
        self.watched = None
        await self.attempt.sql(TAKEN, user=self.user, source=work.source)
        before = asyncio.all_tasks()
        async with self.attempt.session() as session:
            try:
                said = await self._handle(session, work)
            except Wrong:
                raise
            except Exception as error:
                refused = kind_of(error)
            else:
                raise self.attempt.wrong("error swallowed", said=article(said))
        await asyncio.sleep(A_MOMENT)
        if left := asyncio.all_tasks() - before:  # what waits for something may begin still
            waiting: list[asyncio.Future[Any]]
            waiting = [asyncio.ensure_future(asyncio.wait(left)), asyncio.ensure_future(work.called.wait())]
            await asyncio.wait(waiting, timeout=PATIENCE / 4, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        self.attempt.expect(not work.given, "refused, and started", error=refused)

    async def _many_at_once(self, works: list[Work]) -> None:
        """Requests side by side, their work at the same time, and all of it ends in the same moment."""
        await asyncio.gather(*(self._upload(work) for work in works))
        for work in works:
            await self._is_at_work(work)
        gc.collect()
        lost = sum(work.lost for work in works)
        self.attempt.expect(not lost, "tasks lost", n=len(works), lost=lost)
        await self._ends(*works)

    # -- what is seen --------------------------------------------------------------------------------------

    async def _stored(self, work: Work) -> tuple[Any, ...] | None:
        rows = await self.attempt.sql(DOCUMENT, user=self.user, source=work.source)
        return rows[0] if rows else None

    def _uses_its_own_session(self) -> None:
        self.attempt.expect(not self.on_its_session, "request's session")

    def _in_the_request(self) -> bool:
        return self.watched is not None and asyncio.current_task() is self.watched.request

    def _moves(self, *_: Any) -> None:
        if not self._in_the_request() and (task := asyncio.current_task()):
            self.moved.add(task)

    def _begins(self, work: Work, *_: Any) -> None:
        """While the request runs, a helper task of its own may use its session, as long as the work has not begun."""
        in_the_request = asyncio.current_task() is work.request
        self.on_its_session = self.on_its_session or (work.begun_by_now and not in_the_request)

    def _commits(self, connection: Connection) -> None:
        """Before a COMMIT is sent, every task that is ready gets its turn.

        It may be the request's COMMIT although a helper task sends it: `async with sessions.begin()` ends in one.
        """
        if self.watched is not None:
            driver = connection.connection.dbapi_connection
            look = self._look_around(self.watched, self._in_the_request())
            driver.run_async(lambda _: look)  # type: ignore[union-attr]

    async def _look_around(self, work: Work, for_the_request: bool) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await asyncio.sleep(A_MOMENT)
        begun = work.given or (for_the_request and not all(task.done() for task in self.moved))
        if begun and await self._stored(work) is None:
            self.too_early = True
