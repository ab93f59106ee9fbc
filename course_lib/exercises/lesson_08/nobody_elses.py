"""8.10: what is another user's is not there, whatever is asked of it, and the query says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from fastapi import FastAPI

from course_lib.exercises.lesson_08.scenes.asking import asked_by, caller
from course_lib.exercises.lesson_08.scenes.refused import expect_a_fault, refusing_commits
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Reply, Serving, app_with, in_service
from course_lib.instruments.network import WireLog
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import quoted
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user, other_rows

SHELF = """
    WITH document AS (
        INSERT INTO documents (user_id, source, title, status) VALUES (:user, :source, :title, 'ready') RETURNING id
    )
    INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
    SELECT id, 0, :content, 1, array_fill(0, ARRAY[256])::vector, 'none' FROM document RETURNING document_id, id
"""
DOCUMENT = "/documents/{document_id}"
PASSAGE, JOBS = f"{DOCUMENT}/passages/{{passage_id}}", f"{DOCUMENT}/jobs"
ROUTES = (("GET", PASSAGE), ("PATCH", DOCUMENT), ("POST", JOBS), ("DELETE", DOCUMENT))
WRITES = (
    ("PATCH", DOCUMENT, "UPDATE", "documents"),
    ("POST", JOBS, "INSERT", "jobs"),
    ("DELETE", DOCUMENT, "DELETE", "documents"),
)
JOB = "SELECT id, kind, status FROM jobs WHERE document_id = :document"
PASSING = {"date", "server"}  # headers that are no part of the answer


@dataclass(frozen=True)
class Shelf:
    """A document with one passage."""

    document: UUID
    passage: UUID
    title: str
    content: str

    @classmethod
    async def of(cls, attempt: Attempt, user: UUID) -> Shelf:
        title, content = awkward_text(), awkward_text()
        values = {"user": user, "source": f"{token_hex(4)}.md", "title": title, "content": content}
        document, passage = (await attempt.sql(SHELF, **values))[0]
        return cls(document, passage, title, content)


class NobodyElses(Exercise):
    """Ownership as a part of the question."""

    id = "8.10"
    title = "Nobody else's document"
    answer = "document_routes"
    minutes = 20
    points = 2
    level = "mid"
    seconds = SECONDS
    hints: ClassVar = (
        "What would a statement look like for which another user's document is the same as none at all? Then there "
        "is nothing to compare afterwards, and nothing to forget.",
        "`Document.id == document_id` and `Document.user_id == user_id` belong together in every statement, of an "
        "UPDATE and a DELETE too, and `RETURNING` says whether there was such a row. A dependency can make the "
        "condition, or load the document, for all routes.",
        "A passage is found by its own id and by its document's, joined with the document whose owner asks. A job "
        "can be inserted from a SELECT (`insert(Job).from_select(…)`), which has no row for what is not the caller's.",
    )
    why = (
        "403 says that there is something. An id that can be told from a free one is a list of customers for whoever "
        "tries enough of them, so what is another's is answered as what is not there, to the letter. And a row that "
        "the query never brings cannot be logged, cached or returned by the next route that is added: the check after "
        "the query is right until somebody forgets it once."
    )
    follow_up = (
        "The team grows, and somebody will forget the condition in a new route. What in the database could answer as "
        "if it stood there, and how would each request tell it who asks?"
    )
    mistakes: ClassVar = {
        "own": "`{what}` of the caller's own document was answered with {status}{said}. "
        "| See the table: the status, and at least what it names.",
        "not stored": "`{what}` was answered with {status}, and others see {seen}. "
        "| The COMMIT comes before the response.",
        "told too early": "The database refused the COMMIT of `{what}`, and the client was told {status}. "
        "| What a response says was done is committed by then. A dependency may end after it: see its `scope`.",
        "missing": "`{what}` was answered with {status} for an id that nobody has. | 404, when no row was found.",
        "let in": "`{what}` of another user's document was answered with {status}. "
        "| Whose it is belongs into the WHERE of every route.",
        "told apart": "`{what}` was answered with {theirs} for another user's document, and with {none} for one that "
        "does not exist. | 403 says that there is something to be forbidden: answer both alike, body and headers.",
        "other passage": "A passage of {whose} document was answered with {status} as one of this document. "
        "| Both ids of the path belong into the query, and who asks as well.",
        "after the query": "For `{what}` of another user's document the statements brought or changed {rows} row(s), "
        "and for one that does not exist {none}. "
        "| What is looked at afterwards has been read: put the owner into the query.",
        "others changed": "Rows of {table} changed that are no part of the caller's document. "
        "| Both the id and the owner belong into every WHERE.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        def make_app() -> FastAPI:
            return app_with(attempt, attempt.answer(sessions_of(attempt), caller))

        async def scene(served: Serving) -> None:
            user, other = await add_user(attempt), await add_user(attempt)
            mine, beside, theirs = [await Shelf.of(attempt, owner) for owner in (user, user, other)]
            asking = _Asking(attempt, served, user)
            before = await _others(attempt, mine)
            await self._own(attempt, asking, mine)
            await self._refused_at_commit(attempt, asking, mine)
            for whose, shelf in (("another", beside), ("another user's", theirs)):
                mixed = await asking.anyway("GET", PASSAGE, Shelf(mine.document, shelf.passage, "", ""))
                attempt.expect(mixed.status == 404, "other passage", whose=whose, status=mixed.outcome)
            nobodys = await asking.anyway("GET", PASSAGE, Shelf(mine.document, uuid4(), "", ""))
            attempt.expect(nobodys.status == 404, "missing", what=_name("GET", PASSAGE), status=nobodys.outcome)
            for method, path in ROUTES:
                await expect_a_fault(attempt, _name(method, path), partial(asking.anyway, method, path, mine))
                await self._theirs(attempt, asking, method, path, theirs, mine)
            await self._delete(attempt, asking, mine)
            for table, rows in (await _others(attempt, mine)).items():
                attempt.expect(rows == before[table], "others changed", table=table)

        await in_service(attempt, make_app, scene)

    async def _own(self, attempt: Attempt, asking: _Asking, mine: Shelf) -> None:
        """What the caller may do, but for deleting."""
        new = awkward_text()
        passage = await asking.ask("GET", PASSAGE, mine)
        wrong = _not_as_stored(passage, id=mine.passage, content=mine.content)
        self._look_at(attempt, _name("GET", PASSAGE), passage, 200, wrong)
        renamed = await asking.ask("PATCH", DOCUMENT, mine, new)
        wrong = _not_as_stored(renamed, id=mine.document, title=new)
        self._look_at(attempt, _name("PATCH", DOCUMENT), renamed, 200, wrong)
        stored = await attempt.value("SELECT title FROM documents WHERE id = :id", id=mine.document)
        attempt.expect(
            stored == new, "not stored", what=_name("PATCH", DOCUMENT), status=200, seen="the title it had before"
        )
        made = await asking.ask("POST", JOBS, mine)
        self._look_at(attempt, _name("POST", JOBS), made, 202, _not_as_stored(made))
        jobs = await attempt.sql(JOB, document=mine.document)
        right = [tuple(map(str, row)) for row in jobs] == [(str(made.json.get("id")), "ingest", "queued")]
        attempt.expect(right, "not stored", what=_name("POST", JOBS), status=202, seen=_jobs(jobs))

    async def _refused_at_commit(self, attempt: Attempt, asking: _Asking, mine: Shelf) -> None:
        for method, path, change, table in WRITES:
            async with refusing_commits(attempt, change, table):
                reply = await asking.anyway(method, path, mine, awkward_text())
            attempt.expect(reply.status >= 400, "told too early", what=_name(method, path), status=reply.status)

    def _look_at(self, attempt: Attempt, what: str, reply: Reply, status: int, wrong: str) -> None:
        right = reply.status == status and not wrong
        attempt.expect(right, "own", what=what, status=reply.status, said=wrong and f", {wrong}")

    async def _theirs(
        self, attempt: Attempt, asking: _Asking, method: str, path: str, theirs: Shelf, mine: Shelf
    ) -> None:
        """The same as nobody's, in the response and in what the statements brought."""
        what, nowhere = _name(method, path), Shelf(uuid4(), uuid4(), "", "")
        with attempt.wire.log() as log:
            none = await asking.anyway(method, path, nowhere)
        rows_of_none = _rows(log)
        attempt.expect(none.status == 404, "missing", what=what, status=none.outcome)
        with attempt.wire.log() as log:
            reply = await asking.anyway(method, path, theirs)
        attempt.expect(reply.status >= 300, "let in", what=what, status=reply.status)
        told = {"theirs": _told(reply, none), "none": _told(none, reply)}
        same = _without_ids(reply, theirs) == _without_ids(none, nowhere)
        attempt.expect(same, "told apart", what=what, **told)
        attempt.expect(_rows(log) == rows_of_none, "after the query", what=what, rows=_rows(log), none=rows_of_none)
        if path == PASSAGE:
            mixed = await asking.anyway(method, path, Shelf(theirs.document, mine.passage, "", ""))
            attempt.expect(mixed.status == 404, "other passage", whose="the caller's", status=mixed.outcome)

    async def _delete(self, attempt: Attempt, asking: _Asking, mine: Shelf) -> None:
        reply = await asking.ask("DELETE", DOCUMENT, mine)
        what = _name("DELETE", DOCUMENT)
        self._look_at(attempt, what, reply, 204, "")
        left = await attempt.value("SELECT count(*) FROM documents WHERE id = :id", id=mine.document)
        attempt.expect(left == 0, "not stored", what=what, status=204, seen="the document")
        again = await asking.anyway("DELETE", DOCUMENT, mine)
        attempt.expect(again.status == 404, "missing", what=what, status=again.outcome)


class _Asking:
    """Requests of one user, made from a route's path and a shelf's ids."""

    def __init__(self, attempt: Attempt, served: Serving, user: UUID) -> None:
        self._attempt, self._served, self._user = attempt, served, user

    async def ask(self, method: str, path: str, shelf: Shelf, title: str = "mine now") -> Reply:
        """As ``anyway``; an error that came out of the app is the judge's to tell."""
        reply = await self.anyway(method, path, shelf, title)
        if reply.error is not None:
            raise self._attempt.raised(_name(method, path), reply.error) from reply.error
        return reply

    async def anyway(self, method: str, path: str, shelf: Shelf, title: str = "mine now") -> Reply:
        body = {"json": {"title": title}} if method == "PATCH" else {}
        named = path.format(document_id=shelf.document, passage_id=shelf.passage)
        reply = await self._served.ask_anyway(method, named, headers=asked_by(self._user), **body)
        await self._served.idle()  # a COMMIT that comes too late is looked at by itself
        return reply


def _name(method: str, path: str) -> str:
    """A request in a sentence, without its ids."""
    return f"{method} {re.sub(r'{.*?}', '…', path)}"


def _not_as_stored(reply: Reply, **wanted: Any) -> str:
    """In words, what is wrong with it; nothing if it is an object with these values."""
    if not isinstance(reply.json, dict):
        return "no JSON object"
    other = [name for name, value in wanted.items() if reply.json.get(name) != str(value)]
    return f"without the right `{'`, `'.join(other)}`" if other else ""


def _jobs(jobs: Sequence[Any]) -> str:
    if not jobs:
        return "no job of the document"
    return f"{len(jobs)} job(s) of the document, among them one of kind {quoted(jobs[0][1])} that is {jobs[0][2]}"


def _rows(log: WireLog) -> int:
    """How many rows all statements brought or changed."""
    return sum(statement.rows or 0 for statement in log.statements)


def _without_ids(reply: Reply, shelf: Shelf) -> tuple[Any, ...]:
    """What a client sees, but for the ids that it has sent itself."""
    text = reply.text
    for place, id in enumerate((shelf.document, shelf.passage)):
        text = text.replace(str(id), f"<{place}>")
    return reply.status, text, sorted((k, v) for k, v in reply.headers.items() if k not in PASSING)


def _told(reply: Reply, other: Reply) -> str:
    """Its status, and more where that is the same."""
    if reply.status != other.status:
        return reply.outcome
    if reply.text != other.text:
        return f"{reply.status} {quoted(reply.text)}"
    return f"{reply.status} with the headers {', '.join(sorted(set(reply.headers) - PASSING))}"


async def _others(attempt: Attempt, mine: Shelf) -> dict[str, str]:
    """What is not the document's, by table."""
    columns = {"documents": "t.id", "document_chunks": "t.document_id", "jobs": "coalesce(t.document_id, t.id)"}
    return {table: await other_rows(attempt, table, column, mine.document) for table, column in columns.items()}
