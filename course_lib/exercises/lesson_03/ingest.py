"""3.10: five hundred chunks or none."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_03.scenes.embedder import Embedder, EmbeddingFailed, new_texts
from course_lib.judging.asking import SERIALIZATION, UNIQUE, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.passage_writers import WITNESS, WRITERS
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import listening, sessions_of
from course_lib.judging.staging import add_rows, add_user, other_rows
from course_lib.judging.turns import in_turns

TEXTS, FAILING, FEWER, FEW = 500, 347, 120, 12
FAILED_ELSEWHERE = "UPDATE documents SET status = 'failed', error = 'no answer elsewhere' WHERE id = :id"
CHUNKS = """
    SELECT chunk_index, content, embedding::text AS embedding, embedding_model, token_count
    FROM document_chunks WHERE document_id = :id ORDER BY chunk_index
"""


class Ingest(Exercise):
    """Ask the model outside, write inside one short transaction."""

    id = "3.10"
    title = "Chunk 347"
    answer = "ingest"
    minutes = 20
    points = 3
    level = "senior"
    seconds = 15.0  # who stores chunk by chunk is to hear that, and not that it takes long
    hints: ClassVar = (
        "What takes long and can fail does not belong into a transaction, what has to appear at once does. In which "
        "order do the two come?",
        "Have all vectors in a list before you write the first row. Then one transaction: the old chunks go, the new "
        "ones come, the status becomes `ready`.",
        "A failure is written down although nothing else is: in a session of its own, before the error goes on.",
        "Two calls at once: lock the document's row (`session.get(Document, document_id, with_for_update=True)`) "
        "before you delete. The second one then waits, and deletes what the first one has stored.",
    )
    why = (
        "While the model works, no connection waits with it: others can use the pool, and no lock is held. One "
        "transaction swaps the versions, so a reader sees the old one or the new one, and a retry can start from the "
        "beginning without clearing up. The lock on the document makes two of these swaps come one after the other."
    )
    follow_up = (
        "The whole document is embedded again for one changed paragraph. What would you store to embed only what is "
        "new, and does the swap stay in one transaction?"
    )
    mistakes: ClassVar = {
        "not asked": "`embed` was not asked for text number {number}. | Each text gets a vector, the last ones too.",
        "half indexed": "`embed` failed at text {failing}, and {count} of {n} chunks can be found. "
        "| Search does not know that the rest is missing. Store nothing before all vectors are there.",
        "error swallowed": "`embed` failed, and `ingest` returned {said} as if all were well. "
        "| The caller has to know: write down the failure, then let the error go on.",
        "another error": "`embed` failed with {error}, and out of `ingest` came {raised}. "
        "| After the failure is written down, a bare `raise` passes the error on. A TaskGroup packs it into a group.",
        "connection held": "While `embed` was at work, {count} connection(s) were out of the pool. "
        "| End the session before you call the model, and open another one after it.",
        "left at work": "`embed` failed in one of several calls, and a connection was taken while {count} of the "
        "others were still at work. "
        "| `gather` goes on at the first error and leaves the others running. Wait for all (`return_exceptions=True`), "
        "or let a TaskGroup cancel them.",
        "transaction open": "While `embed` was at work, {count} transaction(s) were open. "
        "| Commit before you call the model, whatever engine it was.",
        "status after failure": "`embed` failed with {error}, and the document's status is {status!r}. "
        "| 'failed', after whatever error, and for good: in a session of its own, which the error does not roll back.",
        "no reason": "`embed` failed with {error}, the status says so, and `error` is {stored!r}. "
        "| Not every error has a text: `repr(error)` says at least what it was.",
        "retry failed": "{which} call raised {error}. | Whatever the calls before have left, a call replaces it.",
        "chunks missing": "`ingest` returned, and {count} of {n} chunks can be found. "
        "| Each text becomes a chunk, whatever the status was and whether or not another is equal; a commit makes "
        "them last.",
        "wrong chunk": "Chunk {index} has {column} {stored}, and that is not what belongs to text {index}. "
        "| `zip(texts, vectors)`, counted from 0; the statement says what goes into each column.",
        "not ready": "All chunks are stored, and the document's status is {status!r}. | 'ready', and committed.",
        "old error": "The document is ready, and `error` still says {stored!r}. | What is over is NULL.",
        "several transactions": "The chunks of one call were written in {count} transactions, and between them others "
        "saw a part. "
        "| One commit for all that belongs together.",
        "ready too early": "The document was made ready, for all to see, with {count} chunks instead of {n}. "
        "| The status becomes `ready` in the transaction that stores the chunks.",
        "gap": "While a new version was being embedded, others saw {count} of the {n} chunks of the old one. "
        "| The old version stays until the new one can take its place.",
        "old version lost": "`embed` failed for a new version, and of the old one {count} of {n} chunks are left. "
        "| What was there stays there, until there is something better.",
        "old version kept": "A document got {n} other texts, and its chunks are those of before. "
        "| Ready says that a version is stored, and not which one.",
        "old model kept": "The same texts came with another `embed.model`, and the chunks are those of before. "
        "| Vectors of two models have nothing to do with each other: a chunk stays only with the model it was made "
        "by.",
        "state of before": "While `embed` was at work another call failed and said so; this one returned, and the "
        "document's status is {status!r} and its `error` {stored!r}. "
        "| Where an object was loaded before, the ORM writes only what differs from that. Send an UPDATE, or load it "
        "again under a lock.",
        "left over": "A version of {n} texts took the place of a longer one, and {count} chunks can be found. "
        "| Those of the old version that have no successor have to go.",
        "empty version": "For a version without texts it raised {error}. "
        "| `texts` may be empty. An INSERT that is given an empty list sends a row of defaults.",
        "other documents": "Other documents, or their chunks, were changed. "
        "| The document's id belongs into every WHERE.",
        "failed at once": "Two calls for one document at the same moment: one raised {error}. "
        "| Both change the same rows. Let the second one wait for the end of the first before it deletes.",
        "not tried again": "Two calls for one document at the same moment: one raised {error}, SQLSTATE 40001. "
        "| This isolation level asks for another try: write again, or wait for a lock at READ COMMITTED.",
        "mixed versions": "Two calls for one document at the same moment, of {first} and of {second} texts, left "
        "{count} chunks that are neither the one version nor the other. "
        "| Lock the document before you change its chunks.",
        "locked in this process": "While one call had not committed yet, another one waited for something that is no "
        "lock of the database. "
        "| The service runs in several processes, and Python's locks are known to one of them.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(WITNESS)
        id = await _add_document(attempt)
        others = await _others(attempt, id)
        embed, texts = Embedder(attempt, id), new_texts(TEXTS)
        await self._fails(attempt, embed, texts, FAILING, EmbeddingFailed("no answer; it's late"))
        await attempt.sql("UPDATE documents SET status = 'processing' WHERE id = :id", id=id)  # and killed right after
        await self._stores(attempt, embed, texts, 0, "After a failed call, the next")
        newer = [*texts[5:10], *new_texts(FEWER - 5)]
        await self._fails(attempt, embed, newer, FEWER // 2, TimeoutError())
        await self._stores(attempt, embed, newer, TEXTS, "A new version's")
        await self._stores(attempt, embed, new_texts(FEWER), FEWER, "A third version's")
        attempt.expect(await _others(attempt, id) == others, "other documents")
        await self._embeds_anew(attempt)
        await self._two_at_once(attempt)
        with calling_it(attempt, "empty version"):
            await self._stores(attempt, embed, [], FEWER, "An empty version's")

    async def _fails(
        self, attempt: Attempt, embed: Embedder, texts: list[str], number: int, fails_with: Exception
    ) -> None:
        embed.forget()
        embed.fails_at, embed.error = texts[number - 1], fails_with
        before = await _chunks(attempt, embed.document_id)
        error, said = None, None
        try:
            with (
                listening(attempt, "do_connect", embed.note_connection),
                listening(attempt, "checkout", embed.note_connection),
            ):
                said = await attempt.call(sessions_of(attempt), embed, embed.document_id, list(texts))
        except Wrong as wrong:
            if wrong.mistake != "raised" or not embed.failed:
                raise
            error = wrong
        embed.fails_at = ""
        attempt.expect(embed.failed, "not asked", number=number)
        after = await _chunks(attempt, embed.document_id)
        if before:
            attempt.expect(after == before, "old version lost", count=len(after), n=len(before))
        attempt.expect(after == before, "half indexed", failing=number, count=len(after), n=len(texts))
        attempt.expect(error is not None, "error swallowed", said=article(said))
        raised = error.__cause__ if error else None
        attempt.expect(raised is fails_with, "another error", error=kind_of(fails_with), raised=article(raised))
        await self._look_at(attempt, embed, len(before), len(texts))
        attempt.expect(not embed.left_at_work, "left at work", count=embed.left_at_work)
        status, stored = await _state(attempt, embed.document_id)
        attempt.expect(status == "failed", "status after failure", error=kind_of(fails_with), status=status)
        attempt.expect(bool(stored and stored.strip()), "no reason", error=kind_of(fails_with), stored=stored)

    async def _stores(self, attempt: Attempt, embed: Embedder, texts: list[str], old: int, which: str) -> None:
        embed.forget()
        await attempt.sql("TRUNCATE judge.writers, judge.made_ready")
        before = await _chunks(attempt, embed.document_id)
        with calling_it(attempt, "retry failed", saying=UNIQUE, which=which):
            await attempt.call(sessions_of(attempt), embed, embed.document_id, list(texts))
        after = await _chunks(attempt, embed.document_id)
        wanted = embed.rows(texts)
        same = [chunk["content"] for chunk in before] == list(texts)
        kept = "old model kept" if old and same else "old version kept" if old else "chunks missing"
        attempt.expect(after != before or before == wanted, kept, n=len(texts), count=len(after))
        attempt.expect(len(after) <= len(texts), "left over", n=len(texts), count=len(after))
        attempt.expect(len(after) == len(texts), "chunks missing", n=len(texts), count=len(after))
        for index, (stored, right) in enumerate(zip(after, wanted, strict=True)):
            for column, value in right.items():
                shown = str(stored[column])[:30]
                attempt.expect(stored[column] == value, "wrong chunk", index=index, column=column, stored=repr(shown))
        await self._look_at(attempt, embed, old, len(texts))
        writers = await attempt.value(WRITERS, id=embed.document_id)
        attempt.expect(writers <= 1, "several transactions", count=writers)
        status, error = await _state(attempt, embed.document_id)
        written = not embed.meanwhile or (status == "ready" and error is None)
        attempt.expect(written, "state of before", status=status, stored=error)
        attempt.expect(status == "ready", "not ready", status=status)
        attempt.expect(error is None, "old error", stored=error)

    async def _embeds_anew(self, attempt: Attempt) -> None:
        """The same texts with another model, while a call elsewhere fails for the document."""
        id, texts = await _add_document(attempt), new_texts(FEW)
        await self._stores(attempt, Embedder(attempt, id), texts, 0, "The first")
        another = Embedder(attempt, id)
        another.meanwhile = FAILED_ELSEWHERE
        await self._stores(attempt, another, texts, FEW, "Another model's")

    async def _look_at(self, attempt: Attempt, embed: Embedder, old: int, new: int) -> None:
        """What could be seen while ``embed`` was asked, and whenever the document was made ready."""
        attempt.expect(embed.held == 0, "connection held", count=embed.held)
        attempt.expect(embed.transactions == 0, "transaction open", count=embed.transactions)
        seen = embed.chunks - {old}
        attempt.expect(not seen, "gap" if old else "several transactions", n=old, count=min(seen, default=0))
        for (count,) in await attempt.sql("SELECT chunks FROM judge.made_ready"):
            attempt.expect(count in {old or new, new}, "ready too early", n=new, count=count)

    async def _two_at_once(self, attempt: Attempt) -> None:
        id = await _add_document(attempt, "processing")
        embed = Embedder(attempt, id, looks=False)
        versions = [new_texts(30), new_texts(20)]
        with (
            calling_it(attempt, "failed at once"),
            calling_it(attempt, "not tried again", saying=SERIALIZATION),
        ):
            in_the_database, _ = await in_turns(attempt, *((embed, id, texts) for texts in versions))
        chunks = await _chunks(attempt, id)
        whole = chunks in [embed.rows(texts) for texts in versions]
        attempt.expect(whole, "mixed versions", first=30, second=20, count=len(chunks))
        status, _ = await _state(attempt, id)
        attempt.expect(status == "ready", "not ready", status=status)
        attempt.expect(in_the_database, "locked in this process")


async def _others(attempt: Attempt, id: UUID) -> tuple[str, str]:
    """Fingerprints of the other documents and their chunks."""
    documents = await other_rows(attempt, "documents", "id", id)
    return documents, await other_rows(attempt, "document_chunks", "document_id", id)


async def _add_document(attempt: Attempt, status: str = "uploaded") -> UUID:
    id = uuid4()
    fields = {"source": f"upload/{id}.md", "title": "Handbook", "status": status, "meta": {}}
    await add_rows(attempt, "documents", [{"id": id, "user_id": await add_user(attempt), **fields}])
    return id


async def _chunks(attempt: Attempt, id: UUID) -> list[dict[str, Any]]:
    rows = await attempt.sql(CHUNKS, id=id)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows]


async def _state(attempt: Attempt, id: UUID) -> tuple[str, str | None]:
    rows = await attempt.sql("SELECT status, error FROM documents WHERE id = :id", id=id)
    status, error = rows[0] if rows else ("gone", None)
    return status, error
