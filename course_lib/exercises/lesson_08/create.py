"""8.2: a POST is created, taken, nobody's, or nonsense; the database knows which, and says it by a name."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import text

from course_lib.exercises.lesson_08.scenes.refused import refusing_commits
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, in_json, in_service, side_by_side
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user, new_email, new_name

SIGN_UPS = 8
USER = "SELECT email, name, token_limit FROM users WHERE id = :id"
DOCUMENT = "SELECT title, source FROM documents WHERE id = :id AND user_id = :user"
UNKNOWN = "ALTER TABLE users ADD CONSTRAINT ck_users_no_robots CHECK (name NOT LIKE 'robot%') NOT VALID"
TWINS = (
    "CREATE UNIQUE INDEX uq_users_twin ON users (name) WHERE name LIKE 'twin%'",
    "CREATE UNIQUE INDEX uq_documents_twin ON documents (title) WHERE title LIKE 'twin%'",
)
SIGN_UP = "INSERT INTO users (email, name) VALUES (:email, 'Faster')"


class Create(Exercise):
    """Statuses by the name of the constraint that refused."""

    id = "8.2"
    title = "201, 409, 404, 422"
    answer = "add_accounts"
    minutes = 25
    points = 3
    level = "mid"
    seconds = SECONDS
    hints: ClassVar = (
        "To look whether an address is free says what was true a moment ago. Which statement knows whether it still "
        "is, and how does it say so?",
        "`error.driver_exception.constraint_name` of an `IntegrityError` is the name, and nothing but the name. One "
        "dict from names to statuses, and one handler: `@app.exception_handler(IntegrityError)`. What is not in the "
        "dict is raised again.",
        "What no constraint is asked about never gets that far: a text with a NUL and a number beyond `int` fail on "
        "the way. `Field(ge=…, le=…)` bounds a number, `AfterValidator` looks at a text.",
    )
    why = (
        "The constraint is the only one who looks and writes at once, so it decides; the service translates. A name is "
        "made for programs. An error's text is made for people: it quotes what the client sent, and changes with the "
        "server's language. An unknown name stays a 500: nobody has thought about what it means for the client, and a "
        "409 would hide that. What the driver cannot even send has to be refused by the schema of the request."
    )
    follow_up = (
        "The 409 tells everybody whose address has an account here. Where does that matter, and how would a sign-up "
        "answer that tells nobody?"
    )
    mistakes: ClassVar = {
        "not created": "`POST {path}` with {fields} was answered with {outcome}. "
        "| 201, and the routes have exactly these paths and fields.",
        "wrong answer": "`POST {path}` with {fields} was answered with 201 and {found}. "
        "| The fields that the task names, as they are stored, and no others.",
        "not stored": "`POST {path}` was answered with 201 and an id, and others see {seen} under that id. "
        "| What was sent is stored as it is, and committed before the answer goes out.",
        "taken": "{what} was sent a second time, and the answer was {outcome}. | 409; the first one keeps it.",
        "taken at once": "{count} equal sign-ups at once were answered like this: {outcomes}. "
        "| All of them looked before one of them wrote. Let the constraint refuse, and translate that.",
        "nobody's": "A document for a user who {is_} was answered with {outcome}. "
        "| 404; `fk_documents_user_id` knows it, also when the user goes after you have looked.",
        "not refused": "{what} was answered with {outcome}. "
        "| 422, from the schema of the request or by the name of the constraint.",
        "by its text": "With {email!r} as the address and {name!r} as the name the answer was {outcome}. "
        "| An error's text quotes what the client sent. Ask `driver_exception` for its `constraint_name`.",
        "unknown refusal": "A constraint that is in no list refused a row, and the client was told {outcome}. "
        "| Translate the names that you know. What nobody has thought of is a 500.",
        "told too early": "The database refused the COMMIT of `POST {path}`, and the client was told {outcome}. "
        "| A 201 is a promise: the COMMIT comes before the response. By default a dependency ends after it.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        def make_app() -> FastAPI:
            app = FastAPI()
            app.add_exception_handler(RequestValidationError, _invalid)
            attempt.answer(app, sessions_of(attempt))
            return app

        async def scene(served: Serving) -> None:
            user = await self._creates_users(attempt, served)
            await self._creates_documents(attempt, served, user)
            await self._taken(attempt, served, user)
            await self._nonsense(attempt, served, user)
            await self._quotes_names(attempt, served)
            await self._of_nobody(attempt, served)
            await self._at_once(attempt, served)
            await self._taken_by_another_process(attempt, served)
            await self._unknown_refusals(attempt, served, user)
            await self._refused_at_commit(attempt, served, user)

        await in_service(attempt, make_app, scene)

    async def _creates_users(self, attempt: Attempt, served: Serving) -> UUID:
        """The last one's id."""
        for limit in (0, 2**31 - 1, None):
            body = _new_user(name=awkward_text(), token_limit=limit)
            if limit is None:
                del body["token_limit"]
            id = await self._creates(attempt, served, "/users", body, {"token_limit": 100_000})
            seen = [tuple(row) for row in await attempt.sql(USER, id=id)]
            right = (body["email"], body["name"], body.get("token_limit", 100_000))
            attempt.expect(seen == [right], "not stored", path="/users", seen=seen)
        return id

    async def _creates_documents(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        path, body = f"/users/{user}/documents", {"title": awkward_text(), "source": awkward_text()}
        id = await self._creates(attempt, served, path, body)
        seen = [tuple(row) for row in await attempt.sql(DOCUMENT, id=id, user=user)]
        attempt.expect(seen == [(body["title"], body["source"])], "not stored", path=path, seen=seen)
        reply = await _post(served, path, {**body, "title": "another"})
        attempt.expect(reply.status == 409, "taken", what="A user's source", outcome=reply.outcome)
        other = await add_user(attempt)
        await self._creates(attempt, served, f"/users/{other}/documents", body)

    async def _creates(
        self, attempt: Attempt, served: Serving, path: str, body: dict[str, Any], defaults: Any = None
    ) -> UUID:
        reply = await served.ask("POST", path, **in_json(body))
        await served.idle()  # a COMMIT that comes too late is looked at by itself
        shown: dict[str, Any] = {"path": path, "fields": ", ".join(body)}
        outcome = f"422: {reply.said}" if reply.status == 422 else reply.outcome
        attempt.expect(reply.status == 201, "not created", outcome=outcome, **shown)
        said = reply.json
        shown["found"] = _fields(said, body)
        attempt.expect(isinstance(said, dict) and isinstance(said.get("id"), str), "wrong answer", **shown)
        attempt.expect(said == {"id": said["id"]} | (defaults or {}) | body, "wrong answer", **shown)
        try:
            return UUID(said["id"])
        except ValueError:
            raise attempt.wrong("wrong answer", **shown) from None

    async def _taken(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        email = await attempt.value("SELECT email FROM users WHERE id = :id", id=user)
        reply = await _post(served, "/users", _new_user(email=email))
        attempt.expect(reply.status == 409, "taken", what="An address", outcome=reply.outcome)

    async def _taken_by_another_process(self, attempt: Attempt, served: Serving) -> None:
        body = _new_user()
        async with attempt.judge_session() as other:
            await other.execute(text(SIGN_UP), {"email": body["email"]})
            running = asyncio.ensure_future(_post(served, "/users", body))
            await until_blocked(attempt, running, 1)
            await other.commit()
            reply = await running
        attempt.expect(reply.status == 409, "taken", what="An address, by another process,", outcome=reply.outcome)

    async def _nonsense(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        documents = f"/users/{user}/documents"
        for what, path, body in (
            ("A sign-up without an address", "/users", {"name": new_name()}),
            ("A name with a NUL in it", "/users", _new_user(name="Ma\0ra")),
            ("An address with half a surrogate pair in it", "/users", _new_user(email=f"\ud83d{new_email()}")),
            ("A title with a NUL at its end", documents, {"title": "Ovens\0", "source": token_hex(4)}),
            ("A source that is half a surrogate pair", documents, {"title": "Ovens", "source": "\udc00"}),
            ("A `token_limit` of 2**31", "/users", _new_user(token_limit=2**31)),
            ("A `token_limit` of 2**40", "/users", _new_user(token_limit=2**40)),
            ("A `token_limit` of 10**30", "/users", _new_user(token_limit=10**30)),
            ("A `token_limit` of -1", "/users", _new_user(token_limit=-1)),
            ("An address without an `@`", "/users", _new_user(email=f"mara.{token_hex(3)}")),
            ("An address in capital letters", "/users", _new_user(email=new_email().upper())),
            ("A user's id that is no UUID", f"/users/{user}x/documents", {"title": "Ovens", "source": token_hex(4)}),
        ):
            reply = await _post(served, path, body)
            attempt.expect(reply.status == 422, "not refused", what=what, outcome=reply.outcome)

    async def _quotes_names(self, attempt: Attempt, served: Serving) -> None:
        """What the client sends is in the text of the error, with its parameters and its detail."""
        email = new_email("ck_users_email.ck_users_tokens")
        await add_user(attempt, email)
        for body, status in (
            (_new_user(email=email, name="ck_users_email"), 409),
            (_new_user(email=f"mara.{token_hex(3)}", name="uq_users_email"), 422),
        ):
            reply = await _post(served, "/users", body)
            named = {"email": body["email"], "name": body["name"], "outcome": reply.outcome}
            attempt.expect(reply.status == status, "by its text", **named)

    async def _of_nobody(self, attempt: Attempt, served: Serving) -> None:
        body = {"title": "Ovens", "source": token_hex(4)}
        reply = await _post(served, f"/users/{uuid4()}/documents", body)
        attempt.expect(reply.status == 404, "nobody's", is_="never was", outcome=reply.outcome)
        user = await add_user(attempt)
        async with attempt.judge_session() as other:
            await other.execute(text("DELETE FROM users WHERE id = :id"), {"id": user})
            running = asyncio.ensure_future(_post(served, f"/users/{user}/documents", body))
            await until_blocked(attempt, running, 1)
            await other.commit()
            reply = await running
        attempt.expect(reply.status == 404, "nobody's", is_="was deleted meanwhile", outcome=reply.outcome)

    async def _unknown_refusals(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        """A CHECK, and unique keys that are not those of the task."""
        for statement in (UNKNOWN, *TWINS):
            await attempt.sql(statement)
        twin = f"twin {token_hex(4)}"
        for path, new in _both(user, twin):
            await _post(served, path, new())
            reply = await _post(served, path, new())
            attempt.expect(reply.status == 500, "unknown refusal", outcome=reply.outcome)
        reply = await _post(served, "/users", _new_user(name=f"robot {token_hex(2)}"))
        attempt.expect(reply.status == 500, "unknown refusal", outcome=reply.outcome)

    async def _refused_at_commit(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        for (path, new), table in zip(_both(user, awkward_text()), ("users", "documents"), strict=True):
            async with refusing_commits(attempt, "INSERT", table):
                reply = await _post(served, path, new())
                await served.idle()
            attempt.expect(reply.status >= 400, "told too early", path=path, outcome=reply.outcome)
            attempt.expect(reply.status == 500, "unknown refusal", outcome=reply.outcome)

    async def _at_once(self, attempt: Attempt, served: Serving) -> None:
        """Nobody can write before as many as there are connections have looked; then the one in front steps aside."""
        body = _new_user()
        async with attempt.judge_session() as other:
            await other.execute(text(SIGN_UP), {"email": body["email"]})
            running = side_by_side(_post(served, "/users", body) for _ in range(SIGN_UPS))
            await until_blocked(attempt, running, POOL["pool_size"])
            await other.rollback()
            replies = await running
        statuses = Counter(reply.status for reply in replies)
        outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in Counter(r.outcome for r in replies).items())
        right = statuses == {201: 1, 409: SIGN_UPS - 1}
        attempt.expect(right, "taken at once", count=SIGN_UPS, outcomes=outcomes)


def _both(user: UUID, name: str) -> tuple[tuple[str, Callable[[], dict[str, Any]]], ...]:
    """The two paths, each with what makes an object of this name or title, new but for that."""
    documents = f"/users/{user}/documents"
    return (
        ("/users", lambda: _new_user(name=name)),
        (documents, lambda: {"title": name, "source": token_hex(4)}),
    )


def _fields(said: Any, body: dict[str, Any]) -> str:
    if not isinstance(said, dict):
        return article(said)
    changed = [name for name, value in body.items() if name in said and said[name] != value]
    return f"another {changed[0]} than was sent" if changed else f"the fields {', '.join(said)}"


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Without the input, which may be no text."""
    assert isinstance(error, RequestValidationError)
    said = [{"where": [str(step) for step in fault["loc"]], "what": fault["msg"]} for fault in error.errors()]
    return JSONResponse({"detail": said}, 422)


async def _post(served: Serving, path: str, body: Any) -> Reply:
    return await served.ask_anyway("POST", path, **in_json(body))


def _new_user(**given: Any) -> dict[str, Any]:
    return {"email": new_email(), "name": new_name(), "token_limit": choice((1, 10**6)) + randbelow(9_000)} | given
