"""A chat that stores what is said and forgets what is asked of it, written well in two ways, and with five mistakes.

It is synchronous, as Hypothesis is, and keeps one connection: a hundred examples are a thousand statements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import Connection, create_engine, make_url, text

from course_lib.judging.testing.plugin import CaseHere

HOW = {
    "count": "numbers a message by how many there are",
    "strip": "strips whitespace from both ends of a text",
    "twice": "drops a message that differs from the one before it in nothing but case",
    "time": "orders by time, which messages of one transaction share",
    "by text": "forgets every message with the same text",
}
"""What each mutant does, in words."""
NEED_FORGETTING = {"count", "by text"}
EXAMPLES, STEPS = 60, 12  # as the statement says
SLOW_SECONDS = 0.35  # more than the 0.2 that Hypothesis gives an example

BEGUN = """
    WITH someone AS (
        INSERT INTO users (email, name) VALUES (gen_random_uuid() || '@example.org', 'Ada') RETURNING id
    )
    INSERT INTO conversations (user_id, title) SELECT id, 'Chat' FROM someone RETURNING id
"""
NUMBER = {
    "count": "SELECT count(*) + 1 FROM messages WHERE conversation_id = :id",
    "max": "SELECT coalesce(max(seq), 0) + 1 FROM messages WHERE conversation_id = :id",
}
STORED = text("INSERT INTO messages (conversation_id, seq, role, content) VALUES (:id, :seq, 'user', :content)")
IN_ORDER = "SELECT seq, content FROM messages WHERE conversation_id = :id ORDER BY "
FORGOTTEN = "DELETE FROM messages WHERE conversation_id = :id AND "
CLOSE_UP = text("UPDATE messages SET seq = seq + :by WHERE conversation_id = :id AND seq > :after")
FAR = 100_000


def pytest_configure() -> None:
    """The profile that the statement tells of, where tests are tried and not where answers are written."""
    settings.register_profile(
        "check", max_examples=EXAMPLES, stateful_step_count=STEPS, database=None, report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    settings.load_profile("check")


class Chat:
    """A conversation, as somebody writes it down and reads it again."""

    def __init__(self, connection: Connection, case: CaseHere) -> None:
        self._connection = connection
        self._case = case
        with connection.begin():
            self._id: UUID = connection.execute(text(BEGUN)).scalar_one()

    def say(self, *texts: str) -> None:
        """Add these, one after the other, in one transaction."""
        self._case.note(said=len(texts))
        if any("\0" in one for one in texts):
            self._case.note(refused=True)
        kept = [self._last()] if self._case.name == "twice" else [None]
        with self._connection.begin():
            number = NUMBER["count" if self._case.name == "count" else "max"]
            seq: int = self._connection.execute(text(number), {"id": self._id}).scalar_one()
            for one in texts:
                if kept[-1] is not None and one.casefold() == kept[-1].casefold():
                    continue
                content = one.strip() if self._case.name == "strip" else one
                self._connection.execute(STORED, {"id": self._id, "seq": seq, "content": content})
                kept += [one] if self._case.name == "twice" else []
                seq += 1
        if self._case.options.pop("slow", False):
            time.sleep(SLOW_SECONDS)

    def read(self) -> list[str]:
        """What has been said and not forgotten, in order."""
        with self._connection.begin():
            rows = self._rows("created_at DESC, seq" if self._case.name == "time" else "seq")
        contents = [content for _, content in rows]
        return contents[::-1] if self._case.name == "time" else contents

    def forget(self, n: int) -> None:
        """Remove one of them, 0 is the first.

        Raises:
            IndexError: there is none.
        """
        self._case.note(forgot=True)
        with self._connection.begin():
            rows = self._rows("seq")
            if not 0 <= n < len(rows):
                raise IndexError(f"there is no message {n} of {len(rows)}")
            seq, content = rows[n]
            which = "content = :content" if self._case.name == "by text" else "seq = :seq"
            self._connection.execute(text(FORGOTTEN + which), {"id": self._id, "seq": seq, "content": content})
            if self._case.name == "close up":
                for by, after in ((FAR, seq), (-FAR - 1, FAR)):  # at once, two would meet
                    self._connection.execute(CLOSE_UP, {"id": self._id, "by": by, "after": after})

    def _rows(self, order: str) -> Sequence[tuple[int, str]]:
        return [(seq, content) for seq, content in self._connection.execute(text(IN_ORDER + order), {"id": self._id})]

    def _last(self) -> str | None:
        with self._connection.begin():
            rows = self._rows("seq")
        return rows[-1][1] if rows else None


@pytest.fixture(scope="session")
def new_chat(_case: CaseHere) -> Iterator[Callable[[], Chat]]:
    engine = create_engine(make_url(_case.url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:

        def new_chat() -> Chat:
            """An empty one, beside those that are there."""
            _case.note(chat=True)
            return Chat(connection, _case)

        yield new_chat
    engine.dispose()
