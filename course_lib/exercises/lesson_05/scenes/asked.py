"""Conversations that judges stage, a model that looks at the pool while it is asked, and what was stored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Thread, add_threads, text_of

STORED = """
    SELECT conversation_id, seq, role, content, status FROM messages
    WHERE conversation_id = ANY(CAST(:ids AS uuid[])) ORDER BY seq
"""


class ModelDown(RuntimeError):
    """The provider did not answer."""


@dataclass(frozen=True)
class Asked:
    """A conversation on the stage, and what is asked next in it."""

    thread: Thread
    question: str

    @property
    def id(self) -> UUID:
        return self.thread.id

    @property
    def history(self) -> list[dict[str, str]]:
        """Its messages, oldest first, as a model takes them: each a dict with ``role`` and ``content``."""
        return [{"role": row["role"], "content": row["content"]} for row in self.thread.messages]

    @property
    def messages(self) -> list[dict[str, str]]:
        """What the model is to be given."""
        return [*self.history, {"role": "user", "content": self.question}]


async def add_asked(attempt: Attempt, turns: Sequence[int]) -> list[Asked]:
    """A conversation of so many messages for each of ``turns``, in this order."""
    threads = await add_threads(attempt, await add_user(attempt), turns)
    threads.sort(key=lambda thread: turns.index(len(thread.messages)))
    return [Asked(thread, text_of(4)) for thread in threads]


async def read_as_stored(attempt: Attempt) -> None:
    """Rows come as they lie there, unless a statement says another order: no index sorts them by chance."""
    await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET enable_indexscan = off')


async def stored(attempt: Attempt, threads: Sequence[Asked]) -> dict[UUID, list[dict[str, Any]]]:
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
