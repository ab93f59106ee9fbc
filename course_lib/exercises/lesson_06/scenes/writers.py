"""Messages without a language, and people who write to them in the middle of a backfill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from secrets import choice, randbelow
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

import psycopg

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.races import Intruder
from course_lib.judging.staging import add_rows, add_user

SPOKEN = ("en", "de", "fr", "pt")
WRITTEN = "nl"  # by writers, and never by ``detect``
CIRCLES = 30  # times that one text is asked about in one call, after which no answer comes to an end
EVERY_ROW = 1 << 30  # locked, where the table is
STRONG = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]  # keep writers out

TABLE = (
    "ALTER TABLE messages ADD language text",
    "UPDATE messages SET language = 'en'",
    "CREATE TABLE changes_of_messages (transaction xid8, rows bigint)",
    """
    CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        INSERT INTO public.changes_of_messages SELECT pg_current_xact_id(), count(*) FROM changed;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER count_changes AFTER UPDATE ON messages
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_changes()
    """,
)
NO_ORDER_BY_CHANCE = "enable_indexscan = off"  # without ORDER BY an index on the key would often bring one
LOOK = """
    SELECT json_build_array(
        EXISTS (
            SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE datname = current_database() AND relation = 'messages'::regclass AND granted
                AND pid <> pg_backend_pid()
                AND mode = ANY(CAST(%s AS text[]))
        ),
        (SELECT count(*) FROM messages WHERE conversation_id = %s) - (
            SELECT count(*) FROM (
                SELECT FROM messages WHERE conversation_id = %s FOR UPDATE SKIP LOCKED
            ) AS free
        ),
        (
            SELECT coalesce(array_agg(pid || ' ' || xact_start), '{}') FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL
                AND pid <> pg_backend_pid() AND NOT pid = ANY(CAST(%s AS int[]))
        )
    )
"""
FREE = "(SELECT id FROM messages WHERE id = %s FOR UPDATE SKIP LOCKED)"
EDIT = f"UPDATE messages SET content = %s, language = '{WRITTEN}' WHERE id = {FREE} RETURNING id"
CORRECT = f"UPDATE messages SET language = '{WRITTEN}' WHERE id = {FREE} RETURNING id"
DELETE = f"DELETE FROM messages WHERE id = {FREE} RETURNING id"
INSERT = f"""
    INSERT INTO messages (conversation_id, seq, role, content, language)
    SELECT %s, max(seq) + 1, 'user', %s, '{WRITTEN}' FROM messages WHERE conversation_id = %s RETURNING id
"""
ROWS = """
    SELECT id, conversation_id = :mine, content, language, CAST(xmin AS text),
        CAST(to_jsonb(m) - 'content' - 'language' AS text)
    FROM messages AS m
"""
MOST_CHANGED = """
    SELECT coalesce(max(rows), 0) FROM (
        SELECT sum(rows) AS rows FROM changes_of_messages WHERE transaction > CAST(:since AS xid8) GROUP BY transaction
    ) AS of_each
"""


class DetectorDown(RuntimeError):
    """What ``detect`` raises when it is told to fail."""


class InCircles(RuntimeError):
    """What ``detect`` raises when it is asked about the same text for ever."""


@dataclass(frozen=True)
class Row:
    """A message: whether it is in the judge's conversation, what it holds, which transaction wrote it last."""

    mine: bool
    content: str
    language: str | None
    written_by: str
    rest: str


@dataclass
class Seen:
    """What was seen during one call, at each question to ``detect``."""

    times: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How often each text was asked about."""
    locked: int = 0
    """The most rows that were locked at once."""
    transactions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of each transaction that was open, the texts that were asked about meanwhile."""
    told: int = 0
    """How many texts were told a language."""
    down: bool = False
    circles: bool = False

    def asked(self, content: str, mine: bool, fail_after: int) -> bool:
        """One question; whether it is the first about this text.

        Raises:
            InCircles, DetectorDown: it is time for that.
        """
        first = content not in self.times
        self.times[content] += 1
        self.circles = self.circles or (mine and self.times[content] > CIRCLES)
        if self.circles:
            raise InCircles("the same text again")
        self.down = self.down or bool(fail_after and len(self.times) > fail_after)
        if self.down:
            raise DetectorDown("the detector is down")
        return first

    @property
    def longest(self) -> int:
        """How many texts were asked about during the transaction that was open longest."""
        return max((len(texts) for texts in self.transactions.values()), default=0)


class Talk:
    """A conversation of the judge's, whose messages are to be filled in; what writers do to it is kept.

    Attributes:
        tells: what ``detect`` says of a text.
        written: of rows that writers changed or added, what they stored: content and language.
        deleted: rows that writers deleted.
        last: the message with the greatest id of those that were added last.
    """

    def __init__(self, attempt: Attempt, conversation: UUID) -> None:
        self.attempt, self.conversation = attempt, conversation
        self.tells: dict[str, str | None] = {}
        self.written: dict[UUID, tuple[str, str]] = {}
        self.deleted: set[UUID] = set()
        self.last = conversation
        self._ids: dict[str, UUID] = {}

    @classmethod
    async def of(cls, attempt: Attempt, languages: Sequence[str | None]) -> Talk:
        """With a message for each of these."""
        for statement in (*TABLE, f'ALTER DATABASE "{attempt.database.name}" SET {NO_ORDER_BY_CHANCE}'):
            await attempt.sql(statement)
        talk = cls(attempt, await attempt.value(
            "INSERT INTO conversations (user_id, title) VALUES (:user, 'Languages') RETURNING id",
            user=await add_user(attempt),
        ))  # fmt: skip
        await talk.add(languages)
        return talk

    async def add(self, languages: Sequence[str | None], alike: bool = False) -> None:
        """A message for each of these, without a language, in the order of their ids; they stand in another order.

        If ``alike``, all of them have one text, and so one language.
        """
        texts = [awkward_text()] * len(languages) if alike else [awkward_text() for _ in languages]
        self.tells |= dict(zip(texts, languages, strict=True))
        ids = sorted(uuid4() for _ in texts)
        self._ids |= dict(zip(texts, ids, strict=True))
        self.last = ids[-1]
        first = await self.attempt.value("SELECT coalesce(max(seq), 0) + 1 FROM messages")
        shuffled = sorted(zip(ids, texts, strict=True), key=lambda _: randbelow(1 << 30))
        await add_rows(self.attempt, "messages", [
            {"id": id, "conversation_id": self.conversation, "seq": seq, "role": "user", "content": text}
            for seq, (id, text) in enumerate(shuffled, first)
        ])  # fmt: skip

    async def rows(self) -> dict[UUID, Row]:
        """All messages there are."""
        return {id: Row(*row) for id, *row in await self.attempt.sql(ROWS, mine=self.conversation)}

    @contextmanager
    def detector(
        self, fail_after: int = 0, writing: bool = False, held: bool = False
    ) -> Iterator[tuple[Callable[[str], Any], Seen]]:
        """``detect`` for one call, and what is seen while it is asked.

        Args:
            fail_after: so many different texts are told, and then it raises ``DetectorDown``.
            writing: whether writers come in while it is asked.
            held: whether one row may be locked by somebody else.
        """
        seen, writers = Seen(), cycle((self._edit, self._correct, self._delete, self._delete_behind, self._insert))
        turn = Lock()  # an answer may ask from threads

        def detect(content: str) -> str | None:
            with turn:
                if seen.asked(content, content in self.tells, fail_after):
                    self._look(intruder, content, seen, int(held))
                    if writing and self.tells.get(content) is not None:
                        seen.told += 1
                        if seen.told % 2:
                            next(writers)(intruder, content)
                return self.tells.get(content, "en")

        with Intruder(self.attempt) as intruder:
            yield detect, seen

    def _look(self, intruder: Intruder, content: str, seen: Seen, others: int) -> None:
        try:
            watchers = list(self.attempt.watchers)
            looked = intruder.value(LOOK, STRONG, self.conversation, self.conversation, watchers)
            table, locked, transactions = looked or (False, 0, [])
        except psycopg.errors.LockNotAvailable:
            table, locked, transactions = True, 0, []
        locked = EVERY_ROW if table else locked - others
        seen.locked = max(seen.locked, locked)
        for transaction in transactions:
            seen.transactions[transaction].add(content)

    # -- writers: each leaves a row that is locked alone -------------------------------------------------------

    def write_between(self) -> None:
        """What people do while no backfill runs: to rows that are filled in and to rows that are not."""
        with Intruder(self.attempt) as intruder:
            for text in list(self._ids)[8:33:7]:
                choice((self._edit, self._correct))(intruder, text)
            for text in list(self._ids)[9:33:9]:
                self._delete(intruder, text)
            self._insert(intruder, "")

    def _edit(self, intruder: Intruder, content: str) -> None:
        text = awkward_text()
        if _free(intruder, EDIT, text, self._ids[content]):
            self.written[self._ids[content]] = (text, WRITTEN)

    def _correct(self, intruder: Intruder, content: str) -> None:
        if _free(intruder, CORRECT, self._ids[content]):
            self.written[self._ids[content]] = (content, WRITTEN)

    def _delete(self, intruder: Intruder, content: str) -> None:
        if _free(intruder, DELETE, self._ids[content]):
            self.deleted.add(self._ids[content])

    def _delete_behind(self, intruder: Intruder, content: str) -> None:
        """Six that come before it: who counts rows to find the next page finds another one."""
        before = [text for text, id in self._ids.items() if id < self._ids[content] and id not in self.deleted]
        for text in before[:6]:
            self._delete(intruder, text)

    def _insert(self, intruder: Intruder, _: str) -> None:
        text = awkward_text()
        if id := _free(intruder, INSERT, self.conversation, text, self.conversation):
            self.written[id] = (text, WRITTEN)


def _free(intruder: Intruder, statement: str, *values: Any) -> Any:
    """What it returns; None where the row, or the table, is locked."""
    with suppress(psycopg.errors.LockNotAvailable):
        return intruder.value(statement, *values)
    return None
