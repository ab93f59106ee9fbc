"""8.6: a POST that comes again is not done again, also when both come at once, and when the first one failed."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_hex
from typing import ClassVar
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy import text

from course_lib.exercises.lesson_08.scenes.refused import expect_a_fault, refusing_commits
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, app_with, in_service, side_by_side
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user

AT_ONCE = 8
MADE = "SELECT count(*) FROM conversations WHERE user_id = :user AND title = :title"
KEPT = "SELECT count(*) FROM idempotent_requests WHERE user_id = :user AND key = :key AND response IS NOT NULL"
CLAIM = """
    INSERT INTO idempotent_requests (user_id, key, request_hash, claimed_until)
    VALUES (:user, :key, sha256(''), now() + interval '1 minute')
"""
COPY = """
    INSERT INTO idempotent_requests (user_id, key, request_hash, claimed_until, response)
    SELECT user_id, :key, request_hash, claimed_until, response FROM idempotent_requests
    WHERE user_id = :user AND key = :known
"""
ANOTHER = "/another"  # where the routes of another process are
HALT = "LOCK TABLE conversations IN SHARE MODE"  # nobody makes one until this is over
LOCKS = re.compile(r"_advisory_|\bFOR (NO KEY )?UPDATE\b|^\s*LOCK\b", re.IGNORECASE)
NO_WORK = ("conversations", "title NOT LIKE 'not now%'")
NO_RESPONSE = ("idempotent_requests", "response IS NULL")


class PostTwice(Exercise):
    """A key that the client makes, and what is kept for it."""

    id = "8.6"
    title = "The same POST twice"
    answer = "conversations"
    minutes = 25
    points = 3
    level = "senior"
    seconds = SECONDS
    hints: ClassVar = (
        "Two equal requests can only be told from one that came twice by a key that the client made. Which statement "
        "lets one of two that come at once have the key, and makes the other one wait?",
        "`upsert(IdempotentRequest).values(…).on_conflict_do_nothing().returning(…)` before the work, in the "
        "transaction that does the work: who gets nothing back was second, and reads what the first has left.",
        "Claim, conversation and response in one transaction: whatever fails, all of it is gone, and the key is free "
        "again. What is given to the second one is the stored response, not the conversation as it is by now.",
    )
    why = (
        "The unique key decides who is first, in all processes. Because claim, work and response commit together, "
        "there is no moment in which the work is done and the key is not known, nor one in which the key is taken and "
        "nothing was done. The second request waits at the first one's row for the end of that transaction: then it "
        "finds the response, or a free key. The hash tells a request that comes again from another one that carries "
        "the key by mistake."
    )
    follow_up = (
        "The work takes a model twenty seconds, and no transaction may be open for so long. What is committed before "
        "the model is asked, what does a second request get meanwhile, and who clears up when the process dies?"
    )
    mistakes: ClassVar = {
        "not created": "{what} was answered with {outcome}. | 201: nothing like it was there before.",
        "wrong answer": "`POST /users/…/conversations` was answered with {said}. "
        "| `id` and `title` of the conversation that others see, and nothing else.",
        "done again": "The same request came twice with the same key, and {count} conversations were made. "
        "| Who comes second with a key finds what the first one has left.",
        "another answer": "{what} the same request with the same key was answered with {outcome}. "
        "| The same status and the same object as the first time: the response is what has to be kept.",
        "not kept apart": "{what} were answered with {outcome}, and {count} conversation(s) were made. "
        "| A key belongs to one user, and without a key every request counts.",
        "another request": "The key of one request came with another title, and the answer was {outcome}. "
        "| 422: the client has made a mistake, and neither did what it wanted nor is told what another request did.",
        "not written down": "A request with a key was answered, and others see {count} response(s) for that key. "
        "| Another process has to know it too: `idempotent_requests` is where both can look.",
        "at once": "Equal requests with the same key came at once, {where}; the answers were {outcomes}, and {count} "
        "conversation(s) were made. "
        "| Between a look and an INSERT somebody else looks. Claim the key by an INSERT that gives way.",
        "stuck": "A request failed, its cause passed, and when it came again with its key the answer was {outcome}. "
        "| What was not done leaves nothing behind: claim and work roll back together.",
        "told too early": "The database refused the COMMIT of a request, and the client was told {outcome}. "
        "| Who has an answer finds it again: the COMMIT comes before it. By default a dependency ends after it.",
        "half done": "The response could not be stored; the client was told {outcome}, and {count} conversation(s) "
        "were made. "
        "| Without the response a second request does it again. Both are committed together, or neither.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        def make_app() -> FastAPI:
            app, another = [app_with(attempt, attempt.answer(sessions_of(attempt))) for _ in range(2)]
            app.mount(ANOTHER, another)
            return app

        async def scene(served: Serving) -> None:
            client = _Client(attempt, served, await add_user(attempt))
            await self._twice(attempt, client)
            await self._apart(attempt, client)
            await self._at_once(attempt, client)
            await self._in_two_processes(attempt, client)
            await self._fails_first(attempt, client)
            await self._cannot_be_kept(attempt, client)
            await self._refused_at_commit(attempt, client)
            await expect_a_fault(attempt, "POST …/conversations", partial(client.ask, awkward_text(), _key()))

        await in_service(attempt, make_app, scene)

    async def _twice(self, attempt: Attempt, client: _Client) -> None:
        title, key = f"{awkward_text()} \u00c9", _key()
        first = await client.first(title, key)
        count = await attempt.value(KEPT, user=client.user, key=key)
        attempt.expect(count == 1, "not written down", count=count)
        await client.again("A moment later", first, title, key)
        made = await client.made(title)
        attempt.expect(made == 1, "done again", count=made)
        spaced = json.dumps({"title": title}, indent=2)
        await client.again("With other white space in its body", first, title, key, spaced)
        rename = "UPDATE conversations SET title = 'renamed' WHERE user_id = :user"
        await attempt.sql(rename, user=client.user)
        await client.again("After the conversation was renamed", first, title, key)
        await attempt.sql("DELETE FROM conversations WHERE user_id = :user", user=client.user)
        await client.again("After the conversation was deleted", first, title, key)
        made = await client.made(title)
        attempt.expect(made == 0, "done again", count=1 + made)
        for another in (awkward_text(), f"{title} ", f"{title[:-1]}\u00e9", unicodedata.normalize("NFD", title)):
            other = await client.ask(another, key)
            attempt.expect(other.status == 422, "another request", outcome=other.outcome)

    async def _apart(self, attempt: Attempt, client: _Client) -> None:
        title, key = awkward_text(), _key()
        replies = [await client.ask(title), await client.ask(title)]
        await self._expect_two(attempt, "Two equal requests without a key", replies, await client.made(title))
        title = awkward_text()
        async with attempt.judge_session() as halting:
            await halting.execute(text(HALT))
            running = side_by_side(client.ask(title) for _ in range(2))
            await until_blocked(attempt, running, 2)
            await halting.rollback()
            replies = await running
        await self._expect_two(attempt, "Two equal requests without a key, at once,", replies, await client.made(title))
        other = _Client(attempt, client.served, await add_user(attempt))
        title = awkward_text()
        replies = [await one.ask(title, key) for one in (client, other)]
        made = await client.made(title) + await other.made(title)
        await self._expect_two(attempt, "Equal requests of two users with the same key", replies, made)
        await client.again("After another user had used the same key", replies[0], title, key)
        await client.first(title, key.swapcase())
        await client.again("After another request of this user", replies[0], title, key)

    async def _expect_two(self, attempt: Attempt, what: str, replies: list[Reply], made: int) -> None:
        right = [reply.status for reply in replies] == [201, 201] and made == 2
        outcome = " and ".join(reply.outcome for reply in replies)
        attempt.expect(right, "not kept apart", what=what, outcome=outcome, count=made)

    async def _at_once(self, attempt: Attempt, client: _Client) -> None:
        """Nobody can have the key before as many as there are connections have looked."""
        title, key = awkward_text(), _key()
        async with attempt.judge_session() as other:
            await other.execute(text(CLAIM), {"user": client.user, "key": key})
            running = side_by_side(client.ask(title, key) for _ in range(AT_ONCE))
            await until_blocked(attempt, running, POOL["pool_size"])
            await other.rollback()
            replies = await running
        created = [reply for reply in replies if reply.status == 201]
        same = len({reply.text for reply in created}) == 1
        right = same and all(reply.status in (201, 409) for reply in replies)
        await self._expect_one(attempt, client, title, right, replies, f"{AT_ONCE} of them", 1)
        await client.again("Afterwards", created[0], title, key)

    async def _in_two_processes(self, attempt: Attempt, client: _Client) -> None:
        """The other one has got the key, and does its work, with a response like that of an earlier request."""
        title, known, key = awkward_text(), _key(), _key()
        await client.first(title, known)
        async with attempt.judge_session() as other:
            await other.execute(text(COPY), {"user": client.user, "key": key, "known": known})
            with attempt.wire.log() as log:
                running = asyncio.ensure_future(client.ask(title, key))
                await until_blocked(attempt, running, 1)
                await other.commit()
                reply = await running
        if reply.status == 500 and any(LOCKS.search(statement.sql) for statement in log.statements):
            await self._behind_a_lock(attempt, client)
            return
        right = reply.status in (201, 409, 422)  # the key may be a part of what is hashed
        await self._expect_one(attempt, client, title, right, [reply], "one of them in another process", 1)

    async def _behind_a_lock(self, attempt: Attempt, client: _Client) -> None:
        """A lock of its own keeps others of its kind away: then two of them meet, the first one still at its work."""
        title, key = awkward_text(), _key()
        async with attempt.judge_session() as other:
            await other.execute(text(HALT))
            running = side_by_side(client.ask(title, key, place=place) for place in ("", ANOTHER))
            await until_blocked(attempt, running, 2)
            await other.rollback()
            replies = await running
        right = all(reply.status in (201, 409) for reply in replies)
        await self._expect_one(attempt, client, title, right, replies, "one of them in another process", 1)

    async def _expect_one(
        self, attempt: Attempt, client: _Client, title: str, right: bool, replies: list[Reply], where: str, made: int
    ) -> None:
        count = await client.made(title)
        counted = Counter(reply.outcome for reply in replies)
        outcomes = ", ".join(f"{number} × {outcome}" for outcome, number in counted.items())
        attempt.expect(right and count == made, "at once", where=where, outcomes=outcomes, count=count)

    async def _fails_first(self, attempt: Attempt, client: _Client) -> None:
        title, key = f"not now {token_hex(3)}", _key()
        async with _refusing(attempt, *NO_WORK):
            failed = await client.ask(title, key)
        attempt.expect(failed.status >= 400, "wrong answer", said=failed.said)
        again = await client.ask(title, key)
        attempt.expect(again.status == 201 and await client.made(title) == 1, "stuck", outcome=again.outcome)
        await client.again("Afterwards", again, title, key)

    async def _cannot_be_kept(self, attempt: Attempt, client: _Client) -> None:
        title, key = awkward_text(), _key()
        async with _refusing(attempt, *NO_RESPONSE):
            failed = await client.ask(title, key)
        count = await client.made(title)
        attempt.expect(failed.status >= 400 and count == 0, "half done", outcome=failed.outcome, count=count)
        again = await client.ask(title, key)
        attempt.expect(again.status == 201 and await client.made(title) == 1, "stuck", outcome=again.outcome)

    async def _refused_at_commit(self, attempt: Attempt, client: _Client) -> None:
        title, key = awkward_text(), _key()
        async with refusing_commits(attempt, "INSERT", "conversations"):
            failed = await client.ask(title, key)
            await client.served.idle()
        attempt.expect(failed.status >= 400, "told too early", outcome=failed.outcome)
        again = await client.ask(title, key)
        attempt.expect(again.status == 201 and await client.made(title) == 1, "stuck", outcome=again.outcome)


class _Client:
    """Requests in the name of one user, and what others see of them."""

    def __init__(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        self.attempt, self.served, self.user = attempt, served, user

    async def ask(self, title: str, key: str | None = None, content: str | None = None, place: str = "") -> Reply:
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
        body = json.dumps({"title": title}) if content is None else content
        path = f"{place}/users/{self.user}/conversations"
        return await self.served.ask_anyway("POST", path, content=body.encode(), headers=headers)

    async def first(self, title: str, key: str) -> Reply:
        reply = await self.ask(title, key)
        await self.served.idle()  # a COMMIT that comes too late is looked at by itself
        self.attempt.expect(reply.status == 201, "not created", what="A new request", outcome=reply.outcome)
        said = reply.json
        right = isinstance(said, dict) and said.keys() == {"id", "title"} and said["title"] == title
        known = "SELECT count(*) FROM conversations WHERE CAST(id AS text) = :id AND user_id = :user AND title = :title"
        stored = right and await self.attempt.value(known, id=str(said["id"]), user=self.user, title=title)
        self.attempt.expect(bool(stored), "wrong answer", said=reply.said)
        return reply

    async def again(self, when: str, first: Reply, title: str, key: str, content: str | None = None) -> None:
        """The same request once more; it has to be answered as the first was."""
        reply = await self.ask(title, key, content)
        same = reply.status == first.status and reply.json == first.json
        outcome = f"{reply.status} and another object" if reply.status == first.status else reply.outcome
        self.attempt.expect(same, "another answer", what=when, outcome=outcome)

    async def made(self, title: str) -> int:
        count: int = await self.attempt.value(MADE, user=self.user, title=title)
        return count


@asynccontextmanager
async def _refusing(attempt: Attempt, table: str, rule: str) -> AsyncIterator[None]:
    """Until the block ends, the table takes no row that breaks this rule."""
    await attempt.sql(f"ALTER TABLE {table} ADD CONSTRAINT ck_not_now CHECK ({rule}) NOT VALID")
    yield
    await attempt.sql(f"ALTER TABLE {table} DROP CONSTRAINT ck_not_now")


def _key() -> str:
    """As clients make them: with any sign of ASCII that can be printed, and a case that counts."""
    return f"aZ-{token_hex(8)}:%_'\"\\{{}}"
