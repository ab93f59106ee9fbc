"""M2: an export that goes at the pace of whoever receives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import ROLES, STATUSES, add_double, awkward_text
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.threads import shuffled

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
AT_ONCE = 230  # messages of the first moment: more than any page may have
MESSAGES, TIED = 430, 37  # of one user; so many of one moment, a number that no usual page is a multiple of
AHEAD, SPARE = 200, 20  # rows fetched and not sent yet; and those that are none of the messages
PER_STATEMENT, FURTHER = 50, 3
SLOW = 0.8  # seconds of a receiver; who reads the next page meanwhile gives its connection back sooner
EVERY = 5  # lines between two looks at what was fetched
DELETED = 25
SENT = "DELETE FROM messages WHERE id = ANY(CAST(string_to_array(:ids, ',') AS uuid[]))"
POSTED = """
    INSERT INTO messages (conversation_id, seq, role, content)
    SELECT conversation_id, 9999, 'user', 'posted meanwhile' FROM messages WHERE id = :id
"""
Line = dict[str, Any]
Then = Callable[[], Awaitable[None]]


class ReceiverGone(ConnectionResetError):
    """Nobody listens any more."""


class MessageExport(Drill):
    """A connection is held for as long as somebody else likes, and an end by error looks like the end."""

    id = "M2"
    title = "The export that stops everybody"
    answer = "export_messages"
    minutes = 18
    points = 2
    level = "mid"
    topics: ClassVar = ("pooling", "streaming", "async", "performance")
    faults: ClassVar = ("connection held", "cut short")
    hints: ClassVar = (
        "How long does `send` take with a slow receiver, and what does the function hold during that time?",
        "A cursor lives as long as its transaction, and the transaction has the connection. Read a page, let go of the "
        "connection, send the page, read the next. How does the next page know where the last one ended, when "
        "messages may be deleted meanwhile, and many were written in one moment?",
        "`tuple_(Message.created_at, Message.id) > (…)` with the last line's two values, and a LIMIT of at most 200. "
        "Then look at the `except`: what does the caller take a number for that is too small?",
    )
    why = (
        "The database is fast and the receiver is slow, so the two must not wait for each other: pages by key take a "
        "connection for milliseconds each, and no cursor, snapshot or transaction lives as long as the download. "
        "Together the two columns of the order are unique, so no page ends inside of what it cannot tell apart, and a "
        "place in the order stays where it is when rows before it go. And an export that broke off has to say so: its "
        "caller cannot see from a number that there was more."
    )
    follow_up = (
        "The export is to show one moment, without messages that came while it ran. What can you do that does not keep "
        "a transaction open?"
    )
    mistakes: ClassVar = {
        "not lines": "`send` was given {kind}, and one line of JSON with `id`, `role` and `content` was asked for. "
        "| `json.dumps`, and a line end.",
        "strangers": "{count} lines are of messages that are not the user's. | Is the owner still a condition?",
        "connection held": "While the receiver took line {line}, {count} connection(s) were held. "
        "| Whoever receives slowly keeps it from everybody else. What ends a transaction before `send`?",
        "fetched ahead": "{rows:,} rows had been fetched when {sent} lines were sent. "
        "| A user may have millions: no more than two hundred ahead.",
        "row by row": "{count} statements were sent for {total} messages. "
        "| A page may hold two hundred: each statement is a round trip, and one for fifty messages is enough.",
        "twice": "{count} messages were sent more than once. "
        "| Where does the next page begin, if many messages have the same `created_at`, or some go meanwhile?",
        "missing": "{count} messages were never sent. "
        "| Where does the next page begin, if many messages have the same `created_at`?",
        "skipped": "Messages that had been sent were deleted meanwhile, and {count} others were never sent. "
        "| A place that is counted from the beginning moves when something before it goes.",
        "other content": "{count} lines do not say what is stored. | `id`, `role` and `content` as they are.",
        "order": "The right messages were sent in another order. | By `created_at`, and of one moment by `id`.",
        "wrong return": "{lines} lines were sent, and `export_messages` returned {said}. | How many were sent.",
        "cut short": "The receiver was gone at line {line}, and `export_messages` returned {said} as if that were all. "
        "| Its caller cannot tell that from a short export. Let the error go on.",
        "another error": "The receiver was gone with {gone}, and the caller was given {error}. "
        "| The caller knows what a receiver does. Let the error go on as it is.",
        "two at once": "Line {line} was sent before the receiver had taken the one before it. "
        "| `await send(…)` comes back when it is taken: one after the other.",
        "sent on": "The receiver was gone at line {line}, and `send` was called again after that. "
        "| Nobody is there any more.",
    }

    async def judge(self, attempt: Attempt) -> None:
        user = await add_user(attempt)
        messages = await _stage(attempt, user)
        await add_double(attempt, user)
        await self._sends_all(attempt, user, messages)
        await self._bears_with_changes(attempt, user, messages)
        await self._is_left(attempt, user)
        await self._sends_all(attempt, await add_user(attempt), [])
        await self._sends_all(attempt, uuid4(), [])
        nobody = Receiver(attempt)
        await expect_errors_to_rise(attempt, call=lambda: attempt.call(sessions_of(attempt), user, nobody))

    async def _sends_all(self, attempt: Attempt, user: UUID, messages: list[Line]) -> None:
        receiver = Receiver(attempt, looks=True)
        said = await attempt.call(sessions_of(attempt), user, receiver)
        attempt.expect(not receiver.held, "connection held", count=receiver.held, line=receiver.held_at)
        self._compare(attempt, receiver, messages, {message["id"] for message in messages}, "missing")
        attempt.expect(said == len(receiver.lines), "wrong return", said=article(said), lines=len(receiver.lines))
        rows, sent = receiver.furthest
        attempt.expect(rows - sent <= AHEAD + SPARE, "fetched ahead", rows=rows, sent=sent)
        count, total = attempt.log.count, len(messages)
        attempt.expect(count <= total / PER_STATEMENT + FURTHER, "row by row", count=count, total=total)

    async def _bears_with_changes(self, attempt: Attempt, user: UUID, messages: list[Line]) -> None:
        """Of the first page some messages go when they have been sent, and somebody posts."""
        gone = {message["id"] for message in messages[:DELETED]}

        async def change() -> None:
            await attempt.sql(POSTED, id=UUID(messages[-1]["id"]))
            await attempt.sql(SENT, ids=",".join(gone))

        receiver = Receiver(attempt, then={DELETED + 5: change})
        await attempt.call(sessions_of(attempt), user, receiver)
        posted = await attempt.sql("SELECT id::text, role, content FROM messages WHERE seq = 9999")
        known = messages + [dict(zip(posted.columns, row, strict=True)) for row in posted]
        self._compare(attempt, receiver, known, {message["id"] for message in messages} - gone, "skipped")

    async def _is_left(self, attempt: Attempt, user: UUID) -> None:
        async def leave() -> None:
            raise ReceiverGone("connection reset by peer")

        receiver = Receiver(attempt, then={(line := 120 + randbelow(60)): leave})
        try:
            said = await attempt.call(sessions_of(attempt), user, receiver)
        except Wrong as wrong:
            error = wrong.__cause__
            if wrong.mistake != "raised" or error is None:
                raise
            own = isinstance(error, ReceiverGone)
            attempt.expect(own, "another error", gone=ReceiverGone.__name__, error=kind_of(error))
        else:
            raise attempt.wrong("cut short", said=article(said), line=line)
        attempt.expect(len(receiver.lines) == line, "sent on", line=line)
        attempt.look_for_held_connections()

    def _compare(
        self, attempt: Attempt, receiver: Receiver, messages: list[Line], wanted: set[str], missing: str
    ) -> None:
        """``wanted`` are the ids of those that have to come; of other ``messages`` each may come or not."""
        stored = {message["id"]: message for message in messages}
        lines = receiver.lines
        strangers = sum(line["id"] not in stored for line in lines)
        attempt.expect(not strangers, "strangers", count=strangers)
        sent = [line["id"] for line in lines]
        attempt.expect(len(set(sent)) == len(sent), "twice", count=len(sent) - len(set(sent)))
        attempt.expect(wanted <= set(sent), missing, count=len(wanted - set(sent)))
        other = sum(any(line.get(name) != stored[line["id"]][name] for name in stored[line["id"]]) for line in lines)
        attempt.expect(not other, "other content", count=other)
        order = [message["id"] for message in messages if message["id"] in wanted]
        attempt.expect([id for id in sent if id in wanted] == order, "order")


class Receiver:
    """Takes lines, as slowly as it likes.

    Args:
        looks: it looks at each line whether connections are held, and now and then how much was fetched.
        then: what happens when so many lines have come.

    Attributes:
        lines: what it was sent, read from JSON.
        held: how many connections were held, once, and ``held_at`` which line.
        furthest: the rows that were fetched and the lines that were sent, when these were furthest apart.
    """

    def __init__(self, attempt: Attempt, looks: bool = False, then: dict[int, Then] | None = None) -> None:
        self.lines: list[Line] = []
        self.held = self.held_at = 0
        self.furthest = (0, 0)
        self._busy = False
        self._attempt, self._looks, self._then = attempt, looks, then or {}

    async def __call__(self, line: Any) -> None:
        self.lines.append(self._read(line))
        number = len(self.lines)
        self._attempt.expect(not self._busy, "two at once", line=number)
        self._busy = True
        try:
            await asyncio.sleep(0)  # others go on meanwhile
            await self._take(number)
        finally:
            self._busy = False

    async def _take(self, number: int) -> None:
        if self._looks and not self.held:
            self.held, self.held_at = await self._held(), number
        if self._looks and number % EVERY == 1:
            now = fetched(self._attempt.log), number
            self.furthest = max(self.furthest, now, key=lambda rows_and_sent: rows_and_sent[0] - rows_and_sent[1])
        if then := self._then.get(number):
            await then()

    async def _held(self) -> int:
        """How many connections are held for as long as this receiver likes."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + SLOW
        while True:
            held = await held_now(self._attempt)
            if not held or clock() > deadline:
                return held
            await asyncio.sleep(0.005)

    def _read(self, line: Any) -> Line:
        try:
            read = json.loads(line)
        except (TypeError, ValueError):
            read = None
        right = isinstance(read, dict) and isinstance(read.get("id"), str)
        self._attempt.expect(right and line.endswith("\n") and line.count("\n") == 1, "not lines", kind=article(line))
        found: Line = read
        return found


async def _stage(attempt: Attempt, user: UUID) -> list[Line]:
    """Messages of several conversations, many of one moment; what is to be sent of them, in its order."""
    threads = [{"id": uuid4(), "user_id": user, "title": f"Question {token_hex(2)}"} for _ in range(3)]
    await add_rows(attempt, "conversations", threads)
    rows = [
        {
            "id": uuid4(), "conversation_id": threads[place % 3]["id"], "seq": 1 + place // 3,
            "role": ROLES[place % len(ROLES)], "content": awkward_text(), "status": STATUSES[place % len(STATUSES)],
            "created_at": BEGAN + timedelta(microseconds=max(0, place - AT_ONCE) // TIED),
        }
        for place in range(MESSAGES)
    ]  # fmt: skip
    await add_rows(attempt, "messages", shuffled(rows))
    rows.sort(key=lambda row: (row["created_at"], row["id"]))
    return [{"id": str(row["id"]), "role": row["role"], "content": row["content"]} for row in rows]
