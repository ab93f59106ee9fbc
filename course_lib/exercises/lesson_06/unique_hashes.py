"""6.6: a unique index over duplicates, built while people write, after a try that failed."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import ClassVar

from sqlalchemy.exc import IntegrityError

from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.duplicates import Library, add_duplicates, upload_again
from course_lib.exercises.lesson_06.scenes.environment import Environment, environment_of
from course_lib.exercises.lesson_06.scenes.steady_writers import InTheWay, SteadyWriters
from course_lib.judging.asking import NOT_AVAILABLE, UNIQUE, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of
from course_lib.judging.trouble import behind, sqlstate_of

NAME = "uq_documents_user_id_content_hash"
INDEX = ("index", NAME)
BUILD = f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON documents (user_id, content_hash)"
TWO_OF_A_NAME = """
    INSERT INTO users (email, name) SELECT gen_random_uuid() || '@example.org', 'Twice' FROM generate_series(1, 2)
"""
BUILD_OF_OTHERS = "CREATE UNIQUE INDEX CONCURRENTLY uq_users_name ON users (name)"
FOUND = f"""
    SELECT indisvalid AND indisready, indisunique, indnullsnotdistinct, pg_get_expr(indpred, indrelid),
        array(
            SELECT pg_get_indexdef(indexrelid, place, true) FROM generate_series(1, indnatts) AS place ORDER BY place
        )
    FROM pg_index WHERE indexrelid = to_regclass('{NAME}')
"""
INVALID = """
    SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'documents'::regclass AND NOT indisvalid
"""
EXISTS, IN_A_TRANSACTION = "42P07", "25001"  # SQLSTATEs
TOUCHED = ("documents", "document_chunks", "jobs")


class UniqueHashes(Exercise):
    """A cleanup that can be repeated, an index that nobody waits for, and no trust in a name that exists."""

    id = "6.6"
    title = "A unique index over duplicates"
    answer = "UniqueHashes"
    minutes = 15
    points = 3
    level = "senior"
    recipe = "migrated"
    hints: ClassVar = (
        "Three steps: clean up, take away what an earlier try has left, build. Which of them can run in a transaction, "
        "and which cannot?",
        "`first_value(id) OVER (PARTITION BY … ORDER BY …)` gives each document the one that stays. Jobs first: with "
        "the document they would be gone.",
        "A failed CREATE INDEX CONCURRENTLY leaves an index that is INVALID, which IF NOT EXISTS takes for one. Within "
        "`op.get_context().autocommit_block()`: `op.drop_index(…, if_exists=True, postgresql_concurrently=True)`, then "
        "`op.create_index`.",
    )
    why = (
        "CONCURRENTLY cannot run in a transaction, so it can fail half-way, and then an INVALID index stays: it is "
        "filled with each write and serves no query. So the migration has to be one that can be run again, from "
        "whatever it finds. A duplicate that comes in between cannot be excluded; what has to be certain is that the "
        "next run ends well."
    )
    follow_up = (
        "Since the index is there, an upload of the same text fails with an IntegrityError. What does the program do "
        "then, and in which order do you deploy the two?"
    )
    mistakes: ClassVar = {
        "method missing": "`UniqueHashes` has no method `{method}`. | Two are asked for: `upgrade` and `downgrade`.",
        "not written": "`{method}` of `UniqueHashes` is not written yet. | A revision without a way back is half one.",
        "duplicates": "`upgrade` raised {error}: there were duplicates when the index was built. "
        "| Which documents count as equal, and is the cleanup committed by then?",
        "in a transaction": "`upgrade` raised {error}: CONCURRENTLY does not run in a transaction. "
        "| `op.get_context().autocommit_block()`",
        "name taken": "`upgrade` raised {error}: an earlier try had left an index of that name. "
        "| It is INVALID and serves nobody. Take it away first.",
        "in the way": "While somebody's transaction had written to `documents`, `{method}` waited for a lock of the "
        "table, {mode}. "
        "| All who write after that wait behind it. CONCURRENTLY, for what is built and for what is dropped.",
        "gave up": "Somebody's transaction stayed open for a second, and `{method}` raised {error}: {said}. "
        "| A build waits for every transaction that may have written, and keeps nobody waiting. It needs no limit.",
        "no index": "After `upgrade` there is no index `{name}`. | The name is in the task.",
        "invalid": "After `upgrade` the index `{name}` is INVALID. "
        "| IF NOT EXISTS looks at the name alone, and an error that is swallowed builds nothing.",
        "left over": "After `upgrade` there is an INVALID index `{name}` on `documents`. "
        "| REINDEX CONCURRENTLY leaves one of its own where it fails, and every write has to fill it.",
        "wrong index": "The index is {what}. | Unique, over `user_id` and `content_hash` in this order, no condition.",
        "too many gone": "{count} document(s) are gone that had no equal. "
        "| Equal are those of one user with the same hash; without a hash a document equals none.",
        "none stayed": "In {count} set(s) of equals no document stayed. | One of each set stays.",
        "wrong one stayed": "In {count} set(s) of equals another document stayed than the rule says: the first had the "
        "status {status!r}. "
        "| A ready one first, then the earliest `created_at`, then the smallest id.",
        "jobs gone": "{count} job(s) went with their documents. | ON DELETE CASCADE. What has to be done before?",
        "wrong job": "{count} job(s) do not belong to the document that stayed. | The one that stayed of its equals.",
        "chunks": "{count} chunk(s) of documents that stay are gone, or belong to another one. "
        "| Chunks go with their documents, and only with them.",
        "rows changed": "`{method}` changed {what}. | It cleans up and builds; all else is left alone.",
        "something else": "After `upgrade` the {what}. | A revision changes what it is asked for, and nothing else.",
        "not again": "A duplicate was uploaded before the index was built, so `upgrade` failed; called again, it "
        "raised {error}. "
        "| It has to cope with whatever the first try left.",
        "no way back": "`downgrade` raised {error}. | `op.drop_index`, in a block of its own.",
        "still there": "After `upgrade` and `downgrade` the {what}. | What `upgrade` made has to go, and no more.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await _spoil_another_table(attempt)
        before = await look_at_catalogue(attempt)
        await add_duplicates(attempt)
        with suppress(IntegrityError):
            await attempt.sql(BUILD)  # which leaves an INVALID one
        with environment_of(attempt) as environment:
            writers = await SteadyWriters.of(attempt)
            await self._goes_up(attempt, environment, writers, before, again=True)
            await self._comes_back(attempt, environment, writers, before)
            await add_duplicates(attempt)
            await self._goes_up(attempt, environment, writers, before, again=False)

    async def _goes_up(
        self, attempt: Attempt, environment: Environment, writers: SteadyWriters, before: Catalogue, again: bool
    ) -> None:
        """If ``again``, a duplicate comes when the cleanup is over and the index is not built yet; then once more."""
        library, rows = await Library.of(attempt), await rows_of(attempt, before)
        version, uploaded = await environment.version(), []

        async def sneak_in() -> None:
            uploaded.append(await upload_again(attempt, library))

        with (
            calling_it(attempt, "duplicates", saying=UNIQUE),
            calling_it(attempt, "in a transaction", saying=IN_A_TRANSACTION),
            calling_it(attempt, "name taken", saying=EXISTS),
            calling_it(attempt, "gave up", saying=NOT_AVAILABLE, method="upgrade"),
        ):
            try:
                await self._politely(
                    attempt, "upgrade", writers.during(environment.upgrade, sneak_in if again else None)
                )
            except Wrong as wrong:
                found_it = uploaded and any(sqlstate_of(error) == UNIQUE for error in behind(wrong.__cause__))
                if wrong.mistake != "raised" or not found_it or await environment.version() != version:
                    raise
                await self._goes_up_after_all(attempt, environment, writers)
        await self._expect_index(attempt, before)
        await self._expect_rows(attempt, library, before, rows)

    async def _goes_up_after_all(self, attempt: Attempt, environment: Environment, writers: SteadyWriters) -> None:
        try:
            await self._politely(attempt, "upgrade", writers.during(environment.upgrade))
        except Wrong as wrong:
            if wrong.mistake != "raised" or sqlstate_of(wrong.__cause__) == UNIQUE:
                raise
            raise attempt.wrong("not again", error=kind_of(wrong.__cause__)) from wrong

    async def _comes_back(
        self, attempt: Attempt, environment: Environment, writers: SteadyWriters, before: Catalogue
    ) -> None:
        library = await Library.of(attempt)
        with (
            calling_it(attempt, "no way back"),
            calling_it(attempt, "gave up", saying=NOT_AVAILABLE, method="downgrade"),
        ):
            await self._politely(attempt, "downgrade", writers.during(environment.downgrade))
        different = (await look_at_catalogue(attempt)).since(before)
        attempt.expect(not different, "still there", what=str(different[0]) if different else "")
        after = await Library.of(attempt)
        kept = library.documents.items() <= after.documents.items() and library.jobs == after.jobs
        attempt.expect(kept, "rows changed", method="downgrade", what="documents or jobs")

    async def _politely(self, attempt: Attempt, method: str, call: Awaitable[None]) -> None:
        try:
            await call
        except InTheWay as way:
            raise attempt.wrong("in the way", method=method, mode=way.mode) from way

    async def _expect_index(self, attempt: Attempt, before: Catalogue) -> None:
        found = await attempt.sql(FOUND)
        attempt.expect(bool(found), "no index", name=NAME)
        valid, unique, nulls, condition, columns = found[0]
        attempt.expect(valid, "invalid", name=NAME)
        what = "not unique" if not unique else "one in which NULL equals NULL" if nulls else ""
        what = what or (f"one with the condition {condition}" if condition else "")
        what = what or ("" if columns == ["user_id", "content_hash"] else f"over {', '.join(columns)}")
        attempt.expect(not what, "wrong index", what=what)
        left = await attempt.value(INVALID)
        attempt.expect(left is None, "left over", name=left)
        others = (await look_at_catalogue(attempt)).since(before, without=[INDEX])
        attempt.expect(not others, "something else", what=str(others[0]) if others else "")

    async def _expect_rows(self, attempt: Attempt, library: Library, before: Catalogue, rows: dict[str, str]) -> None:
        after, stays = await Library.of(attempt), library.stays()
        sets = {kept: [id for id in stays if stays[id] == kept] for kept in stays.values()}
        gone = [kept for kept, equals in sets.items() if len(equals) == 1 and kept not in after.documents]
        attempt.expect(not gone, "too many gone", count=len(gone))
        empty = sum(not any(id in after.documents for id in equals) for equals in sets.values())
        attempt.expect(not empty, "none stayed", count=empty)
        wrong = [kept for kept, equals in sets.items() if [id for id in equals if id in after.documents] != [kept]]
        status = next((library.documents[id].status for k in wrong for id in sets[k] if id in after.documents), "")
        attempt.expect(not wrong, "wrong one stayed", count=len(wrong), status=status)
        lost = len(library.jobs.keys() - after.jobs.keys())
        attempt.expect(not lost, "jobs gone", count=lost)
        astray = sum(after.jobs[id][0] != (stays[of] if of else None) for id, (of, _) in library.jobs.items())
        attempt.expect(not astray, "wrong job", count=astray)
        chunks = {id: of for id, of in library.chunks.items() if stays[of] == of}
        missing = len(chunks.items() - after.chunks.items())
        attempt.expect(not missing, "chunks", count=missing)
        changed = [kept for kept in sets if after.documents[kept] != library.documents[kept]]
        jobs = [id for id, (_, rest) in library.jobs.items() if after.jobs[id][1] != rest]
        what = f"{len(changed)} document(s) that stay" if changed else f"{len(jobs)} job(s)" if jobs else ""
        others = await rows_of(attempt, before)
        what = what or next((f"rows of `{t}`" for t in rows if t not in TOUCHED and others[t] != rows[t]), "")
        attempt.expect(not what, "rows changed", method="upgrade", what=what)


async def _spoil_another_table(attempt: Attempt) -> None:
    """Leave an INVALID index there, which is not this migration's to mend, though it could: what failed it is gone."""
    await attempt.sql(TWO_OF_A_NAME)
    with suppress(IntegrityError):
        await attempt.sql(BUILD_OF_OTHERS)
    await attempt.sql("DELETE FROM users WHERE name = 'Twice'")
