"""Conversations that judges stage, a model that looks at the pool while it is asked, and what was stored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double, awkward_text
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.threads import shuffled

ROLES = ("system", "user", "assistant", "tool", "user", "assistant")
STATUSES = ("complete", "aborted", "complete", "streaming")
STORED = """
    SELECT conversation_id, seq, role, content, status FROM messages
    WHERE conversation_id = ANY(CAST(string_to_array(:ids, ',') AS uuid[])) ORDER BY seq
"""  # ids are text: asyncpg asks the server what an array is, once a connection, for longer than the query takes


class ModelDown(RuntimeError):
    """The provider did not answer."""


@dataclass(frozen=True)
class Asked:
    """A conversation on the stage, its messages by ``seq``, and what is asked next in it."""

    id: UUID
    rows: list[dict[str, Any]]
    question: str

    @property
    def last(self) -> int:
        """The number of its last message, 0 where it is empty."""
        last: int = self.rows[-1]["seq"] if self.rows else 0
        return last

    @property
    def history(self) -> list[dict[str, str]]:
        """Its messages, oldest first, as a model takes them: each a dict with ``role`` and ``content``."""
        return [{"role": row["role"], "content": row["content"]} for row in self.rows]

    @property
    def messages(self) -> list[dict[str, str]]:
        """What the model is to be given."""
        return [*self.history, {"role": "user", "content": self.question}]

    def new_ones(self, stored: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the stored messages that were not there before."""
        known = {row["seq"] for row in self.rows}
        return [row for row in stored if row["seq"] not in known]

    def next_turn(self, stored: Sequence[dict[str, Any]]) -> Asked:
        """The same conversation with the messages that stand in it by now, and another question."""
        return Asked(self.id, list(stored), a_question())


async def add_asked(attempt: Attempt, sizes: Sequence[int]) -> list[Asked]:
    """A conversation of so many messages for each of ``sizes``, in this order; a stranger has the same ones."""
    user, now = await add_user(attempt), datetime.now(UTC)
    asked = [Asked(uuid4(), _messages(size), a_question()) for size in sizes]
    threads = [{"id": one.id, "user_id": user, "title": "Refunds", "created_at": now} for one in asked]
    await add_rows(attempt, "conversations", threads)
    messages = [
        row | {"conversation_id": one.id, "created_at": now + timedelta(seconds=randbelow(99))}
        for one in asked
        for row in one.rows
    ]
    await add_rows(attempt, "messages", shuffled(messages))  # by a clock that goes wrong: only seq tells the order
    await add_double(attempt, user)
    return asked


def a_question() -> str:
    """What nobody has asked yet, with quotes, and blanks that belong to it."""
    return f"  what's {awkward_text()}?\n"


def a_reply() -> str:
    return f"it's {awkward_text()} \n"


def _messages(size: int) -> list[dict[str, Any]]:
    """Of every role and status, with gaps in their numbers, and one that is said twice."""
    seq, rows = 0, []
    for place in range(size):
        seq += 1 + (place == 0) + randbelow(3)
        content = "ok" if place in (1, 4) else awkward_text()
        status = STATUSES[place % len(STATUSES)]
        rows.append({"seq": seq, "role": ROLES[place % len(ROLES)], "content": content, "status": status})
    return rows


async def read_as_stored(attempt: Attempt) -> None:
    """Rows come as they lie there, unless a statement says another order: no index sorts them by chance."""
    await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET enable_indexscan = off')


async def stored(attempt: Attempt, threads: Sequence[Asked]) -> dict[UUID, list[dict[str, Any]]]:
    """The messages that others see in these conversations by now, in the order of their numbers."""
    rows = await attempt.sql(STORED, ids=",".join(str(thread.id) for thread in threads))
    found: dict[UUID, list[dict[str, Any]]] = {thread.id: [] for thread in threads}
    for row in rows:
        found[row[0]].append(dict(zip(rows.columns[1:], row[1:], strict=True)))
    return found


async def stored_in(attempt: Attempt, thread: Asked) -> list[dict[str, Any]]:
    """The same of one conversation."""
    return (await stored(attempt, [thread]))[thread.id]


def plain(messages: object) -> list[dict[str, str]] | None:
    """What the model was given, None if that is no list of dicts with role and content."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return None
    if not all(isinstance(message, Mapping) and {"role", "content"} <= set(message) for message in messages):
        return None
    return [{"role": message["role"], "content": message["content"]} for message in messages]
