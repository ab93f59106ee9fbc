"""7.7: a document deleted on request, with the copies of it that no foreign key knows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text

from course_lib.exercises.lesson_07.scenes.copies import (
    OTHER,
    State,
    add_answers,
    add_document,
    add_vectors,
    cache_key,
    new_texts,
    source,
)
from course_lib.judging.asking import calling_it, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import quoted
from course_lib.judging.races import at_once, sessions_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user

GATE = 7_07
OF_OTHERS = """
    SELECT m.id FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id WHERE c.user_id <> :user
"""
FAIL = """
    DO $$ BEGIN
        CREATE OR REPLACE FUNCTION out_of_order() RETURNS trigger LANGUAGE plpgsql AS
            $f$ BEGIN RAISE EXCEPTION 'the disk is full'; END $f$;
        CREATE TRIGGER out_of_order BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION out_of_order();
    END $$
"""
WAIT = f"""
    DO $$ BEGIN
        CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
            $f$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $f$;
        CREATE CONSTRAINT TRIGGER wait_at_commit AFTER DELETE ON documents DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
    END $$
"""


class DeleteDocument(Exercise):
    """What a foreign key cannot find, in the same transaction, beside somebody who deletes the same text."""

    id = "7.7"
    title = "Delete on request"
    answer = "delete_document"
    minutes = 20
    points = 3
    level = "senior"
    seconds = 12.0
    hints: ClassVar = (
        "Passages and jobs go with the document, by their foreign keys. Two tables hold copies that no key refers "
        "from: which, and by what do you find the document in them?",
        "A vector is found by the hash of a passage's text and by the model, as long as the passage is there. It may "
        "go when, after the deletion, no passage of anybody has that text and that model.",
        "Of two who delete the last two passages with one text, each sees the other's. Lock the rows of the cache "
        "first (`with_for_update()`, in the order of their keys), then delete the document, and look only after that: "
        "the next statement sees what the other one has committed.",
    )
    why = (
        "ON DELETE CASCADE deletes what refers to a row. A cache shared by all refers to nobody, and a quotation in a "
        "JSON column is just text, so both are found by hand, before what would find them is gone. One transaction "
        "for all of it: a half-deleted document can neither be shown nor be deleted again. The lock makes the second "
        "of two deletions look after the first one has committed; a job that sweeps vectors without a passage would "
        "do as well, later."
    )
    follow_up = (
        "The user asks for proof that nothing is left. Which places outside of these tables still hold the text, for "
        "how long, and what do you promise?"
    )
    mistakes: ClassVar = {
        "not deleted": "It returned {said}, and others still see the document. | What makes it last?",
        "wrong return": "For a document that was there it returned {said}. | True, once it is deleted.",
        "not theirs": "For {whose} it {did}. | False, and nothing changes.",
        "others changed": "{count} rows of other documents are gone from `{table}`. "
        "| The document's id belongs into every WHERE.",
        "vectors left": "{count} cached vectors of its passages are still there, and no passage has them any more. "
        "| `embedding_cache` is found by the SHA-256 of a text in UTF-8, and by the model.",
        "vectors taken": "{count} cached vectors are gone that other passages have. "
        "| The same text may stand in another document, of anybody; the same text of another model is another vector.",
        "claims taken": "{count} rows of the cache are gone that somebody had claimed. "
        "| Where `claimed_until` is set, a vector is being bought: it is not this function's.",
        "quotations left": "{count} answers still have the document among their sources. "
        "| `meta[\"sources\"]` of the user's messages, each entry with this `document_id`.",
        "meta changed": "The `meta` of {count} messages is not what it was without the document's sources. "
        "| Every other source, in its order, and every other key stay as they are.",
        "conversations changed": "The `meta` of {count} messages of other users was changed. "
        "| Messages belong to conversations, and these to users: this user's only.",
        "half deleted": "A statement at `{table}` failed, and afterwards rows were gone or changed in {tables}. "
        "| One transaction for all of it.",
        "error swallowed": "A statement at `{table}` failed, and it returned {said}. "
        "| Who asked for the deletion has to know.",
        "failed at once": "Of two deletions at once, one raised {error}. "
        "| Both lock the rows of the cache that they share: in the same order, they wait for each other only once.",
        "left by two": "The last two passages with one text were deleted at once, and the vector of that text is "
        "still there. "
        "| Each saw the other's passage. Lock the row of the cache first, and look afterwards.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id, stranger = await add_user(attempt), await add_user(attempt)
        document_id, wanted = await _staged(attempt, user_id, stranger)
        theirs = await add_document(attempt, stranger, new_texts(2))
        before = await State.of(attempt)
        for whose, owner, id in (
            ("a document of somebody else", user_id, theirs),
            ("an id that no document has", user_id, uuid4()),
        ):
            await self._not_theirs(attempt, before, whose, owner, id)
        said = await attempt.call(sessions_of(attempt), user_id, document_id)
        attempt.look_for_tasks()
        await self._look_at(attempt, before, document_id, wanted, said)
        await self._not_theirs(attempt, await State.of(attempt), "a document deleted before", user_id, document_id)
        await self._empty(attempt, user_id)
        document_id, _ = await _staged(attempt, user_id, stranger)
        for table, what in (("documents", "DELETE"), ("embedding_cache", "DELETE"), ("messages", "UPDATE")):
            await self._fails(attempt, (user_id, document_id), table, what)
        await self._two_at_once(attempt, user_id, stranger)
        call = partial(attempt.call, sessions_of(attempt), user_id, document_id)
        await expect_errors_to_rise(attempt, call=call)

    async def _not_theirs(self, attempt: Attempt, before: State, whose: str, user_id: UUID, id: UUID) -> None:
        with calling_it(attempt, "not theirs", whose=whose, did="raised an error"):
            said = await attempt.call(sessions_of(attempt), user_id, id)
        attempt.expect(await State.of(attempt) == before, "not theirs", whose=whose, did="changed something")
        attempt.expect(said is False, "not theirs", whose=whose, did=f"returned {quoted(said)}")

    async def _fails(self, attempt: Attempt, ids: tuple[UUID, UUID], table: str, what: str) -> None:
        before = await State.of(attempt)
        await attempt.sql(FAIL.format(what=what, table=table))
        said = None
        try:
            said = quoted(await attempt.call(sessions_of(attempt), *ids))
        except Wrong as wrong:
            if wrong.mistake != "raised" or "the disk is full" not in str(wrong.__cause__):
                raise
        await attempt.sql(f"DROP TRIGGER out_of_order ON {table}")
        after = await State.of(attempt)
        changed = [name for name in before.tables if before.tables[name] != after.tables[name]]
        attempt.expect(said is None, "error swallowed", table=table, said=said)
        attempt.expect(not changed, "half deleted", table=table, tables=", ".join(changed))

    async def _look_at(self, attempt: Attempt, before: State, id: UUID, wanted: _Wanted, said: Any) -> None:
        after = await State.of(attempt)
        attempt.expect(id not in after.tables["documents"], "not deleted", said=quoted(said))
        for table, gone in (("documents", {id}), ("document_chunks", wanted.passages)):
            more = before.gone(after, table) - gone
            attempt.expect(not more, "others changed", count=len(more), table=table)
        gone = before.gone(after, "embedding_cache")
        claimed = {key for key, until in before.tables["embedding_cache"].items() if until}
        attempt.expect(not gone & claimed, "claims taken", count=len(gone & claimed))
        attempt.expect(gone <= wanted.vectors, "vectors taken", count=len(gone - wanted.vectors))
        attempt.expect(gone == wanted.vectors, "vectors left", count=len(wanted.vectors - gone))
        metas, old = after.tables["messages"], before.tables["messages"]
        strangers = sum(metas.get(key) != old[key] for key in wanted.elsewhere)
        attempt.expect(strangers == 0, "conversations changed", count=strangers)
        mine = {key: meta for key, meta in old.items() if key not in wanted.elsewhere}
        left = [key for key in mine if str(id) in str(metas.get(key, {}).get("sources"))]
        attempt.expect(not left, "quotations left", count=len(left))
        right = {key: _without(meta, id) for key, meta in mine.items()}
        other = sum(metas.get(key) != meta for key, meta in right.items())
        attempt.expect(other == 0, "meta changed", count=other)
        attempt.expect(said is True, "wrong return", said=quoted(said))

    async def _empty(self, attempt: Attempt, user_id: UUID) -> None:
        """A document without passages, and without an answer from it."""
        id = await add_document(attempt, user_id, [])
        before = await State.of(attempt)
        said = await attempt.call(sessions_of(attempt), user_id, id)
        await self._look_at(attempt, before, id, _Wanted(set(), set()), said)

    async def _two_at_once(self, attempt: Attempt, one: UUID, other: UUID) -> None:
        """Neither can commit before both have deleted, or one stands at a lock of the other's."""
        await attempt.sql("DELETE FROM embedding_cache")  # a lock on other rows than the shared ones would do as well
        shared = new_texts(3)
        calls = [
            (one, await add_document(attempt, one, shared)),
            (other, await add_document(attempt, other, shared[::-1])),
        ]
        await add_vectors(attempt, shared)
        await attempt.sql(WAIT)
        async with attempt.judge_session() as gate:
            await gate.execute(text(f"SELECT pg_advisory_xact_lock({GATE})"))
            with calling_it(attempt, "failed at once"):
                running = asyncio.ensure_future(at_once(attempt, *calls))
                try:
                    await until_blocked(attempt, running, 2)
                    await gate.rollback()
                finally:
                    with suppress(Wrong):
                        await asyncio.wait({running})
                await running
        left = (await State.of(attempt)).tables["embedding_cache"].keys() & {cache_key(text) for text in shared}
        attempt.expect(not left, "left by two")


class _Wanted:
    """What is to be gone: passages by id, rows of the cache by key; and other users' messages, which are to stay."""

    def __init__(self, passages: set[Any], vectors: set[str], elsewhere: Collection[Any] = ()) -> None:
        self.passages, self.vectors, self.elsewhere = passages, vectors, elsewhere


async def _staged(attempt: Attempt, user_id: UUID, stranger: UUID) -> tuple[UUID, _Wanted]:
    """The document. It shares texts with others, of the same user, of another one, and of another model."""
    own, twice, elsewhere, theirs, remodelled, bought = texts = new_texts(6)
    id = await add_document(attempt, user_id, [own, twice, elsewhere, twice, theirs, remodelled, bought])
    beside = await add_document(attempt, user_id, [*new_texts(1), elsewhere])
    await add_document(attempt, stranger, [theirs, *new_texts(1)])
    await add_document(attempt, stranger, [remodelled], OTHER)
    await add_vectors(attempt, texts[:-1])
    await add_vectors(attempt, [remodelled], OTHER)
    await add_vectors(attempt, [bought], claimed=True)
    cited, kept = source(id, 1), source(beside, 3)
    metas: list[dict[str, Any]] = [
        {"sources": [cited, kept, source(id, 2), source(beside, 4)], "model": "small", "a.b": [None, {}]},
        {"sources": [cited]}, {"sources": [kept]}, {"sources": []}, {}, {"pinned": str(id), "sources": [kept, cited]},
        {"sources": [{"title": "Handbook"}, cited, "https://example.org/handbook"]},
        {"sources": [{"document_id": str(id)}]},
    ]  # fmt: skip
    await add_answers(attempt, user_id, metas)
    await add_answers(attempt, stranger, [{"sources": [cited]}])
    others = await attempt.sql(OF_OTHERS, user=user_id)
    rows = await attempt.sql("SELECT id FROM document_chunks WHERE document_id = :id", id=id)
    vectors = {cache_key(text) for text in (own, twice, remodelled)}
    return id, _Wanted({row[0] for row in rows}, vectors, {row[0] for row in others})


def _without(meta: dict[str, Any], id: UUID) -> dict[str, Any]:
    if not isinstance(meta.get("sources"), list):
        return meta
    return {**meta, "sources": [one for one in meta["sources"] if not _is_of(one, id)]}


def _is_of(source: Any, id: UUID) -> bool:
    """Whether it is a source from this document; in the seeded messages sources are texts."""
    return isinstance(source, dict) and source.get("document_id") == str(id)
