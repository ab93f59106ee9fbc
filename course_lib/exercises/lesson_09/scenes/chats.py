"""A chat that stores what is said and forgets what is asked of it, written well in two ways, and badly in many.

It is synchronous, as Hypothesis is, and keeps one connection on which a call is a statement: a hundred examples are a
thousand of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from course_lib.judging.testing.plugin import CaseHere
from course_lib.postgres.address import libpq_uri

EXAMPLES, STEPS = 60, 12  # as the statement says
SLOW_SECONDS = 0.34  # more than the 0.2 that Hypothesis gives an example, or the 0.25 of a first try

BEGUN = b"""
    WITH someone AS (
        INSERT INTO users (email, name) VALUES (gen_random_uuid() || '@example.org', 'Ada') RETURNING id
    )
    INSERT INTO conversations (user_id, title) SELECT id, 'Chat' FROM someone RETURNING id
"""
SAID = b"""
    INSERT INTO messages (conversation_id, seq, role, content)
    SELECT %(id)s, last + place, 'user', content
    FROM (SELECT coalesce(max(seq), 0) AS last FROM messages WHERE conversation_id = %(id)s),
        unnest(%(texts)s::text[]) WITH ORDINALITY AS said (content, place)
"""
COUNTED = SAID.replace(b"coalesce(max(seq), 0)", b"count(*)")
IN_ORDER = b"SELECT seq, content FROM messages WHERE conversation_id = %(id)s ORDER BY seq"
BY_TIME = b"SELECT seq, content FROM messages WHERE conversation_id = %(id)s ORDER BY created_at, seq DESC"
FORGOTTEN = b"DELETE FROM messages WHERE conversation_id = %(id)s AND seq = %(seq)s"
WITH_THE_TEXT = b"DELETE FROM messages WHERE conversation_id = %(id)s AND content = %(content)s"
AND_THE_REST = FORGOTTEN.replace(b"seq = ", b"seq >= ")
CLOSE_UP = b"UPDATE messages SET seq = seq + %(by)s WHERE conversation_id = %(id)s AND seq > %(after)s"
FAR = 100_000


def warm_up() -> None:
    """Have Hypothesis read the constants in the source of what is loaded: it does so when it draws (not the first)."""

    @settings(database=None, deadline=None, max_examples=3, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(), min_size=200, max_size=200))
    def draws(numbers: list[int]) -> None:
        pass

    draws()


def pytest_configure() -> None:
    """The profile that the statement tells of, where tests are tried and not where answers are written.

    All of it is said: what Hypothesis takes otherwise is another thing where there is a ``CI`` in the environment.
    """
    settings.register_profile(
        "check", settings.get_profile("default"), max_examples=EXAMPLES, stateful_step_count=STEPS, database=None,
        deadline=timedelta(milliseconds=200), derandomize=False, print_blob=False, report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    settings.load_profile("check")


class Chat:
    """A conversation, as somebody writes it down and reads it again."""

    def __init__(self, connection: psycopg.Connection[Any], case: CaseHere, done: Counter[str]) -> None:
        self._connection = connection
        self._name = case.name
        self._slow = bool(case.options.get("slow"))
        self._done = done
        done["chats"] += 1
        self._id: Any = self._run(BEGUN)[0][0]

    def say(self, *texts: str) -> None:
        """Add these, one after the other, in one transaction."""
        self._done["said"] += len(texts)
        self._done["at once"] = max(self._done["at once"], len(texts))
        self._done["refused"] += any("\0" in one for one in texts)
        self._take_time("say")
        stored = self._kept(texts)
        self._run(COUNTED if self._name == "count" else SAID, texts=stored)

    def _kept(self, texts: tuple[str, ...]) -> list[str]:
        if self._name == "strip":
            return [one.strip() for one in texts]
        if self._name == "lower":
            return [one.lower() for one in texts]
        if self._name == "empty":
            return [one for one in texts if one]
        if self._name not in ("same", "twice"):
            return list(texts)
        there = [content for _, content in self._rows()]
        kept = list(there)
        for one in texts:
            if not (one in kept if self._name == "same" else kept and one.casefold() == kept[-1].casefold()):
                kept.append(one)
        return kept[len(there) :]

    def read(self) -> list[str]:
        """What has been said and not forgotten, in order."""
        self._take_time("read")
        return [content for _, content in (self._run(BY_TIME) if self._name == "time" else self._rows())]

    def forget(self, n: int) -> None:
        """Remove one of them, 0 is the first.

        Raises:
            IndexError: there is none.
        """
        self._done["forgot"] += 1
        self._take_time("forget")
        rows = self._rows()
        there = 0 <= n < len(rows) - (self._name == "short")
        self._done["beyond"] += not 0 <= n < len(rows)
        if not there:
            if self._name == "silent" or (self._name == "beyond" and not rows):
                return
            if self._name != "beyond":
                raise IndexError(f"there is no message {n} of {len(rows)}")
            n = -1
        self._remove(*rows[0 if self._name == "first" else n])

    def _remove(self, seq: int, content: str) -> None:
        statement = {"by text": WITH_THE_TEXT, "rest": AND_THE_REST}.get(self._name, FORGOTTEN)
        self._run(statement, seq=seq, content=content)
        if self._name == "close up":
            for by, after in ((FAR, seq), (-FAR - 1, FAR)):  # at once, two would meet
                self._run(CLOSE_UP, by=by, after=after)

    def _rows(self) -> list[Any]:
        return self._run(IN_ORDER)

    def _run(self, statement: bytes, **values: Any) -> list[Any]:
        result = self._connection.execute(statement, {"id": getattr(self, "_id", None), **values})
        return result.fetchall() if result.description else []

    def _take_time(self, call: str) -> None:
        """The first call of each kind does, of all chats."""
        if self._slow and not self._done[f"slow {call}"]:
            self._done[f"slow {call}"] = 1
            time.sleep(SLOW_SECONDS)


@pytest.fixture(scope="session")
def new_chat(_case: CaseHere) -> Iterator[Callable[[], Chat]]:
    done: Counter[str] = Counter()
    with psycopg.connect(libpq_uri(make_url(_case.url)), autocommit=True) as connection:

        def new_chat() -> Chat:
            """An empty one, beside those that are there."""
            return Chat(connection, _case, done)

        yield new_chat
    _case.note(done=dict(done))  # once: a note is read by the judge, and here there would be thousands
