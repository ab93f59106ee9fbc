"""J2: an error that was expected, and all the others that look like it."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_bytes, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, other_rows
from course_lib.judging.turns import in_turns

DOCUMENT = """
    SELECT id, title, content_hash, status FROM documents WHERE user_id = :user_id AND source = :source
"""
OPEN_JOBS = "SELECT count(*) FROM jobs WHERE document_id = :id AND kind = 'embed' AND status = 'queued'"
JOBS = "SELECT md5(coalesce(string_agg(j::text, '' ORDER BY j.id), '')) FROM jobs AS j"
EMBEDDED = """
    WITH document AS (UPDATE documents SET status = 'ready' WHERE id = :id RETURNING id)
    UPDATE jobs SET status = 'done', attempts = 1 WHERE document_id = :id
"""
NO_JOBS = "ALTER TABLE jobs ADD CONSTRAINT closed CHECK (kind <> 'embed') NOT VALID"
JOBS_AGAIN = "ALTER TABLE jobs DROP CONSTRAINT closed"


@dataclass(frozen=True)
class Upload:
    """What is handed to the answer."""

    user_id: UUID
    source: str
    title: str | None
    content_hash: bytes

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.user_id, self.source, self.title, self.content_hash


class SaveUpload(Drill):
    """``except IntegrityError`` around more than the one error that was meant."""

    id = "J2"
    title = "Saved, it says"
    answer = "save_upload"
    minutes = 10
    level = "junior"
    topics: ClassVar = ("transactions", "concurrency")
    faults: ClassVar = ("old version", "not embedded", "said saved")
    hints: ClassVar = (
        "Upload the same source twice and follow the second call line by line. Which of the things that it should do "
        "has it done by its `return`?",
        "The `except` is there for one case: the source is known already. Which other rules of the two tables are "
        "reported with an IntegrityError as well, and what does the page say then?",
        "PostgreSQL can decide between a new row and a known one in the INSERT itself: `insert` of "
        "`sqlalchemy.dialects.postgresql` has `on_conflict_do_update`, with `returning` for the id. The job comes "
        "after it, in the same transaction, and there is nothing left to catch.",
    )
    why = (
        "An IntegrityError says that some rule was broken, not which. Catching it to mean one rule makes a success of "
        "all the others, and the rollback that it needs takes the rest of the work with it. ON CONFLICT names the one "
        "rule that is meant and has an answer for it, also when two uploads meet; every other error goes to the "
        "caller, who can say something true."
    )
    follow_up = (
        "The job embeds the older of two versions that came in quickly after each other. How could the worker notice, "
        "and what would the job have to carry?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`save_upload` returned None. | The page links to the document: its id is returned.",
        "wrong id": "`save_upload` returned {kind} that is not the id of the stored document. "
        "| Of a version, too, it is the id of the row that is there.",
        "not stored": "`save_upload` returned for {what}, and no other connection sees the document. "
        "| What makes it last?",
        "old version": "`save_upload` returned for the next version of a source, and the document still has the title "
        "and the hash of the one before. "
        "| That is what was reported. What happens to a source that the user has already?",
        "wrong value": "After {what} the document's `{column}` is not what was asked for. "
        "| Title and hash are those of the upload, and the status is `uploaded`.",
        "another id": "The next version of a source is stored under another id than the one before. "
        "| Links and passages hang on the row that is there: change it.",
        "not embedded": "After {what} there are {count} queued jobs of kind `embed` for the document. "
        "| One for each upload, or the search never hears of it.",
        "others changed": "{whose} changed. | What is this upload's is its own document and a job for it.",
        "said saved": "Called with {reason}, it stored nothing and returned {said} as if all were well. "
        "| Of the errors that arrive in the same `except`, only one is no error.",
        "something stayed": "Called with {reason}, it {did}, and the {what} is stored. "
        "| The document and its job are one transaction.",
        "at once": "Two uploads of the same source came at once, and one raised {error}. "
        "| Between looking and writing there is time for somebody else.",
        "lost one": "Two uploads of the same source came at once, and afterwards there are {documents} documents of "
        "it and {jobs} queued jobs. | One document, and a job for each upload.",
        "waits outside": "Of two uploads at once, one waited for something that the database knows nothing of. "
        "| The service runs in several processes, and each has a lock of its own.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, source = await add_user(attempt), f"prices/{token_hex(3)} it's_100%.md"
        others = {"user_id": await add_user(attempt), "source": source, "title": "Theirs", "status": "ready"}
        beside = {"user_id": mine, "source": f"{source}x", "title": "Beside", "status": "ready"}
        await add_rows(attempt, "documents", [others, beside])
        await attempt.sql("INSERT INTO jobs (kind, document_id) SELECT 'embed', id FROM documents")
        first = await self._saves(attempt, _upload(mine, source), "a first upload")
        await attempt.sql(EMBEDDED, id=first)
        await self._saves(attempt, _upload(mine, source), "the next version", first)
        await self._saves(attempt, _upload(mine, source), "one more version", first, queued=1)
        await self._refuses_all(attempt, mine, source)
        await self._bears_two_at_once(attempt, mine)
        upload = _upload(mine, source)
        await expect_errors_to_rise(attempt, call=lambda: self._call(attempt, upload))

    async def _call(self, attempt: Attempt, upload: Upload) -> Any:
        return await attempt.call(sessions_of(attempt), *upload.arguments)

    async def _saves(
        self, attempt: Attempt, upload: Upload, what: str, known: UUID | None = None, queued: int = 0
    ) -> UUID:
        """``known`` is the id of the document that is there, with so many jobs in the queue."""
        others = await _others(attempt, upload)
        said = await self._call(attempt, upload)
        rows = await attempt.sql(DOCUMENT, user_id=upload.user_id, source=upload.source)
        attempt.expect(bool(rows), "not stored", what=what)
        id, title, content_hash, status = rows[0]
        attempt.expect(said is not None, "nothing returned")
        new = (title, content_hash) != (upload.title, upload.content_hash)
        attempt.expect(not (known and known == id and new), "old version")
        for column, stored, wanted in (
            ("title", title, upload.title), ("content_hash", content_hash, upload.content_hash),
            ("status", status, "uploaded"),
        ):  # fmt: skip
            attempt.expect(stored == wanted, "wrong value", what=what, column=column)
        attempt.expect(known in (None, id), "another id")
        attempt.expect(said == id, "wrong id", kind=article(said))
        jobs = await attempt.value(OPEN_JOBS, id=id)
        attempt.expect(jobs == queued + 1, "not embedded", what=what, count=jobs)
        after = await _others(attempt, upload)
        for whose, before in others.items():
            attempt.expect(after[whose] == before, "others changed", whose=whose)
        return UUID(str(id))

    async def _refuses_all(self, attempt: Attempt, mine: UUID, source: str) -> None:
        """What breaks another rule, and a queue that takes no job: of a new source, and of a known one."""
        await self._refuses(attempt, _upload(uuid4(), source), "the id of a user who is gone")
        for where in ("new", source):
            known = f"a {'new' if where == 'new' else 'known'} source"
            no_title = Upload(mine, where, None, token_bytes(32))
            await self._refuses(attempt, no_title, f"{known} and no title")
            cut = Upload(mine, where, "Cut", token_bytes(20))
            await self._refuses(attempt, cut, f"{known} and a hash of 20 bytes")
            await attempt.sql(NO_JOBS)
            await self._refuses(attempt, _upload(mine, where), f"{known} while the queue refuses its job")
            await attempt.sql(JOBS_AGAIN)

    async def _refuses(self, attempt: Attempt, upload: Upload, reason: str) -> None:
        before = await _everything(attempt)
        said, raised = None, False
        try:
            said = await self._call(attempt, upload)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            raised = True
        after = await _everything(attempt)
        for what, rows in after.items():
            did = "raised an error" if raised else "returned"
            attempt.expect(rows == before[what], "something stayed", reason=reason, did=did, what=what)
        attempt.expect(raised, "said saved", reason=reason, said=article(said))

    async def _bears_two_at_once(self, attempt: Attempt, mine: UUID) -> None:
        source = f"twice/{token_hex(3)}.md"
        uploads = [_upload(mine, source) for _ in range(2)]
        try:
            with calling_it(attempt, "at once"):
                free, said = await in_turns(attempt, *(upload.arguments for upload in uploads))
        finally:
            rows = await attempt.sql(DOCUMENT, user_id=mine, source=source)
        jobs = await attempt.value(OPEN_JOBS, id=rows[0][0]) if rows else 0
        attempt.expect((len(rows), jobs) == (1, 2), "lost one", documents=len(rows), jobs=jobs)
        attempt.expect(free, "waits outside")
        odd = next((id for id in said if id != rows[0][0]), None)
        attempt.expect(odd is None, "wrong id", kind=article(odd))


def _upload(user_id: UUID, source: str) -> Upload:
    return Upload(user_id, source, f"Prices {token_hex(3)} {awkward_text()}", token_bytes(32))


async def _others(attempt: Attempt, upload: Upload) -> dict[str, Any]:
    """Prints of what this upload has no business with."""
    beside = (
        "SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM documents AS d WHERE user_id = :user AND source <> :own"
    )
    jobs = (
        "SELECT md5(string_agg(j::text, '' ORDER BY j.id)) FROM jobs AS j LEFT JOIN documents AS d "
        "ON d.id = document_id WHERE d.user_id IS DISTINCT FROM :user OR d.source <> :own OR j.status <> 'queued'"
    )
    values = {"user": upload.user_id, "own": upload.source}
    return {
        "Documents of other users": await other_rows(attempt, "documents", "user_id", upload.user_id),
        "Another document of the user": await attempt.value(beside, **values),
        "Jobs that were there before": await attempt.value(jobs, **values),
    }


async def _everything(attempt: Attempt) -> dict[str, Any]:
    return {
        "document": await other_rows(attempt, "documents", "user_id", UUID(int=0)),
        "job": await attempt.value(JOBS),
    }
