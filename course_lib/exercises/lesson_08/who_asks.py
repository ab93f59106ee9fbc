"""8.3: whose key is it? One statement for every request, and the same answer to everybody who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, ClassVar
from uuid import UUID

from fastapi import FastAPI
from fastapi.params import Depends as Dependency
from sqlalchemy import text

from course_lib.exercises.lesson_08.scenes.refused import expect_a_fault
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, in_service
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article, quoted
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user

PREFIX = 8
ADD_KEY = """
    INSERT INTO api_keys (user_id, label, prefix, key_hash, revoked_at)
    VALUES (:user, 'laptop', :prefix, CAST(:hash AS bytea), now() + CAST(:until AS text)::interval)
"""
REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE key_hash = CAST(:hash AS bytea)"
LOCK = "SELECT 1 FROM api_keys WHERE key_hash = CAST(:hash AS bytea) FOR NO KEY UPDATE"


class Seen:
    """What the judge's route was given, and how many connections were held while it worked."""

    def __init__(self) -> None:
        self.user: Any = None
        self.held = 0
        self.was_reached = False

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]


class WhoAsks(Exercise):
    """A dependency that knows the caller by a key, of which the table has a hash."""

    id = "8.3"
    title = "Who is asking"
    answer = "caller"
    minutes = 20
    points = 2
    level = "mid"
    seconds = SECONDS
    hints: ClassVar = (
        "The table has no key to compare with, only SHA-256 hashes of keys. What can be computed from the header "
        "before the database is asked, so that an index finds the row?",
        "One SELECT with two conditions: the hash, and `revoked_at` NULL or later than `func.now()`. A key that is "
        "nobody's and one that is revoked then look the same to you: there is no row.",
        "A dependency that returns has no connection any more when the route begins. `HTTPException` takes "
        "`headers=` as well.",
    )
    why = (
        "The hash is computed from what the client sent, and the index compares hashes: how long that takes tells "
        "something about a hash, from which nobody gets a key. A comparison of keys in Python would have to be done "
        "by `hmac.compare_digest`, for every key that could be meant. Whether a key is valid is asked at every "
        "request, so a revocation holds from the next request on, in every process. Nothing is locked and nothing is "
        "held: the connection is back before the route begins, and may wait for a model."
    )
    follow_up = (
        "Support wants to see when each key was used last. Written at every request that is an UPDATE of the same row "
        "by all requests with one key: what does it cost, and how would you note it once a minute in the same "
        "statement?"
    )
    mistakes: ClassVar = {
        "no dependency": "`caller` returned {kind}, and not what `Depends` returns. "
        "| The route says `user_id: UUID = caller(sessions)`.",
        "not let in": "{what} was answered with {outcome}. "
        "| A key is valid until its `revoked_at`, without one for good; and `Bearer` is the same word in any case.",
        "somebody else": "The route was given {said} for its caller, and that is not the id of the key's user. "
        "| A dependency hands over what it returns: `user_id`, as the column has it.",
        "let in": "{what} was let in. "
        "| The whole key counts, and whether it is valid is asked at each request: another process may have revoked "
        "it.",
        "not a 401": "{what} was answered with {outcome}{challenge}. "
        "| 401, and the header `WWW-Authenticate: Bearer`.",
        "told apart": "A revoked key was answered with {one}, and a key that is nobody's with {other}. "
        "| Who is refused learns no more than that: the same status, the same body.",
        "too many statements": "{what} took {count} statements. "
        "| One SELECT knows whether the key is there, whether it is valid, and whose it is.",
        "too many rows": "To find out who asks, {count} rows came from the server. "
        "| The database finds the row by its hash; nothing is compared in Python.",
        "connection held": "While the route was at work, {count} connection(s) were held. "
        "| A dependency that yields inside of `async with` holds it until the response has gone out.",
        "waits": "Another session had locked the key's row, and the request waited for it. "
        "| Requests with the same key must not go in single file: what has to be written at every one of them?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        seen = Seen()

        def make_app() -> FastAPI:
            dependency = attempt.answer(sessions_of(attempt))
            attempt.expect(isinstance(dependency, Dependency), "no dependency", kind=article(dependency))
            return _app(attempt, dependency, seen)

        async def scene(served: Serving) -> None:
            door = _Door(attempt, served, seen)
            user = await add_user(attempt)
            key = await add_key(attempt, user)
            await add_key(attempt, await add_user(attempt), key[:PREFIX])
            await door.lets_in("A valid key", user, {"Authorization": f"Bearer {key}"})
            await door.lets_in("A valid key after the word `bearer`", user, {"Authorization": f"bearer {key}"})
            await self._refuses(attempt, door, user, key)
            await self._rotated(attempt, door, user, key)
            await self._goes_on_beside_a_lock(attempt, door, user)
            headers = _bearer(await add_key(attempt, await add_user(attempt)))
            asking = partial(served.ask_anyway, "GET", "/me", headers=headers)
            await expect_a_fault(attempt, "GET /me", asking)

        await in_service(attempt, make_app, scene)

    async def _refuses(self, attempt: Attempt, door: _Door, user: UUID, key: str) -> None:
        for what, headers in (
            ("A request without a key", {}),
            ("A key after the word `Basic`", {"Authorization": f"Basic {key}"}),
            ("A key without a word before it", {"Authorization": key}),
            ("The word `Bearer` without a key", {"Authorization": "Bearer"}),
            ("The prefix of a key", {"Authorization": f"Bearer {key[:PREFIX]}"}),
            ("A key with another last sign", {"Authorization": f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}"}),
            ("A valid key in other cases", {"Authorization": f"Bearer {key.swapcase()}"}),
            ("The hash of a key", {"Authorization": f"Bearer {hash_of(key).hex()}"}),
            ("A key with signs that are not ASCII", {"Authorization": f"Bearer {key}é".encode("latin-1")}),
        ):
            await door.refuses(what, headers)
        nobodys = await door.refuses("A key that is nobody's", _bearer(token_urlsafe(32)))
        old = await add_key(attempt, user, until="-1 second")
        revoked = await door.refuses("A key that is revoked", _bearer(old))
        same = (revoked.status, revoked.text) == (nobodys.status, nobodys.text)
        attempt.expect(same, "told apart", one=revoked.said, other=nobodys.said)

    async def _rotated(self, attempt: Attempt, door: _Door, user: UUID, key: str) -> None:
        """Two keys for a while; then the old one is revoked, which another process does."""
        before = await add_key(attempt, user, until="1 hour")
        await door.lets_in("A key that is to be revoked in an hour", user, _bearer(before))
        await door.lets_in("The key beside it", user, _bearer(key))
        for gone in (before, key):
            await attempt.sql(REVOKE, hash=hash_of(gone))
            await door.refuses("A key that was let in, and was then revoked,", _bearer(gone))
        last = await add_key(attempt, user)
        await door.lets_in("A new key", user, _bearer(last))
        await attempt.sql("DELETE FROM users WHERE id = :id", id=user)
        await door.refuses("A key that was let in, and whose user was then deleted,", _bearer(last))

    async def _goes_on_beside_a_lock(self, attempt: Attempt, door: _Door, user: UUID) -> None:
        key = await add_key(attempt, user := await add_user(attempt))
        async with attempt.judge_session() as other:
            await other.execute(text(LOCK), {"hash": hash_of(key)})
            running = asyncio.ensure_future(door.lets_in("A valid key", user, _bearer(key)))
            waited = await until_blocked(attempt, running, 1)
            await other.rollback()
            await running
        attempt.expect(not waited, "waits")


class _Door:
    """Requests to the judge's route, and what is expected of every one of them."""

    def __init__(self, attempt: Attempt, served: Serving, seen: Seen) -> None:
        self.attempt, self.served, self.seen = attempt, served, seen

    async def lets_in(self, what: str, user: UUID, headers: Mapping[str, Any]) -> None:
        reply = await self._asked(what, headers)
        self.attempt.expect(self.seen.was_reached, "not let in", what=what, outcome=reply.outcome)
        self.attempt.expect(self.seen.user == user, "somebody else", said=_shown(self.seen.user))
        self.attempt.expect(self.seen.held == 0, "connection held", count=self.seen.held)

    async def refuses(self, what: str, headers: Mapping[str, Any]) -> Reply:
        reply = await self._asked(what, headers)
        self.attempt.expect(not self.seen.was_reached, "let in", what=what)
        challenge = reply.headers.get("www-authenticate", "")
        right = reply.status == 401 and challenge.split()[:1] == ["Bearer"]
        without = ", without that header" if reply.status == 401 else ""
        self.attempt.expect(right, "not a 401", what=what, outcome=reply.outcome, challenge=without)
        return reply

    async def _asked(self, what: str, headers: Mapping[str, Any]) -> Reply:
        self.seen.forget()
        log = self.attempt.log
        statements, rows = len(log.statements), log.received
        reply = await self.served.ask_anyway("GET", "/me", headers=headers)
        count, rows = len(log.statements) - statements, log.received - rows
        self.attempt.expect(count <= 1, "too many statements", what=what, count=count)
        self.attempt.expect(rows <= 1, "too many rows", count=rows)
        return reply


async def add_key(attempt: Attempt, user: UUID, prefix: str = "", until: str | None = None) -> str:
    """A new key of ``user``; it is valid for so long, or for good."""
    key = f"{prefix}{token_urlsafe(32)}aZ"
    await attempt.sql(ADD_KEY, user=user, prefix=key[:PREFIX], hash=hash_of(key), until=until)
    return key


def hash_of(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _shown(user: Any) -> str:
    return quoted(user) if isinstance(user, UUID | str | int) else article(user)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _app(attempt: Attempt, dependency: Any, seen: Seen) -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    async def me(user_id: Any = dependency) -> str:
        seen.user, seen.was_reached = user_id, True
        seen.held = await held_now(attempt)
        return "here"

    return app
