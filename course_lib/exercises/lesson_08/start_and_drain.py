"""8.8: an app that starts without a database, says when it is ready, and ends when nothing is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from fastapi import FastAPI
from sqlalchemy import URL

from course_lib.exercises.lesson_08.scenes.refused import refusing_commits
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, in_service
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.held import held_now
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import article

TABLE = "CREATE TABLE answers (question text, reply text)"
STORED = "SELECT count(*) FROM answers WHERE question = :question AND reply = :reply"
END = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND NOT pid = ANY(CAST(CAST(:watchers AS text[]) AS int[]))
"""
REQUESTS = 3


class StartAndDrain(Exercise):
    """Lifespan, liveness, readiness, draining."""

    id = "8.8"
    title = "Start, be ready, drain"
    answer = "make_service"
    minutes = 20
    points = 2
    level = "mid"
    seconds = SECONDS
    hints: ClassVar = (
        "Two questions are asked of a process. Should it be restarted? Should requests be sent to it? A database that "
        "is away says no to only one of them.",
        "`create_async_engine` connects to nothing. The lifespan is an `@asynccontextmanager`: what stands before its "
        "`yield` has to succeed for the app to start, what stands behind it runs when the requests are over.",
        "`pool_pre_ping=True` has the pool ask a connection whether it still works before it hands it out. In "
        "`/readyz`, whatever `async with engine.connect()` raises is a 503; `stopping.is_set()` is one before that.",
    )
    why = (
        "A process that dies because its database is late is started again and again, by all replicas at once, and "
        "the database meets a storm of connections when it comes. So the start asks nothing, liveness asks nobody "
        "else, and readiness asks the database at every look. At the end it is the other way round: first say that "
        "you are not ready, so that nothing more is sent, then finish what was begun, then close the pool."
    )
    follow_up = (
        "The process has thirty seconds from SIGTERM to SIGKILL, the balancer looks at `/readyz` every ten, and an "
        "answer takes up to forty. What do you do with an answer that will not be over in time?"
    )
    mistakes: ClassVar = {
        "not started": "Without a database the app did not start: {error}. "
        "| What stands before the `yield` of the lifespan has to succeed. An engine connects when it is used.",
        "not alive": "{when}, `GET /livez` was answered with {status}. "
        "| 200 as long as the process answers; it asks nobody else.",
        "wrong readiness": "{when}, `GET /readyz` was answered with {status}. "
        "| 200 when the database answers at this moment and the process goes on, 503 else; a connection in the pool "
        "may be dead.",
        "not answered": "{when}, `POST /questions` was answered with {status}, and the answer was {stored}. "
        "| 201 and `{{\"reply\": reply}}`, when the row is committed.",
        "told too early": "The database refused the COMMIT of an answer, and the client was told {status}. "
        "| A 201 is a promise: the COMMIT comes before the response. By default a dependency ends after it.",
        "one for each": "{n} requests, one after another, opened {count} connections. "
        "| One engine for the process, with its pool.",
        "taken in": "When the process was stopping, a question that came was answered with {status}, and the model "
        "was {asked}. | 503, before anything is begun.",
        "broken off": "A question was at the model when the process was told to stop; it was answered with {status}, "
        "and the answer was {stored}. | Only what comes from then on is refused.",
        "left open": "When the lifespan had ended, {count} connection(s) were open. "
        "| `await engine.dispose()` behind the `yield`, when the requests are over and not before.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(TABLE)
        stage = _Stage(attempt)

        async def scene(served: Serving) -> None:
            stage.served, stage.started = served, True
            await self._is_away(attempt, stage, "Without a database since the start")
            stage.database.show()
            await self._is_there(attempt, stage, "When the database had come")
            await self._shares(attempt, stage)
            await self._refused_at_commit(attempt, stage)
            stage.database.hide()
            await stage.database.end_connections(attempt)
            await self._is_away(attempt, stage, "When the database had gone")
            stage.database.show()
            await self._is_there(attempt, stage, "When the database had been away")
            await stage.database.end_connections(attempt)
            await self._answers(attempt, stage, "When the connections of the pool had been ended")
            await stage.database.end_connections(attempt)
            await self._is_there(attempt, stage, "When the connections of the pool had been ended")
            await self._drains(attempt, stage)

        stage.database.hide()
        try:
            await in_service(attempt, stage.app, scene)
        except Wrong as wrong:
            if not stage.made or stage.started or wrong.mistake not in ("raised", "not started"):
                raise
            error = wrong.sentence.partition(" raised ")[2].rstrip(".") or "its lifespan failed"
            raise attempt.wrong("not started", error=error) from wrong
        finally:
            stage.database.show()

    async def _is_away(self, attempt: Attempt, stage: _Stage, when: str) -> None:
        alive, ready = await stage.get("/livez"), await stage.get("/readyz")
        attempt.expect(alive.status == 200, "not alive", when=when, status=alive.outcome)
        right = ready.status == (503 if stage.database.is_hidden else 200)
        attempt.expect(right, "wrong readiness", when=when, status=ready.outcome)

    async def _is_there(self, attempt: Attempt, stage: _Stage, when: str) -> None:
        ready = await stage.get("/readyz")
        attempt.expect(ready.status == 200, "wrong readiness", when=when, status=ready.outcome)
        await self._answers(attempt, stage, when)

    async def _answers(self, attempt: Attempt, stage: _Stage, when: str) -> None:
        question, reply = await stage.ask()
        await stage.served.idle()  # a COMMIT that comes too late is looked at by itself
        told = {"status": reply.outcome, "stored": await stage.stored(question)}
        right = (reply.status, reply.json) == (201, {"reply": stage.model.reply}) and told["stored"] == "stored"
        attempt.expect(right, "not answered", when=when, **told)

    async def _refused_at_commit(self, attempt: Attempt, stage: _Stage) -> None:
        async with refusing_commits(attempt, "INSERT", "answers"):
            _, reply = await stage.ask()
            await stage.served.idle()
        attempt.expect(reply.status >= 400, "told too early", status=reply.outcome)

    async def _shares(self, attempt: Attempt, stage: _Stage) -> None:
        with attempt.wire.log() as log:
            for _ in range(REQUESTS):
                await stage.get("/readyz")
                await stage.ask()
        attempt.expect(log.connections <= 1, "one for each", n=2 * REQUESTS, count=log.connections)

    async def _drains(self, attempt: Attempt, stage: _Stage) -> None:
        """A question is at the model when the process is told to stop."""
        model, when = stage.model, "When the process was stopping"
        model.begun.clear()
        model.goes_on.clear()
        asking = asyncio.ensure_future(stage.ask())
        await first_of(asking, model.begun)
        stage.stopping.set()
        alive, ready = await stage.get("/livez"), await stage.get("/readyz")
        attempt.expect(alive.status == 200, "not alive", when=when, status=alive.outcome)
        attempt.expect(ready.status == 503, "wrong readiness", when=when, status=ready.outcome)
        model.begun.clear()
        late = asyncio.ensure_future(stage.ask())
        await first_of(late, model.begun)
        asked = model.begun.is_set()
        ending = asyncio.ensure_future(stage.served.server.shutdown())
        await asyncio.sleep(0)  # it looks away, and waits for what is under way
        model.goes_on.set()
        (_, refused), (question, reply), _ = await asyncio.gather(late, asking, ending)
        told = {"status": refused.outcome, "asked": "asked" if asked else "not asked"}
        attempt.expect(refused.status == 503 and not asked, "taken in", **told)
        told = {"status": reply.outcome, "stored": await stage.stored(question)}
        attempt.expect(reply.status == 201 and told["stored"] == "stored", "broken off", **told)
        count = await held_now(attempt)
        attempt.expect(count == 0, "left open", count=count)


class _Model:
    """Answers every question alike, once it is let."""

    def __init__(self) -> None:
        self.reply = awkward_text()
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.goes_on.set()

    async def __call__(self, question: Any) -> str:
        self.begun.set()
        await self.goes_on.wait()
        return self.reply


class _Database:
    """The way to it, which can be closed: what listens is out of sight. On Windows it is a port, and stays open."""

    def __init__(self, url: URL) -> None:
        self._socket = Path(str(url.query.get("host", ""))) / f".s.PGSQL.{url.query.get('port')}"
        self._hidden = self._socket.with_name("hidden")

    @property
    def is_hidden(self) -> bool:
        return self._hidden.exists()

    def hide(self) -> None:
        if self._socket.exists():
            self._socket.rename(self._hidden)

    def show(self) -> None:
        if self.is_hidden:
            self._hidden.rename(self._socket)

    async def end_connections(self, attempt: Attempt) -> None:
        """Those of the answer, as a restart does."""
        await attempt.sql(END, watchers=list(map(str, attempt.watchers)))


class _Stage:
    """The answer's app and what it was given."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.model, self.stopping, self.database = _Model(), asyncio.Event(), _Database(attempt.url)
        self.made = self.started = False
        self.served: Serving

    def app(self) -> FastAPI:
        app = self._attempt.answer(self._attempt.url, self.model, self.stopping)
        if not isinstance(app, FastAPI):
            sentence = f"`{self._attempt.exercise.answer}` returned {article(app)}, and not a FastAPI."
            raise Wrong("no app", sentence, "Did you forget `return app`?")
        self.made = True
        return app

    async def get(self, path: str) -> Reply:
        return await self.served.ask_anyway("GET", path)

    async def ask(self) -> tuple[str, Reply]:
        """A question of its own, and the response."""
        question = awkward_text()
        return question, await self.served.ask_anyway("POST", "/questions", json={"question": question})

    async def stored(self, question: str) -> str:
        """In words, whether it is."""
        count = await self._attempt.value(STORED, question=question, reply=self.model.reply)
        return "stored" if count == 1 else "not stored" if count == 0 else "stored more than once"
