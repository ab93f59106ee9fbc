"""Jobs that wait for a worker, and the work itself, which can hang, fail and come back."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from secrets import randbelow, token_hex
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import FastAPI

from course_lib.exercises.lesson_08.scenes.asking import caller
from course_lib.exercises.lesson_08.scenes.serving import app_with
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Wrong
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article_of_pair
from course_lib.judging.races import sessions_of

ADD = """
    WITH document AS (
        INSERT INTO documents (user_id, source, title) VALUES (:user, :source, 'Queued') RETURNING id
    )
    INSERT INTO jobs (kind, document_id, payload, status, worker, leased_until)
    SELECT :kind, id, jsonb_build_object('body', CAST(:body AS text)), :status, 'another',
        now() + CAST(CAST(:lease AS text) AS interval)
    FROM document RETURNING id, document_id
"""
STATE = """
    SELECT j.status, d.status, u.tokens_used, extract(epoch FROM j.leased_until - clock_timestamp())
    FROM jobs AS j JOIN documents AS d ON d.id = j.document_id JOIN users AS u ON u.id = d.user_id WHERE j.id = :id
"""


class Queued(NamedTuple):
    """A job, and what it is about."""

    id: UUID
    document: UUID
    body: str


class State(NamedTuple):
    """A job as others see it; ``paid`` by its document's owner so far, ``lease`` in seconds from now."""

    job: str
    document: str
    paid: int
    lease: float | None


class Queue:
    """Jobs of one user's documents."""

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self._attempt, self.user = attempt, user

    async def add(self, kind: str = "ingest", status: str = "queued", lease: str | None = None) -> Queued:
        body = awkward_text()
        values = {"user": self.user, "source": f"{token_hex(4)}.md", "kind": kind, "status": status, "lease": lease}
        id, document = (await self._attempt.sql(ADD, body=body, **values))[0]
        return Queued(id, document, body)

    async def state(self, job: Queued) -> State:
        return State(*(await self._attempt.sql(STATE, id=job.id))[0])

    async def end_lease(self, job: Queued) -> None:
        """As if the time were over; a job that waits is left waiting."""
        await self._attempt.sql(
            "UPDATE jobs SET leased_until = now() - interval '1 second' WHERE id = :id AND status = 'running'",
            id=job.id,
        )

    async def rows(self) -> list[str]:
        """All jobs, whole."""
        return [row[0] for row in await self._attempt.sql("SELECT jobs::text FROM jobs ORDER BY id")]


class Indexing:
    """The work, for one call of a worker; given to it as ``index``.

    Attributes:
        given: what it was called with.
        held: connections that were held meanwhile.
        begun: set when it is at work.
        goes_on: it comes to its end when this is set, which it is at first.
        fails: the error that it raises instead.
    """

    def __init__(self, attempt: Attempt, cost: int, *, hangs: bool = False) -> None:
        self._attempt, self.cost = attempt, cost
        self.given: list[tuple[Any, Any]] = []
        self.held = 0
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.fails: Exception | None = None
        self.look: Callable[[], Any] | None = None
        if not hangs:
            self.goes_on.set()

    async def __call__(self, document_id: Any, body: Any) -> int:
        self.given.append((document_id, body))
        self.held = await held_now(self._attempt)
        if self.look:
            await self.look()
        self.begun.set()
        await self.goes_on.wait()
        if self.fails:
            raise self.fails
        return self.cost


class WorkFailed(RuntimeError):
    """The work could not be done."""


class Stage:
    """The answer's app and its workers, of which the second is as in another process."""

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self._attempt, self.queue = attempt, Queue(attempt, user)
        self._workers: list[Any] = []

    def app(self) -> FastAPI:
        pairs = [self._attempt.answer(sessions_of(self._attempt), caller) for _ in range(2)]
        for pair in pairs:
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and callable(pair[1])):
                sentence = f"`{self._attempt.exercise.answer}` returned {article_of_pair(pair)}."
                raise Wrong("no pair", sentence, "`return router, work`, without a call of `work`.")
        self._workers = [pair[1] for pair in pairs]
        return app_with(self._attempt, pairs[0][0])

    def index(self, hangs: bool = False) -> Indexing:
        """Work of a cost of its own: no sum of two is one of them, and the owner has tokens for all."""
        return Indexing(self._attempt, 1 + randbelow(20_000) if hangs else 100, hangs=hangs)

    async def work(self, index: Indexing, worker: int = 0) -> Any:
        said = self._workers[worker](index)
        return await said if inspect.isawaitable(said) else said
