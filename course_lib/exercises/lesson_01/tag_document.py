"""1.5: one key of a JSONB document."""

from __future__ import annotations

import inspect
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import SQLAlchemyError

from course_lib.judging.asking import ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article, quoted
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, other_rows
from course_lib.judging.turns import Race, run_race


class TagDocument(Exercise):
    """A change inside a JSONB value that is really sent, and takes nothing else with it."""

    id = "1.5"
    title = "A tag on a document"
    answer = "tag_document"
    minutes = 10
    points = 2
    level = "mid"
    hints: ClassVar = (
        "A session notices that an attribute is set anew. Does it notice when a dict is changed inside?",
        "Read, change in Python, write back: a second tagger in between is overwritten. Let the server do the change, "
        "or lock the row before you read it.",
        "PostgreSQL's `||` lays one JSONB object over another: `Document.meta.concat({…})` inside an "
        "`update(Document)`.",
    )
    why = (
        "The server changes the key in the newest state of the row, so taggers of other keys keep theirs. In Python "
        "the "
        "row would have to be locked (`with_for_update`) and the dict set anew: the session does not see inside of it."
    )
    follow_up = 'Tags become something people search by. Which index serves `meta @> \'{"status": "reviewed"}\'`?'
    _known: dict[str, Any]
    """The document's ``meta`` as it was seen last."""
    mistakes: ClassVar = {
        "nothing returned": "`tag_document` returned None. | Did you forget `return`?",
        "not a bool": "`tag_document` returned {kind}, and True or False was asked for. "
        "| Compare what came back, for example with `== 1` or `is not None`.",
        "refused": "Asked to set the key {key!r} of a document that exists, it said False. "
        "| When was a row changed? Ask the result of the UPDATE, whatever the key.",
        "refused an empty one": "Asked to set the key {key!r} of a document whose `meta` is empty, it said False. "
        "| An empty object is false in Python, and the document exists: ask `is None`, or the result of the UPDATE.",
        "not noticed": "The document is as it was, and no UPDATE was sent. "
        "| The session does not see a change inside a dict. Set the attribute anew, or let the server change it.",
        "not committed": "An UPDATE was sent, and other connections see the document as it was. "
        "| What makes it last, and what creates a key that is not there yet?",
        "old value kept": "The key {key!r} was there already, and it still has the value {stored!r}. "
        "| What is laid on top wins: the tag goes over what is there.",
        "others lost": "The tag is there, and {count} other keys of `meta` are gone or changed. "
        "| Lay the key over what is there, do not put it in its place.",
        "wrong value": "Asked to store {value!r}, it stored {stored!r}. "
        "| The value is to be this value as JSON: not a text that looks like it, not laid over an old one.",
        "key missing": "After the call, `meta` has no key {key!r}. "
        "| Is the key a value of the statement, or a part of it, and is it one key, whatever signs are in it?",
        "key read as SQL": "The key {key!r} made it fail with {error}. "
        "| A key is a value: pass it as one, also inside a path.",
        "value read as SQL": "The value {value!r} made it fail with {error}. "
        "| Pass it as a value, as JSON, never inside the SQL text.",
        "other documents": "Other documents were changed too. "
        "| The document's id belongs into the WHERE of the UPDATE.",
        "more than meta": "The tag is there, and more than `meta` has changed: other columns, or rows that refer to "
        "it. "
        "| Change the row, and no other column of it.",
        "unknown document": "For an id that no document has, it {did}. | No row changed means False.",
        "overwritten": "Five calls set a key each on the same document, in turns, and {gone!r} is not there. "
        "| What was written back was old. Let the server change one key, or lock the row before reading.",
        "gave up": "Five calls set a key each on the same document, in turns, and one returned {said}. "
        "| Rivals may be more than its tries. Let the server change one key: that waits, and needs no second try.",
        "broke off": "While others tagged the same document, it raised {error}. "
        "| Let the server change one key, or lock the row before reading it.",
        "held in the process": "While one call was under way, another one sent nothing and stood at no lock. "
        "| Classifiers run in several processes: only the database can make one wait for the other.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        id = await _add_documents(attempt)
        self._known = await _meta(attempt, id)
        others, rest = await other_rows(attempt, "documents", "id", id), await _all_but_meta(attempt, id)
        key, mark = f"{choice(('topic', 'source', 'team'))}_{token_hex(2)}", token_hex(2)
        for value in (f"value {mark}", {"year": 2000}, {"by": mark, "at": None}, {}, [1, "two"], [], "42", "", 0, 2.5):
            await self._tags(attempt, id, key, value)
        await self._tags(attempt, id, "pages", 2**53 + 1 + 2 * randbelow(900))  # no float
        attempt.expect(await other_rows(attempt, "documents", "id", id) == others, "other documents")
        attempt.expect(await _all_but_meta(attempt, id) == rest, "more than meta")
        for key in (_odd_key(mark), "nested.by", f"{mark}.lang", ""):
            with calling_it(attempt, "key read as SQL", SQLAlchemyError, key=key):
                await self._tags(attempt, id, key, [mark])
        value = f' it\'s {mark}:read "x\\y"\n'
        with calling_it(attempt, "value read as SQL", SQLAlchemyError, value=value):
            await self._tags(attempt, id, "note", value)
        with calling_it(attempt, "unknown document", did="raised an error"):
            said = await self._ask(attempt, uuid4(), "topic", "x")
        attempt.expect(not said, "unknown document", did="returned True")
        await attempt.sql("UPDATE documents SET meta = '{}' WHERE id = :id", id=id)
        self._known = {}
        await self._tags(attempt, id, "first", mark)
        await self._keeps_what_others_set(attempt, id)
        await expect_errors_to_rise(attempt, id, "topic", "x")

    async def _tags(self, attempt: Attempt, id: UUID, key: str, value: Any) -> None:
        before = self._known
        refused = "refused" if before else "refused an empty one"
        said = await self._ask(attempt, id, key, value)
        meta = self._known = await _meta(attempt, id)
        if meta == before and key in before:
            raise attempt.wrong("old value kept", key=key, stored=before[key])
        if meta == before:
            sent = any(not statement.is_select for statement in attempt.log.statements)
            attempt.expect(said or sent, refused, key=key)
            raise attempt.wrong("not committed" if sent else "not noticed")
        attempt.expect(key in meta, "key missing", key=key)
        attempt.expect(_same(meta[key], value), "wrong value", value=value, stored=meta[key])
        lost = [other for other in before if other != key and (other not in meta or meta[other] != before[other])]
        attempt.expect(not lost, "others lost", count=len(lost))
        attempt.expect(said, refused, key=key)

    async def _keeps_what_others_set(self, attempt: Attempt, id: UUID) -> None:
        keys = [f"{name}_{token_hex(2)}" for name in ("one", "two", "three", "four", "five")]

        async def tag(key: str) -> Any:
            async with attempt.session() as session:
                answered = attempt.answer(session, id, key, "x")
                return await answered if inspect.isawaitable(answered) else answered

        async def script(race: Race) -> tuple[bool, list[Any]]:
            for key in keys:
                race.start(tag, key)
            return await race.take_turns(), await race.results()

        with calling_it(attempt, "broke off"):
            free, said = await run_race(attempt, script)
        other = [answer for answer in said if answer is not True]
        attempt.expect(not other, "gave up", said=quoted(other[0]) if other else "")
        meta = await _meta(attempt, id)
        gone = [key for key in keys if key not in meta]
        attempt.expect(not gone, "overwritten", gone=gone[0] if gone else "")
        attempt.expect(free, "held in the process")

    async def _ask(self, attempt: Attempt, id: UUID, key: str, value: Any) -> bool:
        said = await ask(attempt, id, key, value)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, bool), "not a bool", kind=article(said))
        return bool(said)


def _odd_key(mark: str) -> str:
    """With blanks around it, capitals, two spellings of one sign, and more signs than a name may have."""
    return f' \tMaeve\'s "x\\y", {{{mark}}}: 100% é e\u0301 {"of a long road " * 4}\n '


async def _add_documents(attempt: Attempt) -> UUID:
    """Two documents, the id of one."""
    user_id, id = await add_user(attempt), uuid4()
    meta: dict[str, Any] = {
        "words": 100 + randbelow(900),
        "language": choice(("en", "de", "pt")),
        "pages": randbelow(99),
    }
    meta |= {"nested": {"by": token_hex(2), "at": None}, "reviewer": None}
    fields = {"user_id": user_id, "title": "Notes", "status": "ready", "meta": meta}
    fields |= {"created_at": "2026-03-01T10:00Z", "updated_at": "2026-03-01T10:00Z"}
    await add_rows(
        attempt, "documents", [{"id": id, "source": "a", **fields}, {"id": uuid4(), "source": "b", **fields}]
    )
    await attempt.sql("INSERT INTO jobs (kind, document_id) VALUES ('embed_document', :id)", id=id)
    return id


async def _all_but_meta(attempt: Attempt, id: UUID) -> list[tuple[Any, ...]]:
    """The other columns of the document, and the job that refers to it."""
    rows = await attempt.sql(
        "SELECT d.id, user_id, source, title, d.status, d.created_at, j.id FROM documents AS d "
        "LEFT JOIN jobs AS j ON document_id = d.id WHERE d.id = :id",
        id=id,
    )
    return list(rows)


async def _meta(attempt: Attempt, id: UUID) -> dict[str, Any]:
    meta: dict[str, Any] = await attempt.value("SELECT meta FROM documents WHERE id = :id", id=id)
    return meta


def _same(stored: Any, value: Any) -> bool:
    return type(stored) is type(value) and stored == value
