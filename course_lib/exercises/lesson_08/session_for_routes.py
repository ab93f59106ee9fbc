"""8.1: the session of a route, whose COMMIT comes before the response."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, ClassVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.params import Depends as Dependency
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, in_service
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of

TABLE = """
    CREATE TABLE notes (
        word text, CONSTRAINT uq_notes_word UNIQUE (word) DEFERRABLE INITIALLY DEFERRED
    )
"""
STORED = "SELECT count(*) FROM notes WHERE word = :word"


class NotToday(Exception):
    """An error of the judge's routes, which their app makes a 503 of."""


class SessionForRoutes(Exercise):
    """A dependency that is over before the response goes out."""

    id = "8.1"
    title = "A commit that the client hears of"
    answer = "session_for"
    minutes = 15
    points = 2
    level = "mid"
    seconds = SECONDS
    hints: ClassVar = (
        "What stands behind the `yield` of a dependency runs when the request is over. Is that before or after the "
        "response has gone out, and who decides?",
        "`Depends(…, scope=…)` knows two scopes. With one of them the dependency ends when the route has returned, "
        "with the other when the response is sent.",
        "An error of the route is raised at the `yield`. `async with sessions.begin() as session: yield session` "
        "commits without one, rolls back with one, lets it rise, and closes the session in every case.",
    )
    why = (
        "A 201 is a promise, and only the COMMIT can make it true. Deferred constraints, serialization failures and a "
        "server that goes away all show at the COMMIT, so it has to be over while the status can still be chosen. With "
        "`scope='function'` the dependency ends between the route and the response; an error that it raises there "
        "meets the same handlers as an error of the route. It also gives the connection back before a "
        "StreamingResponse sends its first token."
    )
    follow_up = (
        "The COMMIT was sent and the connection broke before its answer came. What can you tell the client, and what "
        "does the client need in order to ask again safely?"
    )
    mistakes: ClassVar = {
        "no dependency": "`session_for` returned {kind}, and not what `Depends` returns. "
        "| The route says `session: AsyncSession = session_for(sessions)`.",
        "no session": "The route was given {kind} as its session. "
        "| A dependency that yields hands over what it yields.",
        "told too early": "The COMMIT was refused, and the client had been told {status}. "
        "| By default a dependency ends after the response has gone out. `Depends` can be told otherwise.",
        "not committed": "The client was told {status}, and others do not see the row. "
        "| What stands behind the `yield` is run when the route has returned: commit there.",
        "error lost": "The {what} reached the client as {status} {said}. "
        "| Whatever is raised at the `yield`, or by the COMMIT, goes on as it is; handlers make a response of it.",
        "stored all the same": "The route wrote a row and raised {error}, and others see the row. "
        "| An error that is raised at the `yield` means: roll back.",
        "connection held": "After a request that ended with {status}, {count} connection(s) were held. "
        "| The session has to be closed however the request ends; `async with` does it.",
        "shared": "Two requests were given the same session. | Make the session in the dependency, not outside of it.",
        "two sessions": "A route and another dependency of the same request were given two sessions. "
        "| Within a request FastAPI calls a dependency once, unless it was told not to.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(TABLE)
        given: list[AsyncSession] = []
        scopes: list[str | None] = []

        def make_app() -> FastAPI:
            dependency = attempt.answer(sessions_of(attempt))
            attempt.expect(isinstance(dependency, Dependency), "no dependency", kind=article(dependency))
            scopes.append(dependency.scope)
            return _app(dependency, given)

        async def scene(served: Serving) -> None:
            await self._refused_at_commit(attempt, served, given, at_the_end=scopes != ["function"])
            await self._stored(attempt, served)
            missing = JSONResponse({"detail": "no such note"})
            await self._fails(attempt, served, "missing", "an HTTPException", 404, missing)
            await self._fails(attempt, served, "not today", "an error of its own", 503, JSONResponse("not today"))
            await self._stored(attempt, served)
            self._compare_sessions(attempt, given)

        await in_service(attempt, make_app, scene)

    async def _refused_at_commit(
        self, attempt: Attempt, served: Serving, given: list[AsyncSession], at_the_end: bool
    ) -> None:
        """Somebody has the word already, which is looked at by the COMMIT; ``at_the_end`` of the request, or before."""
        word = token_hex(4)
        await attempt.sql("INSERT INTO notes VALUES (:word)", word=word)
        reply = await _post(served, word)
        attempt.expect(isinstance(given[0], AsyncSession), "no session", kind=article(given[0]))
        if reply.status < 400:
            await served.idle()
            if not any(entry.sql.upper().startswith("COMMIT") for entry in attempt.log.entries):
                raise attempt.wrong("not committed", status=reply.status)
            attempt.expect(not at_the_end, "told too early", status=reply.status)
        right = (reply.status, reply.json) == (409, {"refused by": "uq_notes_word"})
        attempt.expect(right, "error lost", what="refusal of the COMMIT", status=reply.status, said=reply.said)
        await self._look_at_connections(attempt, reply)

    async def _stored(self, attempt: Attempt, served: Serving) -> None:
        word = token_hex(4)
        reply = await _post(served, word)
        right = (reply.status, reply.json) == (201, {"word": word})
        attempt.expect(right, "error lost", what="answer of a route", status=reply.status, said=reply.said)
        stored = await attempt.value(STORED, word=word)
        attempt.expect(stored == 1, "not committed", status=reply.status)
        await self._look_at_connections(attempt, reply)

    async def _fails(
        self, attempt: Attempt, served: Serving, then: str, error: str, status: int, said: JSONResponse
    ) -> None:
        word = token_hex(4)
        reply = await _post(served, word, then)
        right = (reply.status, reply.text.encode()) == (status, said.body)
        attempt.expect(right, "error lost", what=f"route's own {error}", status=reply.status, said=reply.said)
        stored = await attempt.value(STORED, word=word)
        attempt.expect(stored == 0, "stored all the same", error=error)
        await self._look_at_connections(attempt, reply)

    async def _look_at_connections(self, attempt: Attempt, reply: Reply) -> None:
        count = await held_now(attempt)
        attempt.expect(count == 0, "connection held", status=reply.status, count=count)

    def _compare_sessions(self, attempt: Attempt, given: list[AsyncSession]) -> None:
        """Of each request come two, one after the other."""
        routes, others = given[1::2], given[::2]
        same = all(one is other for one, other in zip(routes, others, strict=True))
        attempt.expect(same, "two sessions")
        attempt.expect(len({id(session) for session in routes}) == len(routes), "shared")


def _app(dependency: Any, given: list[AsyncSession]) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(IntegrityError)
    async def refused(_: Request, error: IntegrityError) -> JSONResponse:
        return JSONResponse({"refused by": getattr(error.driver_exception, "constraint_name", None)}, 409)

    @app.exception_handler(NotToday)
    async def not_today(_: Request, error: NotToday) -> JSONResponse:
        return JSONResponse("not today", 503)

    async def another(session: AsyncSession = dependency) -> None:
        given.append(session)

    @app.post("/notes", status_code=201, dependencies=[Depends(another)])
    async def store(word: str, then: str = "", session: AsyncSession = dependency) -> dict[str, str]:
        given.append(session)
        if isinstance(session, AsyncSession):
            await session.execute(text("INSERT INTO notes VALUES (:word)"), {"word": word})
        if then == "missing":
            raise HTTPException(404, "no such note")
        if then == "not today":
            raise NotToday
        return {"word": word}

    return app


async def _post(served: Serving, word: str, then: str = "") -> Reply:
    return await served.ask("POST", "/notes", params={"word": word, "then": then})
