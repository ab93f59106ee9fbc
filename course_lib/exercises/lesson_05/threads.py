"""Conversations that judges stage, a model that looks at the pool while it is asked, and what was stored of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import choice, token_hex
from typing import Any
from uuid import UUID, uuid4

from course_lib.db import make_engine
from course_lib.exercises.attempt import POOL, Attempt
from course_lib.exercises.staging import add_rows, add_user

WORDS = ("oven", "invoice", "lease", "printer", "battery", "refund", "harbour", "ticket")
AT = "2026-03-01T12:00:00Z"
STORED = """
    SELECT conversation_id, seq, role, content, status FROM messages
    WHERE conversation_id = ANY(CAST(:ids AS uuid[])) ORDER BY seq
"""


class ModelDown(RuntimeError):
    """The provider did not answer."""


@dataclass(frozen=True)
class Thread:
    """A conversation on the stage.

    Attributes:
        history: its messages, oldest first, as a model takes them: each a dict with ``role`` and ``content``.
        question: what is asked next.
    """

    id: UUID
    history: tuple[dict[str, str], ...]
    question: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """What the model is to be given."""
        return [*self.history, {"role": "user", "content": self.question}]


async def add_threads(attempt: Attempt, turns: Sequence[int]) -> list[Thread]:
    """A conversation of so many messages for each of ``turns``, stored in another order than they were said."""
    user_id, roles = await add_user(attempt), ("user", "assistant")
    threads = [
        Thread(uuid4(), tuple({"role": roles[at % 2], "content": new_text()} for at in range(count)), new_text())
        for count in turns
    ]
    conversations = [
        {"id": thread.id, "user_id": user_id, "title": "Help", "created_at": AT, "updated_at": AT} for thread in threads
    ]
    await add_rows(attempt, "conversations", conversations)
    messages = [
        {"id": uuid4(), "conversation_id": thread.id, "seq": seq, "status": "complete", "token_count": 0, "meta": {}}
        | {"created_at": AT, **turn}
        for thread in threads
        for seq, turn in enumerate(thread.history, 1)
    ]
    await add_rows(attempt, "messages", messages[::-1])
    return threads


async def read_as_stored(attempt: Attempt) -> None:
    """Rows come as they lie there, unless a statement says another order: no index sorts them by chance."""
    await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET enable_indexscan = off')


def new_text() -> str:
    return f"{choice(WORDS)} {choice(WORDS)} {token_hex(4)}"


async def stored(attempt: Attempt, threads: Sequence[Thread]) -> dict[UUID, list[dict[str, Any]]]:
    """The messages that others see in these conversations by now, in the order of their numbers."""
    rows = await attempt.sql(STORED, ids=[thread.id for thread in threads])
    found: dict[UUID, list[dict[str, Any]]] = {thread.id: [] for thread in threads}
    for row in rows:
        found[row[0]].append(dict(zip(rows.columns[1:], row[1:], strict=True)))
    return found


def out_now(attempt: Attempt) -> int:
    """How many of the learner's connections are out of the pool."""
    out: int = attempt.engine.pool.checkedout()  # type: ignore[attr-defined]
    return out


@asynccontextmanager
async def small_pool(attempt: Attempt, size: int) -> AsyncIterator[None]:
    """Until the block ends, the learner's engine has so many connections and no more."""
    usual, attempt.engine = (
        attempt.engine,
        make_engine(attempt.database.url, pool_size=size, max_overflow=0, pool_timeout=POOL["pool_timeout"]),
    )
    try:
        yield
        attempt.look_for_held_connections()
    finally:
        await attempt.engine.dispose()
        attempt.engine = usual


def comes_of(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether ``error`` is of that kind, or was raised because of one."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def plain(messages: object) -> list[dict[str, str]] | None:
    """What the model was given, None if that is no list of dicts with role and content."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return None
    if not all(isinstance(message, Mapping) and {"role", "content"} <= set(message) for message in messages):
        return None
    return [{"role": message["role"], "content": message["content"]} for message in messages]
