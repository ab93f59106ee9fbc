"""S7: a connection that dies while a transaction commits."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from dataclasses import dataclass, field, replace
from secrets import randbelow
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from course_lib.judging.asking import together, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import listening, sessions_of
from course_lib.judging.staging import add_rows, add_user

How = Literal["before", "after", "under way"]
GATE = 4077
DEFERRED = f"""
    CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$
"""
TRIGGER = """
    CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT ON messages
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit()
"""
AT_GATE = """
    SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE datname = current_database() AND locktype = 'advisory' AND objid = 4077
"""
STANDS = f"{AT_GATE} AND NOT granted"
STORED = "SELECT seq, role, content FROM messages WHERE conversation_id = :id AND seq > :last ORDER BY seq"
RIVAL = """
    WITH locked AS (SELECT id FROM conversations WHERE id = :id FOR UPDATE)
    INSERT INTO messages (conversation_id, seq, role, content)
    SELECT id, (SELECT max(seq) + 1 FROM messages WHERE conversation_id = :id), 'user', :content FROM locked
"""
COUNT = "SELECT count(*) FROM messages WHERE conversation_id = :id"
TRIES = 3
LOOKS = 500
EACH_TIME: tuple[How, ...] = ("before",) * 12
PATIENCE = 3.0  # seconds for a COMMIT to come to the gate


@dataclass(frozen=True)
class Thread:
    """A conversation on stage, and the number of its last message."""

    id: UUID
    last: int


@dataclass(eq=False)
class FailOver:
    """Cuts the connection at COMMITs of the learner's code that have a message to store.

    Attributes:
        cuts: where the connection dies at each of them: "before" the server has heard of the COMMIT, "after" it has
            committed, or while it is "under way", and the server goes on though nobody listens any more.
        rival: what another call says in the conversation as soon as a connection has died "before" its COMMIT.
        commits: how many it has seen.
        under_way: set when a COMMIT stands at the gate and its client is gone.
    """

    attempt: Attempt
    thread: Thread
    cuts: tuple[How, ...]
    rival: str = ""
    commits: int = 0
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, connection: Connection) -> None:
        dbapi: Any = connection.connection.dbapi_connection
        dbapi.run_async(self._at_commit)

    async def _at_commit(self, driver: Any) -> None:
        seen = await driver.fetchval(f"SELECT count(*) FROM messages WHERE conversation_id = '{self.thread.id}'")
        if seen == await self.attempt.value(COUNT, id=self.thread.id):
            return  # it has only read
        self.commits += 1
        cut = self.cuts[self.commits - 1] if self.commits <= len(self.cuts) else ""
        if cut == "after":
            await driver.execute("COMMIT")
        elif cut == "under way":
            await self._left_alone(asyncio.ensure_future(driver.execute("COMMIT")), driver)
        if cut:
            driver.terminate()
        if cut == "before" and self.rival:
            await self.attempt.sql(RIVAL, id=self.thread.id, content=self.rival)

    async def _left_alone(self, committing: asyncio.Future[Any], driver: Any) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while not (committing.done() or await self.attempt.value(STANDS)) and clock() < deadline:
            await asyncio.wait({committing}, timeout=0.002)
        driver.terminate()
        with suppress(Exception):
            await committing
        self.under_way.set()


@dataclass(frozen=True)
class Posted:
    """What a call said or raised, and what is stored of it.

    Attributes:
        rows: number, role and content of each message that is new.
        commits: how many COMMITs had a message to store.
    """

    said: Any
    wrong: Wrong | None
    rows: list[tuple[int, str, str]]
    commits: int

    @property
    def error(self) -> BaseException | None:
        """What the call raised."""
        return self.wrong.__cause__ if self.wrong else None


class LostCommit(Drill):
    """After an error at COMMIT nobody knows; who tries again has to ask what became of it."""

    id = "S7"
    title = "Twice, after the fail-over"
    answer = "post"
    minutes = 15
    points = 3
    level = "senior"
    topics: ClassVar = ("transactions", "idempotency", "operations")
    faults: ClassVar = ("stored twice", "error swallowed")
    hints: ClassVar = (
        "A COMMIT is a message to the server and an answer. What is known when the connection dies between the two?",
        "The second try has to recognise what the first may have stored. The content does not tell, since people say "
        "the same thing twice. What could the first try give the row that the second knows as well?",
        "Make the id of the message before the first try. Each try takes the lock on the conversation, and only then "
        "looks for that id: while an old transaction still commits on the server, the lock makes the new one wait. And "
        "after the last try, or for any other error, the caller has to know.",
    )
    why = (
        "An error at COMMIT leaves two possibilities, and a third: the server is still at it. An id that is made "
        "before the first try makes the message the same one in all of them. The lock on the conversation is held by "
        "the old transaction until it has ended, so a look behind the lock sees how it ended."
    )
    follow_up = (
        "The process itself dies instead of the connection. Who tries again then, and where must the id come from?"
    )
    mistakes: ClassVar = {
        "stored twice": "The connection died {when}, and in the end {count} messages were stored. "
        "| That is what was reported. What does the second try know of the first?",
        "reported as failed": "The connection died {when}, the message was stored, and `post` raised {error}. "
        "| The sender is told that it failed, and sends it again. How did the first try end?",
        "wrong number": "The message was stored with the number {stored}, and `post` returned {said!r}. "
        "| The number, as an int, by which the message was stored, whichever try that was.",
        "not tried again": "The connection died before the COMMIT reached the server, {times}, and `post` raised "
        "{error}. | Nothing was stored, and another connection is to be had. Three tries in all.",
        "number taken": "The connection died before the COMMIT reached the server, another call then stored the same "
        "words under the number {number}, and `post` {did}, while its own message is not stored. "
        "| Whose message it is, neither its number tells nor its content. What could each try know its own by?",
        "lost": "The connection died before the COMMIT reached the server; `post` returned {said!r}, and nothing is "
        "stored. | After an error at COMMIT it may have been done, or not.",
        "error swallowed": "{what}, nothing was stored, and `post` returned {said!r}. | The caller has to know.",
        "never gives up": "The connection died at each COMMIT, and `post` tried {count} times. "
        "| Three tries in all; then the error is the caller's.",
        "merged": "The same words were posted by two calls, and {count} new message(s) are stored. "
        "| People say the same thing twice. Only the call tells whether it is the same message.",
        "wrong message": "A message was stored that has another {column} than it should. "
        "| The content as it came, said by the `user`, with the number after the last.",
        "not stored": "`post` returned {said!r}, and nothing is stored. | What makes it last?",
        "no transaction": "`post` stored a message without a COMMIT of a session, so there was nothing to cut. "
        "| Number and message belong into one transaction, of a session from `sessions`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(DEFERRED)
        await attempt.sql(TRIGGER)
        await self._quietly(attempt)
        await self._committed(attempt, "after the server had committed", "after")
        await self._committed(attempt, "while the server was committing", "under way")
        await self._not_committed(attempt, "once", "before")
        await self._not_committed(attempt, "two times", "before", "before")
        await self._number_taken(attempt)
        await self._hopeless(attempt)

    async def _quietly(self, attempt: Attempt) -> None:
        thread, content = await _add(attempt), awkward_text()
        first = await self._one(attempt, thread, content)
        attempt.expect(first.commits > 0, "no transaction")
        again = await _post(attempt, thread, content)
        self._raise(again)
        attempt.expect(len(again.rows) == 2, "merged", count=len(again.rows))
        attempt.expect(again.said == thread.last + 2, "wrong number", stored=thread.last + 2, said=again.said)

    async def _one(self, attempt: Attempt, thread: Thread, content: str) -> Posted:
        posted = await _post(attempt, thread, content)
        self._raise(posted)
        attempt.expect(bool(posted.rows), "not stored", said=posted.said)
        self._look_at(attempt, thread, content, posted)
        return posted

    def _raise(self, posted: Posted) -> None:
        if posted.wrong is not None:
            raise posted.wrong

    def _look_at(self, attempt: Attempt, thread: Thread, content: str, posted: Posted) -> None:
        seq, role, stored = posted.rows[0]
        for column, right in (
            ("role", role == "user"),
            ("content", stored == content),
            ("seq", seq == thread.last + 1),
        ):
            attempt.expect(right, "wrong message", column=column)
        same = posted.said == seq and type(posted.said) is int
        attempt.expect(same, "wrong number", stored=seq, said=posted.said)

    async def _committed(self, attempt: Attempt, when: str, *cuts: How) -> None:
        thread, content = await _add(attempt), awkward_text()
        posted = await _post(attempt, thread, content, *cuts)
        attempt.expect(len(posted.rows) <= 1, "stored twice", when=when, count=len(posted.rows))
        attempt.expect(posted.error is None, "reported as failed", when=when, error=article(posted.error))
        self._look_at(attempt, thread, content, posted)

    async def _not_committed(self, attempt: Attempt, times: str, *cuts: How) -> None:
        thread, content = await _add(attempt), awkward_text()
        posted = await _post(attempt, thread, content, *cuts)
        attempt.expect(posted.error is None, "not tried again", times=times, error=article(posted.error))
        attempt.expect(bool(posted.rows), "lost", said=posted.said)
        self._look_at(attempt, thread, content, posted)

    async def _number_taken(self, attempt: Attempt) -> None:
        """Nothing is stored, and another call says the same before the next try, under the number of the first."""
        thread, content = await _add(attempt), awkward_text()
        posted = await _post(attempt, thread, content, "before", rival=content)
        did = f"raised {kind_of(posted.error)}" if posted.error else f"returned {posted.said!r}"
        mine = [row for row in posted.rows if row[0] != thread.last + 1]
        attempt.expect(posted.error is None and bool(mine), "number taken", number=thread.last + 1, did=did)
        self._look_at(attempt, Thread(thread.id, thread.last + 1), content, replace(posted, rows=mine))

    async def _hopeless(self, attempt: Attempt) -> None:
        thread = await _add(attempt)
        posted = await _post(attempt, thread, awkward_text(), *EACH_TIME)
        attempt.expect(posted.commits <= TRIES, "never gives up", count=posted.commits)
        what = "The connection died at each COMMIT"
        attempt.expect(posted.error is not None, "error swallowed", what=what, said=posted.said)
        nowhere = await _post(attempt, Thread(uuid4(), 0), awkward_text())
        what = "There was no such conversation"
        attempt.expect(nowhere.error is not None, "error swallowed", what=what, said=nowhere.said)


async def _add(attempt: Attempt) -> Thread:
    """A conversation with a few messages, the last of them not by its number of messages."""
    thread = Thread(uuid4(), 3 + randbelow(50))
    owner = {"id": thread.id, "user_id": await add_user(attempt), "title": "On the train"}
    await add_rows(attempt, "conversations", [owner])
    message = {"conversation_id": thread.id, "role": "assistant", "content": "Go on."}
    await add_rows(attempt, "messages", [message | {"seq": seq} for seq in (thread.last, 1)])
    return thread


async def _post(attempt: Attempt, thread: Thread, content: str, *cuts: How, rival: str = "") -> Posted:
    """Call the answer, while connections die as ``cuts`` has it."""
    fail_over, said, wrong = FailOver(attempt, thread, cuts, rival), None, None

    async def call() -> Any:
        answered = attempt.answer(sessions_of(attempt), thread.id, content)
        return await answered if inspect.isawaitable(answered) else answered

    async def behind_the_gate() -> Any:
        async with attempt.judge_session() as gate:
            await gate.execute(text(f"SELECT pg_advisory_xact_lock({GATE})"))
            running = asyncio.ensure_future(call())
            await first_of(running, fail_over.under_way)
            await until_blocked(attempt, running, 2)  # the COMMIT that nobody listens to, and who tries again
            await gate.rollback()
            return await running

    with listening(attempt, "commit", fail_over):
        try:
            said = (await together(attempt, [behind_the_gate if "under way" in cuts else call]))[0]
        except Wrong as error:
            if error.mistake != "raised":
                raise
            wrong = error
    for _ in range(LOOKS):  # until the server has ended what nobody listens to
        if not await attempt.value(AT_GATE):
            break
        await asyncio.sleep(0.002)
    rows = await attempt.sql(STORED, id=thread.id, last=thread.last)
    return Posted(said, wrong, [(row[0], row[1], row[2]) for row in rows], fail_over.commits)
