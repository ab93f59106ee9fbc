"""M7: a clean-up that pages through what it deletes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import shuffle
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError

from course_lib.judging.asking import calling_it, while_another_writes
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows, add_user

PAGE, DUE, TIES = 8, 34, 12
"""Documents that one transaction may delete, that are due, and of these with equal times: more than a page."""
WITNESS = """
    DO $do$
    BEGIN
        CREATE SCHEMA judged;
        CREATE TABLE judged.gone (xid xid8, rows bigint);
        CREATE FUNCTION judged.write_down() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            INSERT INTO judged.gone SELECT pg_current_xact_id(), count(*) FROM was;
            RETURN NULL;
        END $f$;
        CREATE TRIGGER write_down AFTER DELETE ON documents REFERENCING OLD TABLE AS was
            EXECUTE FUNCTION judged.write_down();
    END $do$
"""
MOST = "SELECT coalesce(max(rows), 0)::int FROM (SELECT sum(rows) AS rows FROM judged.gone GROUP BY xid) AS t"
REFER = """
    DO $$ BEGIN
        CREATE TABLE {table} (document_id uuid NOT NULL REFERENCES documents, reason text);
        INSERT INTO {table} SELECT unnest('{{{ids}}}'::uuid[]), 'audit';
    END $$
"""
START = """
    UPDATE documents SET status = 'processing', updated_at = now() WHERE id = ANY(CAST(CAST(:ids AS text[]) AS uuid[]))
"""


class PurgeFailed(Drill):
    """OFFSET over rows that go, a page that one row keeps, and ids that were due a moment ago."""

    id = "M7"
    title = "Half of it is still there"
    answer = "purge_failed"
    minutes = 15
    points = 2
    level = "mid"
    topics: ClassVar = ("sql", "transactions", "operations")
    faults: ClassVar = ("half", "kept back", "started again")
    hints: ClassVar = (
        "Take four documents and `page=1`, and write down after each turn what is in the table and where OFFSET "
        "begins. Then let the server refuse one of a page: which of them stay?",
        "OFFSET counts rows that are still there. Begin after the last row that you have seen, deleted or not. And "
        "between reading the ids and deleting them there is time, in which a user does something.",
        "Read the next page with `(updated_at, id) > (…)`. Delete by the ids and the conditions. Where a page is "
        "refused, delete its documents one by one, each in a transaction or a savepoint of its own.",
    )
    why = (
        "OFFSET is a place among the rows that are there, and a loop that deletes moves them up under it. A key is a "
        "place that stays, if it is unique. A statement is done whole or not at all, so one refused row undoes the "
        "others of its page. And a list of ids is a memory: the statement that deletes has to ask once more."
    )
    follow_up = "Ten million documents are due, and there is no index on `updated_at`. What does each page cost?"
    mistakes: ClassVar = {
        "half": "None of {due} documents was referred to, and after one run {left} of them are still there. "
        "| That is what was reported. Where does the next page begin when the rows before it are gone?",
        "nothing": "None of {due} documents was deleted, as others see it. | Who commits?",
        "raised at one": "One document was referred to, and the run ended with {error}: {said}. "
        "| It stays, and the others go.",
        "kept back": "Of {due} documents {held} were referred to, and {left} of the others are still there after a "
        "run. | A statement is undone whole. What of a page can go without the one that cannot?",
        "started again": "{count} documents were started again while the run was on its way, and are gone. "
        "| It deleted what had been due when it looked.",
        "not due": "{count} documents that were {what} are gone. | `failed`, and `updated_at` before `before`.",
        "references": "{count} rows of other tables that referred to documents are gone. "
        "| They are other teams' rows.",
        "too many at once": "One transaction deleted {count} documents, with page={page}. "
        "| Locks are held to the end of the transaction.",
        "not a number": "`purge_failed` returned {kind}. | How many documents were deleted, an int.",
        "wrong number": "It returned {said}, and {gone} documents are gone. "
        "| What does a DELETE say of how many it found?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(WITNESS)
        before = datetime.now(UTC) - timedelta(days=30)
        await self._none_referred_to(attempt, before)
        for count in (1, DUE):
            await self._some_referred_to(attempt, before, count)
        await self._some_started_again(attempt, before)

    async def _none_referred_to(self, attempt: Attempt, before: datetime) -> None:
        stage = await Stage.of(attempt, before)
        left = len(stage.due & await self._run(attempt, stage))
        attempt.expect(left < DUE, "nothing", due=DUE)
        attempt.expect(not left, "half", due=DUE, left=left)
        self._expect_number(attempt, stage, DUE)

    async def _some_referred_to(self, attempt: Attempt, before: datetime, most: int) -> None:
        """By two tables that nobody has heard of, one on every page if ``most`` are that many."""
        stage = await Stage.of(attempt, before)
        held = stage.one_on_each_page()[:most]
        tables = {f"audit_{token_hex(3)}": held[::2], f"export_{token_hex(3)}": held[1::2]}
        for table, ids in tables.items():
            await attempt.sql(REFER.format(table=table, ids=",".join(map(str, ids))))
        with calling_it(attempt, "raised at one", IntegrityError):
            there = await self._run(attempt, stage)
        kept = sum([await attempt.value(f"SELECT count(*) FROM {table}") for table in tables])
        attempt.expect(kept == len(held), "references", count=len(held) - kept)
        left = len((stage.due - set(held)) & there)
        attempt.expect(not left, "kept back", due=DUE, held=len(held), left=left)
        self._expect_number(attempt, stage, DUE - len(held))

    async def _some_started_again(self, attempt: Attempt, before: datetime) -> None:
        """Not committed yet when the pages are read, and committed when the run stands at one of them."""
        stage = await Stage.of(attempt, before)
        started = stage.one_on_each_page()
        there = await while_another_writes(
            attempt, START, {"ids": [str(id) for id in started]}, lambda: self._run(attempt, stage)
        )
        gone = len(set(started) - there)
        attempt.expect(not gone, "started again", count=gone)
        self._expect_number(attempt, stage, len(stage.due - there))

    async def _run(self, attempt: Attempt, stage: Stage) -> set[UUID]:
        """One run; the ids of all documents that are there afterwards."""
        stage.said = await attempt.call(sessions_of(attempt), stage.before, page=PAGE)
        attempt.look_for_tasks()
        there = {id for (id,) in await attempt.sql("SELECT id FROM documents")}
        for what, ids in stage.others.items():
            gone = len(ids - there)
            attempt.expect(not gone, "not due", count=gone, what=what)
        most = await attempt.value(MOST)
        attempt.expect(most <= PAGE, "too many at once", count=most, page=PAGE)
        return there

    def _expect_number(self, attempt: Attempt, stage: Stage, gone: int) -> None:
        attempt.expect(type(stage.said) is int, "not a number", kind=article(stage.said))
        attempt.expect(stage.said == gone, "wrong number", said=stage.said, gone=gone)


@dataclass
class Stage:
    """Documents on stage.

    Attributes:
        before: what the answer is given.
        rows: those that are due, in the order in which they were written.
        others: ids of those that are not, by what they are.
        said: what the answer returned.
    """

    before: datetime
    rows: list[dict[str, Any]]
    others: dict[str, set[UUID]]
    said: Any = None

    @classmethod
    async def of(cls, attempt: Attempt, before: datetime) -> Stage:
        """Write them, in any order; a good part at one moment."""
        user_id = await add_user(attempt)
        moments = [before - timedelta(microseconds=1), *[before - timedelta(days=2)] * TIES]
        moments += [before - timedelta(minutes=1 + randbelow(9_999)) for _ in range(DUE - len(moments))]
        due = [_document(user_id, "failed", moment) for moment in moments]
        not_failed = [_document(user_id, status, moments[-1]) for status in ("ready", "uploaded", "processing")]
        young = [_document(user_id, "failed", before + timedelta(microseconds=n)) for n in (0, 1)]
        rows = [*due, *not_failed, *young]
        shuffle(rows)
        await add_rows(attempt, "documents", rows)
        others = {"not `failed`": not_failed, "changed at `before` or later": young}
        written = [row for row in rows if row in due]
        return cls(before, written, {what: {row["id"] for row in rows} for what, rows in others.items()})

    @property
    def due(self) -> set[UUID]:
        """Their ids."""
        return {row["id"] for row in self.rows}

    def one_on_each_page(self) -> list[UUID]:
        """The first on each page and some others: by time, by id, or as they were written."""
        keys: tuple[Callable[[dict[str, Any]], Any], ...] = (
            lambda row: (row["updated_at"], row["id"]), lambda row: row["id"], self.rows.index,
        )  # fmt: skip
        return list(dict.fromkeys(row["id"] for key in keys for row in sorted(self.rows, key=key)[::PAGE]))


def _document(user_id: UUID, status: str, moment: datetime) -> dict[str, Any]:
    id = uuid4()
    return {
        "id": id, "user_id": user_id, "source": f"upload/{id}", "title": "Draft", "status": status, "meta": {},
        "created_at": moment, "updated_at": moment,
    }  # fmt: skip
