"""3.8: the next number, for twenty at the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import SystemRandom, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.db import make_engine, make_session_factory
from course_lib.judging.asking import DEADLOCK, NOT_AVAILABLE, SERIALIZATION, UNIQUE, calling_it
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.trouble import sqlstate_of
from course_lib.judging.turns import Race, run_race

AT_ONCE = 20
ROLES = ("user", "assistant", "tool")
SLEEP = 0.3  # seconds: who pauses longer between two tries is overtaken by all others in that time
GATE = 20_260_308  # the first half of the keys of advisory locks; the second half is the number of the arrival
HELD = "held"  # the application_name of connections that stand at the gate
BUILD_GATE = f"""
    DO $do$ BEGIN
        CREATE SEQUENCE arrivals;
        CREATE FUNCTION stand_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $stand$
        DECLARE arrival int := nextval('arrivals');
        BEGIN
            PERFORM pg_advisory_lock_shared({GATE}, arrival);
            PERFORM pg_advisory_unlock_shared({GATE}, arrival);
            RETURN NEW;
        END $stand$;
        CREATE TRIGGER gate BEFORE INSERT ON messages FOR EACH ROW
        WHEN (current_setting('application_name') = '{HELD}') EXECUTE FUNCTION stand_at_the_gate();
    END $do$
"""
CLOSE_GATE = f"""
    SELECT setval('arrivals', 1, false), count(pg_advisory_lock({GATE}, arrival))
    FROM generate_series(1, {AT_ONCE}) AS arrival
"""


class PostMessage(Exercise):
    """A number that depends on other rows, and the one thing to lock before they are read."""

    id = "3.8"
    title = "Twenty at once"
    answer = "post_message"
    minutes = 12
    points = 2
    level = "mid"
    seconds = 15.0  # some wrong answers wait for one deadlock after the other
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
        "nothing returned": "`post_message` returned None. | Did you forget `return`?",
        "not a number": "`post_message` returned {kind}, and the `seq` was asked for as an int. | `message.seq`",
        "not stored": "It returned {seq}, and no other connection sees a message of that number. "
        "| What makes it last?",
        "wrong values": "The stored message does not have the {column} that was given. "
        "| Conversation, role and content are arguments.",
        "first message": "Posting to an empty conversation {did}. | The highest of no numbers is NULL: `coalesce`.",
        "counted rows": "With {count} messages, the highest of them number {highest}, it {did}. "
        "| Messages get deleted, and leave gaps. Which number is the highest?",
        "wrong number": "With {highest} as the highest number, the message got {seq}. "
        "| One more than the highest in this conversation.",
        "unknown conversation": "For a conversation that does not exist it {did}. "
        "| None was asked for: look whether the row is there, or catch what the foreign key says.",
        "others wait": "While a post to one conversation was going on, a post to another one had to wait for it. "
        "| What you lock belongs to all conversations. Lock something of this one.",
        "collided": "Of {n} posts to one conversation, one read the highest number, another one stored the next before "
        "it did, and it raised {error}. | Lock the conversation before you read, or try again from the reading.",
        "gave up": "Of {n} posts to one conversation, one was overtaken {times} times and then raised {error}. "
        "| Nineteen others can be faster, one after the other. Try until it works, or wait for a lock.",
        "not waited": "Of {n} posts to one conversation, one found it locked by another and raised {error}. "
        "| Posting takes a moment: wait for the lock.",
        "not tried again": "While others posted too, a post failed with {error}. "
        "| SERIALIZABLE and REPEATABLE READ ask for another try: catch SQLSTATE 40001 and begin anew with the reading.",
        "deadlock": "Of {n} posts to one conversation, one failed with {error}. "
        "| Each held what the other wanted: lock the conversation first, with the lock you need.",
        "no number": "Of {n} posts to one conversation, {none} returned None. "
        "| Nothing was stored for them, though the conversation is there.",
        "not consecutive": "{n} posts to a conversation with {highest} as the highest number were told numbers from "
        "{first} to {last}, {different} different ones. | Each is one more than the one before, without a gap.",
        "mixed up": "Of {n} posts at once, {count} were told a number under which another message is stored. "
        "| Return the number that was stored with this message.",
        "locked in this process": "While one post had not been committed yet, another one waited for something that is "
        "no lock of the database. | The service runs in several processes, and Python's locks are known to one of "
        "them.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        await self._numbers(attempt, user_id)
        with calling_it(attempt, "unknown conversation", did="raised an error"):
            said = await attempt.call(sessions_of(attempt), uuid4(), "user", "Is anybody here?")
        attempt.expect(said is None, "unknown conversation", did=f"returned {said!r}")
        await attempt.sql(BUILD_GATE)
        async with _held_engine(attempt) as held:
            await self._lets_others_post(attempt, held, user_id)
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

    async def _post(self, attempt: Attempt, id: UUID, role: str) -> int:
        content = f"It's {token_hex(4)}: 100%"
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
        one, another = await _add_conversation(attempt, user_id, 2), await _add_conversation(attempt, user_id, 2)

        async def script(race: Race) -> list[Any]:
            race.run_freely()
            async with _closed_gate(attempt) as gate:
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
            async with _closed_gate(attempt) as gate:
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


class _Gate:
    """Advisory locks, one for each time that a held connection comes to an INSERT of a message.

    All are taken beforehand and released one after the other: taking one again could come too late.
    """

    def __init__(self, judge: AsyncSession) -> None:
        self.judge = judge
        self.arrivals = 0

    async def let_through(self) -> None:
        """Who stands there goes on, and stands again at the next INSERT."""
        self.arrivals += 1
        await self.judge.execute(text(f"SELECT pg_advisory_unlock({GATE}, {self.arrivals})"))

    async def open(self) -> None:
        await self.judge.execute(text("SELECT pg_advisory_unlock_all()"))


@asynccontextmanager
async def _closed_gate(attempt: Attempt) -> AsyncIterator[_Gate]:
    async with attempt.judge_session() as judge:
        await judge.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        await judge.execute(text(CLOSE_GATE))
        gate = _Gate(judge)
        try:
            yield gate
        finally:
            await gate.open()


@asynccontextmanager
async def _held_engine(attempt: Attempt) -> AsyncIterator[AsyncEngine]:
    """An engine like the attempt's, whose connections stand at the gate."""
    settings = {"server_settings": {"application_name": HELD}}
    engine = make_engine(attempt.url, connect_args=settings, **POOL)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _add_conversation(attempt: Attempt, user_id: UUID, messages: int = 0) -> UUID:
    """A conversation with messages 1, 2, 3 …; its id."""
    id = uuid4()
    await add_rows(attempt, "conversations", [{"id": id, "user_id": user_id, "title": "Plans"}])
    numbered = [
        {"conversation_id": id, "seq": seq, "role": "user", "content": f"Message {seq}"}
        for seq in range(1, messages + 1)
    ]
    if numbered:
        await add_rows(attempt, "messages", numbered)
    return id
