"""1.8: thousands of rows, few statements, all or none."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.instruments import Rows
from course_lib.judging.asking import ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import AWKWARD_META, AWKWARD_TEXTS, ROLES, STATUSES
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of
from course_lib.judging.staging import add_rows, add_user, other_rows

MANY = 5000  # times eight columns: more than the 32,767 parameters that one statement can carry
FEW = 70
SOME = 4200  # more than 32,767 values in rows of eight
STATEMENTS = 10
REFUSED = (("status", ""), ("content", None))
Turns = list[dict[str, Any]]


class LoadMessages(Exercise):
    """Many rows in one execute, in one transaction."""

    id = "1.8"
    title = "Import a long conversation"
    answer = "load_messages"
    minutes = 12
    points = 2
    level = "mid"
    seconds = 20.0  # thousands of rows, on a machine that may be busy
    hints: ClassVar = (
        "One commit, at the very end: whatever fails before it leaves nothing behind. "
        "And one statement per message is a network round trip per message.",
        "Build a list of dicts first, each with `conversation_id` and `seq`. `enumerate(messages, start=1)` counts.",
        "`session.execute(insert(Message), rows)` takes the whole list as its second argument. `.values(rows)` makes "
        "one "
        "statement with a parameter for every value, and there is a limit to those.",
    )
    why = (
        "The list goes to the driver as many parameter sets of one statement, so there is no limit to its length and "
        "one "
        "round trip instead of thousands. One transaction around it: the server undoes everything when one row is "
        "refused."
    )
    follow_up = (
        "Two imports into the same conversation start in the same moment. Which numbers do they give, and who notices?"
    )
    mistakes: ClassVar = {
        "too many parameters": "A conversation of {n} messages made it raise {error}: one statement carries at most "
        "32767 values. "
        "| Give the list to `execute` beside the statement, not to `.values(…)`.",
        "numbered from 0": "It raised {error}: the table wants `seq` greater than 0. | `enumerate(…, start=1)`.",
        "not stored": "Of {n} messages, none is in the table. | What makes it last?",
        "wrong length": "Of {n} messages, {count} are in the table. | Is every one of them sent, and sent once?",
        "numbering": "The numbers of {n} messages run from {first} to {last}. | 1, 2, 3 … in the order of the list.",
        "wrong order": "Message {seq} has the content of another one. | The number is the place in the list.",
        "values lost": "Message {seq} did not keep its `{column}`. "
        "| Every value that comes with a message is a column of its row.",
        "swallowed": "The {column} of message {bad} was {value!r}, which the table refuses; no error reached the "
        "caller, and of {n} messages {count} are in the table. "
        "| All or nothing, and who calls it must learn which: send what was given, and let the error rise.",
        "half loaded": "For the sake of message {bad} of {n} it raised {error}, and {count} messages stayed behind. "
        "| One transaction: commit once, at the end.",
        "empty list": "An empty list {did}. | Nothing to load is not an error.",
        "other conversations": "Messages of other conversations were changed. "
        "| The conversation's id goes into every row.",
        "changed the list": "The list that was passed in is no longer as it was. "
        "| It is the caller's: make dicts of your own.",
        "too many statements": "{count} statements for {n} messages; the budget is {budget}. "
        "| `execute(insert(Message), rows)` sends the whole list.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        first = await _conversation(attempt, user_id)
        others = await other_rows(attempt, "messages", "conversation_id", first)
        with calling_it(attempt, "numbered from 0", IntegrityError, saying="ck_messages_seq"):
            await self._loads(attempt, first, _turns(FEW))
        self._count_statements(attempt, FEW)
        attempt.expect(await other_rows(attempt, "messages", "conversation_id", first) == others, "other conversations")
        await self._loads_nothing(attempt, await _conversation(attempt, user_id))
        await self._loads_all_or_nothing(attempt, await _conversation(attempt, user_id), SOME, "role", "")
        for column, value in REFUSED:
            await self._loads_all_or_nothing(attempt, await _conversation(attempt, user_id), 2, column, value)
        with calling_it(attempt, "too many parameters", DBAPIError, saying="32767", n=MANY):
            await self._loads(attempt, await _conversation(attempt, user_id), _turns(MANY))
        self._count_statements(attempt, MANY)

    def _count_statements(self, attempt: Attempt, n: int) -> None:
        count = attempt.log.count
        attempt.expect(count <= STATEMENTS, "too many statements", count=count, n=n, budget=STATEMENTS)

    async def _loads(self, attempt: Attempt, conversation_id: UUID, turns: Turns) -> None:
        given = _copies(turns)
        await ask(attempt, conversation_id, given)
        rows = await attempt.sql(
            """
            SELECT seq, role, content, status, token_count, meta, created_at
            FROM messages WHERE conversation_id = :id ORDER BY seq
            """,
            id=conversation_id,
        )
        n = len(turns)
        attempt.expect(bool(rows), "not stored", n=n)
        attempt.expect(len(rows) == n, "wrong length", n=n, count=len(rows))
        first, last = rows[0][0], rows[-1][0]
        attempt.expect((first, last) == (1, n), "numbering", n=n, first=first, last=last)  # seq is unique
        if [tuple(row) for row in rows] != [(seq, *turn.values()) for seq, turn in enumerate(turns, start=1)]:
            self._tell_what_differs(attempt, turns, rows)
        attempt.expect(given == turns, "changed the list")

    def _tell_what_differs(self, attempt: Attempt, turns: Turns, rows: Rows) -> None:
        for turn, row in zip(turns, rows, strict=True):
            stored = dict(zip(rows.columns, row, strict=True))
            attempt.expect(stored["content"] == turn["content"], "wrong order", seq=row[0])
            for column, value in turn.items():
                attempt.expect(stored[column] == value, "values lost", seq=row[0], column=column)

    async def _loads_nothing(self, attempt: Attempt, conversation_id: UUID) -> None:
        with calling_it(attempt, "empty list", did="made it raise an error"):
            await ask(attempt, conversation_id, [])
        count = await _count(attempt, conversation_id)
        attempt.expect(count == 0, "empty list", did=f"left {count} messages")

    async def _loads_all_or_nothing(
        self, attempt: Attempt, conversation_id: UUID, n: int, column: str, value: str | None
    ) -> None:
        """The last message, or nearly the last one, is refused by the table."""
        turns, bad = _turns(n), n - randbelow(min(n, 90))
        turns[bad - 1][column] = value
        risen: BaseException | None = None
        try:
            await ask(attempt, conversation_id, _copies(turns))
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            risen = wrong.__cause__
        count = await _count(attempt, conversation_id)
        refused = {"bad": bad, "n": n, "count": count}
        attempt.expect(risen is not None, "swallowed", column=column, value=value, **refused)
        attempt.expect(count == 0, "half loaded", error=kind_of(risen), **refused)


def _turns(count: int) -> Turns:
    """A conversation as another product exports it: times of any zone, out of order; some messages come twice."""
    start = datetime.now(UTC) - timedelta(days=90)
    mark = token_hex(3)
    turns: Turns = []
    for n in range(count):
        zone = timezone(timedelta(minutes=(330, -210, 0)[n % 3]))
        turns.append(
            {
                "role": ROLES[n % 4 if n % 9 else 3],
                "content": (AWKWARD_TEXTS[n % len(AWKWARD_TEXTS)], f"{mark}, it's turn {n}", "", " ")[n % 4],
                "status": STATUSES[n % 7 % 3],
                "token_count": n % 50,
                "meta": AWKWARD_META[n % len(AWKWARD_META)] if n % 4 else {"turn": n},
                "created_at": (start + timedelta(seconds=20 * (n - 7 * (n % 5)), microseconds=n)).astimezone(zone),
            }
        )
        if n % 10 == 9:
            turns[n] = dict(turns[n - 1])
    return turns


def _copies(turns: Turns) -> Turns:
    """Copies to the ground, ``meta`` included; of the rest nothing can be changed."""
    known: dict[int, Any] = {}  # what is copied once
    return [turn | {"meta": deepcopy(turn["meta"], known)} for turn in turns]


async def _conversation(attempt: Attempt, user_id: UUID) -> UUID:
    id = uuid4()
    now = datetime.now(UTC)
    row = {"id": id, "user_id": user_id, "title": "imported", "created_at": now, "updated_at": now}
    await add_rows(attempt, "conversations", [row])
    return id


async def _count(attempt: Attempt, conversation_id: UUID) -> int:
    count: int = await attempt.value("SELECT count(*) FROM messages WHERE conversation_id = :id", id=conversation_id)
    return count
