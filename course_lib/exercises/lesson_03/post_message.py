"""3.8: the next number, for twenty at the same moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from secrets import SystemRandom, randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.db import make_session_factory
from course_lib.exercises.lesson_03.scenes.gate import AT_ONCE, BUILD_GATE, closed_gate, held_engine
from course_lib.judging.asking import (
    CHECK,
    DEADLOCK,
    NOT_AVAILABLE,
    SERIALIZATION,
    UNIQUE,
    calling_it,
    small_pool,
)
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.trouble import behind, sqlstate_of
from course_lib.judging.turns import Race, run_race

ROLES = ("user", "assistant", "tool")
QUEUEING_SECONDS = 12  # for one of five connections, of nineteen who post one after the other
REFUSING_SECONDS = 3  # for an error to come out
SLEEP = 0.3  # seconds: who pauses longer between two tries is overtaken by all others in that time
STEP = 2**16 * 3**3 * 5**6 * 7 * 11 * 13  # between two ids: who takes one of few locks by a remainder takes the same


class PostMessage(Exercise):
    """A number that depends on other rows, and the one thing to lock before they are read."""

    id = "3.8"
    title = "Twenty at once"
    answer = "post_message"
    minutes = 12
    points = 2
    level = "mid"
    seconds = 30.0  # some wrong answers wait for one deadlock after the other
    hints: ClassVar = (
        "Between reading the highest number and storing the next one, somebody else may store theirs. What do all "
        "posts to one conversation have in common, and posts to another one not?",
        "Lock the row of the conversation first: `select(Conversation.id)…with_for_update()`, or an UPDATE of it. "
        "Who comes second waits there, and reads the highest number afterwards, in a statement of its own.",
        "Trying again after a conflict (SQLSTATE 23505) is right too. But nineteen others may be faster, one after "
        "the other: how many tries can that take?",
    )
    why = (
        "The conversation's row is the place where its posts queue up: whoever holds it reads the highest number and "
        "stores the next one alone. Other conversations have rows of their own. The unique constraint stays all the "
        "same: it is what makes a forgotten lock an error, and not two messages with one number."
    )
    follow_up = (
        "The answer of a model is posted while it streams, for thirty seconds. When do you give it its number, so that "
        "nobody waits for it?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`post_message` returned None for a conversation that is there. "
        "| Did you forget `return`, or is one without messages taken for none?",
        "not a number": "`post_message` returned {kind}, and the `seq` was asked for as an int. | `message.seq`",
        "not stored": "It returned {seq}, and no other connection sees a message of that number. | What makes it last?",
        "wrong values": "The stored message does not have the {column} that was given. "
        "| Conversation, role and content are arguments.",
        "first message": "Posting to an empty conversation {did}. | The highest of no numbers is NULL: `coalesce`.",
        "counted rows": "With {count} messages, the highest of them number {highest}, it {did}. "
        "| Messages get deleted, and leave gaps. Which number is the highest?",
        "wrong number": "With {highest} as the highest number, the message got {seq}. "
        "| One more than the highest in this conversation.",
        "remembered": "Messages up to number {n} had been posted, those after number {highest} were deleted, and then "
        "it {did}. "
        "| The highest number is the one in the table now: others change it too.",
        "tried for ever": "For a role that does not exist it had not come to an end after {seconds} seconds. "
        "| Only a number that is taken can be free the next time. Which constraint was it?",
        "error swallowed": "For a role that does not exist it raised nothing and returned {said}. "
        "| None is for a conversation that does not exist. What the table refuses is an error, and reaches the caller.",
        "another error": "For a role that does not exist it raised {error}, after {tries} INSERT(s) that the table "
        "had refused. "
        "| What the table refuses is an error that reaches the caller, as the database tells it. Which constraint was "
        "it? Only a number that is taken can be free the next time.",
        "unknown conversation": "For a conversation that does not exist it {did}. "
        "| None was asked for: look whether the row is there, or catch what the foreign key says.",
        "others wait": "While a post to one conversation was going on, a post to another one had to wait for it. "
        "| What you lock belongs to more than one conversation. Lock something of this one.",
        "collided": "Of {n} posts to one conversation, one read the highest number, another one stored the next "
        "before it did, and it raised {error}. "
        "| Lock the conversation before you read, or try again from the reading. At REPEATABLE READ, what is read "
        "after the wait is what was there before it.",
        "gave up": "Of {n} posts to one conversation, one was overtaken {times} times and then raised {error}. "
        "| Nineteen others can be faster, one after the other. Try until it works, or wait for a lock.",
        "not waited": "Of {n} posts to one conversation, one found it locked by another and raised {error}. "
        "| Posting takes a moment: wait for the lock.",
        "not tried again": "While others posted too, a post failed with {error}. "
        "| SERIALIZABLE and REPEATABLE READ ask for another try: catch SQLSTATE 40001 and begin anew with the reading.",
        "deadlock": "Of {n} posts to one conversation, one failed with {error}. "
        "| Each held what the other wanted: lock the conversation first, with the lock you need.",
        "no number": "Of {n} posts to one conversation, {none} returned None. "
        "| None is for a conversation that does not exist, and this one is there.",
        "not consecutive": "{n} posts to a conversation with {highest} as the highest number were told numbers from "
        "{first} to {last}, {different} different ones. "
        "| Each is one more than the one before, without a gap.",
        "mixed up": "Of {n} posts at once, {count} were told a number under which another message is stored. "
        "| Return the number that was stored with this message.",
        "locked in this process": "While one post had not been committed yet, another one waited for something that "
        "is no lock of the database. "
        "| The service runs in several processes, and Python's locks are known to one of them.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        await self._numbers(attempt, user_id)
        with calling_it(attempt, "unknown conversation", did="raised an error"):
            said = await attempt.call(sessions_of(attempt), uuid4(), "user", "Is anybody here?")
        attempt.expect(said is None, "unknown conversation", did=f"returned {said!r}")
        await self._lets_errors_out(attempt, user_id)
        await attempt.sql(BUILD_GATE)
        async with held_engine(attempt) as held:
            await self._lets_others_post(attempt, held, user_id)
            async with small_pool(attempt, POOL["pool_size"], patience=QUEUEING_SECONDS):
                await self._twenty_at_once(attempt, held, user_id)

    async def _numbers(self, attempt: Attempt, user_id: UUID) -> None:
        highest = 4 + randbelow(20)
        await _add_conversation(attempt, user_id, highest + 5 + randbelow(20))
        id = await _add_conversation(attempt, user_id, highest)
        roles = SystemRandom().sample(ROLES, len(ROLES))
        seq = await self._post(attempt, id, roles[0])
        attempt.expect(seq == highest + 1, "wrong number", highest=highest, seq=seq)
        empty = await _add_conversation(attempt, user_id)
        with calling_it(attempt, "first message", IntegrityError, TypeError, did="raised an error"):
            seq = await self._post(attempt, empty, roles[1])
        attempt.expect(seq == 1, "first message", did=f"gave the number {seq}")
        await attempt.sql("DELETE FROM messages WHERE conversation_id = :id AND seq IN (2, 3)", id=id)
        left: dict[str, Any] = {"count": highest - 1, "highest": highest + 1}
        with calling_it(attempt, "counted rows", did="raised an error", **left):
            seq = await self._post(attempt, id, roles[2])
        attempt.expect(seq == highest + 2, "counted rows", did=f"gave the number {seq}", **left)
        await attempt.sql("DELETE FROM messages WHERE conversation_id = :id AND seq > :n", id=id, n=highest)
        with calling_it(attempt, "remembered", n=highest + 2, highest=highest, did="raised an error"):
            seq = await self._post(attempt, id, roles[0])
        did = f"gave the number {seq}"
        attempt.expect(seq == highest + 1, "remembered", n=highest + 2, highest=highest, did=did)

    async def _lets_errors_out(self, attempt: Attempt, user_id: UUID) -> None:
        id = await _add_conversation(attempt, user_id, 1)

        async def post() -> Any:
            return await asyncio.wait_for(attempt.answer(sessions_of(attempt), id, "robot", "Beep."), REFUSING_SECONDS)

        try:
            said = await attempt.call(function=post)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            late = isinstance(wrong.__cause__, TimeoutError)
            attempt.expect(not late, "tried for ever", seconds=REFUSING_SECONDS)
            told = any(sqlstate_of(error) == CHECK for error in behind(wrong.__cause__))
            tries = sum(statement.sqlstate == CHECK for statement in attempt.log.statements)
            attempt.expect(told or not tries, "another error", error=article(wrong.__cause__), tries=tries)
        else:
            raise attempt.wrong("error swallowed", said=repr(said))

    async def _post(self, attempt: Attempt, id: UUID, role: str) -> int:
        content = f"  it's {awkward_text()} "
        seq = await attempt.call(sessions_of(attempt), id, role, content)
        attempt.expect(seq is not None, "nothing returned")
        attempt.expect(isinstance(seq, int) and not isinstance(seq, bool), "not a number", kind=article(seq))
        rows = await attempt.sql("SELECT conversation_id, role, content FROM messages WHERE content = :c", c=content)
        if not len(rows):
            here = await attempt.sql(
                "SELECT 1 FROM messages WHERE conversation_id = :id AND seq = :seq", id=id, seq=seq
            )
            attempt.expect(len(here) > 0, "not stored", seq=seq)
            raise attempt.wrong("wrong values", column="content")
        for place, (column, value) in enumerate((("conversation_id", id), ("role", role))):
            attempt.expect(rows[0][place] == value, "wrong values", column=column)
        return int(seq)

    async def _lets_others_post(self, attempt: Attempt, held: AsyncEngine, user_id: UUID) -> None:
        one = await _add_conversation(attempt, user_id, 2)
        another = await _add_conversation(attempt, user_id, 2, UUID(int=(one.int + STEP) % 2**128))

        async def script(race: Race) -> list[Any]:
            race.run_freely()
            async with closed_gate(attempt) as gate:
                race.start(attempt.answer, make_session_factory(held), one, "user", "A moment.")
                await race.settle(SLEEP)
                other = race.start(attempt.answer, sessions_of(attempt), another, "user", "I am in a hurry.")
                await race.settle(SLEEP)
                attempt.expect(other.ended, "others wait")
                await gate.open()
                return await race.results()

        with calling_it(attempt, "not tried again", saying=SERIALIZATION):
            await run_race(attempt, script)

    async def _twenty_at_once(self, attempt: Attempt, held: AsyncEngine, user_id: UUID) -> None:
        """One stands just before its INSERT, again and again, while others come and may overtake it."""
        highest = randbelow(9)
        id = await _add_conversation(attempt, user_id, highest)
        contents = [f"{number} of {AT_ONCE}" for number in range(AT_ONCE)]
        overtaken = 0
        held_outside = False

        async def script(race: Race) -> list[Any]:
            nonlocal overtaken, held_outside
            race.run_freely()
            async with closed_gate(attempt) as gate:
                first = race.start(attempt.answer, make_session_factory(held), id, "user", contents[0])
                while len(race.calls) < AT_ONCE and await race.settle(SLEEP) and not first.ended:
                    other = race.start(attempt.answer, sessions_of(attempt), id, "user", contents[len(race.calls)])
                    held_outside = not await race.settle(SLEEP) and other in race.held_outside
                    if not other.ended:
                        break  # it waits for the first one, as it should, or tries again and again
                    overtaken += 1
                    await gate.let_through()
                await gate.open()
                for content in contents[len(race.calls) :]:
                    race.start(attempt.answer, sessions_of(attempt), id, "user", content)
                return await race.results()

        try:
            answers = await run_race(attempt, script)
        except Wrong as wrong:
            raise _named(attempt, wrong, overtaken) from wrong
        await self._compare(attempt, id, highest, dict(zip(contents, answers, strict=True)))
        attempt.expect(not held_outside, "locked in this process")

    async def _compare(self, attempt: Attempt, id: UUID, highest: int, told: dict[str, Any]) -> None:
        n = len(told)
        none = [content for content, seq in told.items() if seq is None]
        attempt.expect(not none, "no number", n=n, none=len(none))
        numbers = sorted(told.values())
        attempt.expect(
            numbers == list(range(highest + 1, highest + 1 + n)), "not consecutive",
            n=n, highest=highest, first=numbers[0], last=numbers[-1], different=len(set(numbers)),
        )  # fmt: skip
        rows = await attempt.sql("SELECT content, seq FROM messages WHERE conversation_id = :id", id=id)
        stored = {row[0]: row[1] for row in rows}
        wrong = [content for content, seq in told.items() if stored.get(content) != seq]
        attempt.expect(not wrong, "mixed up", n=n, count=len(wrong))


def _named(attempt: Attempt, wrong: Wrong, overtaken: int) -> Wrong:
    """What an error while twenty posted says about the answer."""
    code = sqlstate_of(wrong.__cause__)
    numbers: dict[str, Any] = {"n": AT_ONCE, "error": kind_of(wrong.__cause__)}
    if wrong.mistake != "raised":
        return wrong
    if overtaken > 1:
        return attempt.wrong("gave up", times=overtaken, **numbers)
    names = {UNIQUE: "collided", DEADLOCK: "deadlock", NOT_AVAILABLE: "not waited", SERIALIZATION: "not tried again"}
    return attempt.wrong(names[code], **numbers) if code in names else wrong


async def _add_conversation(attempt: Attempt, user_id: UUID, messages: int = 0, id: UUID | None = None) -> UUID:
    """A conversation with messages 1, 2, 3 …; its id. The last of them is no complete one, and none came in order."""
    id = id or uuid4()
    await add_rows(attempt, "conversations", [{"id": id, "user_id": user_id, "title": "Plans"}])
    now = datetime.now(UTC)
    numbered = [
        {"conversation_id": id, "seq": seq, "role": "user", "content": f"Message {seq}", "id": uuid4()}
        | {"status": "complete" if seq < messages else "streaming", "created_at": now - timedelta(seconds=seq)}
        for seq in range(1, messages + 1)
    ]
    if numbered:
        await add_rows(attempt, "messages", numbered)
    return id
