"""1.7: an upsert that says what it did."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import choice, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.instruments import Rows
from course_lib.judging.asking import CARDINALITY, UNIQUE, ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article, quoted
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, other_rows

STATEMENTS = 2
ENTRIES = 1000
KEPT = ("status", "meta", "content_hash", "error", "created_at")
TITLE = "SELECT title FROM documents WHERE user_id = :user_id AND source = 'known/it''s 7.md'"
Batch = list[dict[str, str]]


class SaveDocuments(Exercise):
    """INSERT … ON CONFLICT DO UPDATE, its two surprises, and telling new rows from old ones."""

    id = "1.7"
    title = "Save what was uploaded"
    answer = "save_documents"
    minutes = 15
    points = 3
    level = "mid"
    seconds = 15.0  # thousands of rows, on a machine that may be busy
    hints: ClassVar = (
        "One source twice in one batch: PostgreSQL will not change a row twice in one statement. Which of the two do "
        "you "
        "keep, and which type of Python keeps the last value for a key?",
        "`insert` from `sqlalchemy.dialects.postgresql` has `on_conflict_do_update(index_elements=…, set_=…)`; "
        "what was to be inserted is called `excluded` there.",
        "Told apart in the same statement: PostgreSQL 18 gives the row as it was, `RETURNING old.id`, NULL for a new "
        "row. "
        "In two statements: SELECT the sources that exist, then upsert.",
    )
    why = (
        "ON CONFLICT decides row by row inside the server, so two uploads at once cannot both insert. It refuses to "
        "touch "
        "one row twice in a statement, hence one entry per source first. `old` tells an insert from an update, exactly."
    )
    follow_up = (
        "`updated_at` has `onupdate=func.now()`. Did your upsert move it? What fires `onupdate`, and what does not?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`save_documents` returned None. | Did you forget `return`?",
        "not the counts": "`save_documents` returned {kind} and not the two counts. "
        "| A dict with the keys `inserted` and `updated`, both int.",
        "already there": "It raised {error} because a document of this user and source was there already. "
        "| `ON CONFLICT … DO UPDATE` turns that INSERT into an UPDATE.",
        "same source twice": "A batch that held the same source twice made it raise {error}. "
        "| One statement cannot change a row twice. Keep the last of each source.",
        "not stored": "{count} of {n} documents of the batch are not in the table. | Was it committed?",
        "old titles": "{count} documents that were there kept their old title. "
        "| DO NOTHING leaves the row as it is; DO UPDATE sets the columns you name.",
        "wrong title": "{count} documents have a title that is not the last one given for their source. "
        "| Of two entries with the same source, the later one counts.",
        "made anew": "{count} documents that were there got a new id, so their chunks are gone. "
        "| Change the row, do not delete and insert it.",
        "others lost": "{count} documents that were not in the batch are gone. | Only what is in the batch may change.",
        "other users": "Documents of another user were changed. "
        "| A source is unique per user: the conflict is on both columns.",
        "reset": "Of documents that were there, `{column}` was changed too. "
        "| Set the title, and nothing else that is the user's.",
        "wrong counts": "For a batch of {n} entries it said {said}, and that is not what happened to the table. "
        "| A source of this user counts once: as inserted if it was not there, else as updated.",
        "empty batch": "An empty batch {did}. | Nothing to save is not an error: both counts are 0.",
        "too many statements": "{count} statements for a batch of {n} entries; the budget is {budget}. "
        "| Give all rows to one `execute`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await _library(attempt)
        with calling_it(attempt, "already there", IntegrityError, saying=UNIQUE):
            await self._saves(attempt, user_id, [*_entries("known", 3), *_entries("fresh", 5)])
        batch = await _large_batch(attempt, user_id)
        with calling_it(attempt, "same source twice", DBAPIError, saying=CARDINALITY):
            await self._saves(attempt, user_id, batch)
        count = attempt.log.count
        await self._saves_nothing(attempt, user_id)
        attempt.expect(count <= STATEMENTS, "too many statements", count=count, n=len(batch), budget=STATEMENTS)
        await expect_errors_to_rise(attempt, user_id, _entries("known", 2))

    async def _saves_nothing(self, attempt: Attempt, user_id: UUID) -> None:
        before = await other_rows(attempt, "documents", "id", uuid4())
        with calling_it(attempt, "empty batch", did="made it raise an error"):
            said = await ask(attempt, user_id, [])
        right = _are_counts(said) and not any(said.values())
        attempt.expect(right, "empty batch", did=f"gave {quoted(said)}")
        unchanged = await other_rows(attempt, "documents", "id", uuid4()) == before
        attempt.expect(unchanged, "empty batch", did="changed documents")

    async def _saves(self, attempt: Attempt, user_id: UUID, batch: Batch) -> None:
        others = await other_rows(attempt, "documents", "user_id", user_id)
        before = await _documents(attempt, user_id)
        said = await ask(attempt, user_id, [dict(entry) for entry in batch])
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(_are_counts(said), "not the counts", kind=article(said))
        after = await _documents(attempt, user_id)
        wanted = {entry["source"]: entry["title"] for entry in batch}
        self._compare(attempt, before, after, wanted)
        attempt.expect(await other_rows(attempt, "documents", "user_id", user_id) == others, "other users")
        updated = len(set(wanted) & set(before))
        right = said["inserted"] == len(wanted) - updated and said["updated"] == updated
        attempt.expect(right, "wrong counts", n=len(batch), said=dict(said))

    def _compare(self, attempt: Attempt, before: dict[str, Any], after: dict[str, Any], wanted: dict[str, str]) -> None:
        missing = [source for source in wanted if source not in after]
        attempt.expect(not missing, "not stored", count=len(missing), n=len(wanted))
        gone = [source for source in before if source not in after]
        attempt.expect(not gone, "others lost", count=len(gone))
        known = [source for source in wanted if source in before]
        anew = [source for source in known if after[source]["id"] != before[source]["id"]]
        attempt.expect(not anew, "made anew", count=len(anew))
        stale = [source for source in known if after[source]["title"] == before[source]["title"] != wanted[source]]
        attempt.expect(not stale, "old titles", count=len(stale))
        wrong = [source for source in wanted if after[source]["title"] != wanted[source]]
        attempt.expect(not wrong, "wrong title", count=len(wrong))
        for source in before:
            for column in KEPT:
                attempt.expect(after[source][column] == before[source][column], "reset", column=column)


def _entries(kind: str, count: int) -> Batch:
    return [{"source": f"{kind}/it's {n}.md", "title": f"{kind} {n}, {token_hex(3)}"} for n in range(count)]


async def _large_batch(attempt: Attempt, user_id: UUID) -> Batch:
    """As many entries as may come: one with the title it has, sources that are nearly alike, some sources twice."""
    same = {"source": "known/it's 7.md", "title": await attempt.value(TITLE, user_id=user_id)}
    nearly = ("FRESH/It's 1.md", " fresh/it's 1.md", "fresh/it", "é.md", "e\u0301.md")
    alike = [{"source": source, "title": token_hex(3)} for source in nearly]
    some = [same, *_entries("known", 5), *_entries("fresh", 9), *alike]
    again = [*_entries("large", 4), *_entries("known", 2)]
    return [*some, *_entries("large", ENTRIES - len(some) - len(again)), *again]


def _are_counts(said: Any) -> bool:
    if not isinstance(said, Mapping) or set(said) != {"inserted", "updated"}:
        return False
    return all(isinstance(count, int) and not isinstance(count, bool) for count in said.values())


async def _library(attempt: Attempt) -> UUID:
    """A user with documents; another user has the same sources, and those that are new to this one."""
    mine, stranger = await add_user(attempt), await add_user(attempt)
    fields = {"status": "ready", "created_at": "2026-03-01T10:00Z", "updated_at": "2026-03-01T10:00Z"}
    rows = [
        {"id": uuid4(), "user_id": user_id, **entry, **fields, "meta": {"words": choice((90, 120))}}
        | {"content_hash": choice((None, f"\\x{token_hex(32)}")), "error": choice((None, "it's broken"))}
        for user_id in (mine, stranger)
        for entry in [*_entries("known", 8), *_entries("fresh", 9 * (user_id == stranger))]
    ]
    await add_rows(attempt, "documents", rows)
    return mine


async def _documents(attempt: Attempt, user_id: UUID) -> dict[str, Any]:
    """The user's documents by source."""
    rows: Rows = await attempt.sql(
        f"SELECT source, id, title, {', '.join(KEPT)} FROM documents WHERE user_id = :user_id", user_id=user_id
    )
    return {row[0]: dict(zip(rows.columns, row, strict=True)) for row in rows}
