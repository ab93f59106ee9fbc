"""7.3: a document that comes again costs what has changed of it."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

import httpx2

from course_lib.exercises.lesson_07.scenes.model import Model, Request, refusal, some_texts
from course_lib.exercises.lesson_07.scenes.stored import Shelf, Vectors, rows_for
from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import OTHER_MODEL, add_double
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.passage_writers import WITNESS, WRITERS
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import other_rows
from course_lib.judging.turns import in_turns

FAILURE = 500


class IngestAgain(Exercise):
    """Look, buy without a connection, replace at once."""

    id = "7.3"
    title = "Buy only what changed"
    answer = "ingest"
    minutes = 20
    points = 3
    level = "senior"
    hints: ClassVar = (
        "Three steps: what is there, what is missing, and the exchange. Which of them need a connection?",
        "A dict from text to vector, read from the earlier version, says what need not be bought. "
        "`dict.fromkeys(chunks)` has each text once, in order.",
        "In the last transaction lock the document's row first, then delete all its passages and insert all of them. "
        "To move rows that are there meets the unique key of document and position, and what others do meanwhile.",
        "`on_conflict_do_update` makes or finds the document, and locks its row in either case.",
    )
    why = (
        "Passages are known by their text, not by their place: a sentence more at the top moves all of them and "
        "changes one. Vectors that were read stay true whatever happens to the rows, so nothing has to be locked while "
        "the model works. And to delete and insert everything is simpler than to move rows: the rows are cheap, the "
        "vectors are not."
    )
    follow_up = (
        "Two users upload the same manual, and it is bought twice. What could they share without either learning that "
        "the other has it?"
    )
    mistakes: ClassVar = {
        "not an id": "`ingest` returned {said}, and that is not the id of the user's document from `source`. "
        "| The document may be new, or there already: `RETURNING` gives its id in both cases.",
        "wrong document": "The document's {column} is {stored!r}. | `title` as given, 'ready', and NULL as the error.",
        "chunks missing": "`ingest` returned, and others see {count} of {n} passages. "
        "| Each text is a passage, equal ones too; a commit makes them last.",
        "left over": "The new version has {n} passages, and others see {count}. | Those of the old version go.",
        "wrong chunk": "Passage {index} has {column} {stored}, and that is not what belongs to text {index}. "
        "| Texts, positions from 0 and vectors belong together; a vector that was there is kept as it is.",
        "bought too much": "Of a version with {new} new text(s), {count} were sent to the model. "
        "| What the earlier version has a vector for need not be sent, wherever it stands; equal texts are sent once.",
        "asked for nothing": "Nothing was new, and {count} request(s) reached the model. "
        "| Where nothing is missing there is nothing to ask.",
        "too many requests": "{count} requests reached the model for {new} new texts. | One request takes a list.",
        "vector of another": "A text that the earlier version had no vector of this model for was not sent to the "
        "model. "
        "| The user, the source and the model's name belong into the WHERE.",
        "connection held": "While the model was at work, {count} connection(s) were held. "
        "| End the session before you call the model, and open another one after it.",
        "gap": "While the model was at work, others saw {count} of the {n} passages of the earlier version. "
        "| It stays until the new one can take its place.",
        "several transactions": "The passages were exchanged in {count} transactions, and between them others saw a "
        "part. "
        "| One transaction for all that belongs together.",
        "old version lost": "The model failed, and of the earlier version {count} of {n} passages are left as they "
        "were. "
        "| Change nothing before all vectors are there.",
        "state lost": "The model failed, and the document's {column} is {stored!r} now. "
        "| The earlier version stays as it was, its title and its status too.",
        "error swallowed": "The model failed, and `ingest` returned {said}. | The caller has to know.",
        "another error": "The model failed with {error}, and out of `ingest` came {raised}. | Let it out as it is.",
        "overtaken": "While the model was at work another process stored another version; after that {what}. "
        "| What was there before may be gone: the last transaction deletes what it finds, and inserts all.",
        "failed at once": "Two calls at the same moment, for a document that {was}: one raised {error}. "
        "| Let the second one wait for the first: lock the document's row before you change its passages.",
        "mixed versions": "Two calls at the same moment, of {first} and of {second} texts, left {count} passages that "
        "are neither the one version nor the other. "
        "| Lock the document's row before you delete.",
        "locked in this process": "While one call had not committed yet, another one waited for something that is no "
        "lock of the database. "
        "| The service runs in several processes, and Python's locks are known to one of them.",
        "other documents": "Other documents, or their passages, were changed. | The document's id belongs into every "
        "WHERE.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(WITNESS)
        shelf = await Shelf.empty(attempt)
        texts = some_texts(9)
        texts[6] = texts[2]
        await self._stores(attempt, shelf, texts, {}, 8)
        await add_double(attempt, shelf.where["user"])
        elsewhere = some_texts(3)
        source = shelf.where["source"]
        # one of them is called the same in capitals, and one is what the name means as a pattern
        for text, name in zip(elsewhere, ("", source.upper(), source.replace("_%", "-of-old")), strict=True):
            await Shelf.beside(attempt, shelf, [text], name)
        others = await self._others(attempt, shelf)
        known: Vectors = await shelf.revalue(texts)
        await attempt.sql("UPDATE documents SET status = 'failed', error = 'it''s late' WHERE user_id = :user "
                          "AND source = :source", **shelf.where)  # fmt: skip
        await self._stores(attempt, shelf, texts, known, 0)
        edited = [*some_texts(2), *texts[5:], texts[1], texts[0]]
        await self._stores(attempt, shelf, edited, known, 2)
        await self._fails(attempt, shelf, [*some_texts(3), *edited[2:5]])
        # the one text only a stranger has now, and the others other documents of this user
        await self._stores(attempt, shelf, [texts[3], *elsewhere], {}, 4)
        attempt.expect(await self._others(attempt, shelf) == others, "other documents")
        await self._stores(attempt, shelf, [], {}, 0)
        await self._elsewhere(attempt, shelf)
        await self._two_at_once(attempt, await Shelf.empty(attempt), "is new")
        await self._two_at_once(attempt, shelf, "was there")

    async def _others(self, attempt: Attempt, shelf: Shelf) -> tuple[str, str]:
        id = (await shelf.document() or {}).get("id")
        return await other_rows(attempt, "documents", "id", id), await other_rows(
            attempt, "document_chunks", "document_id", id
        )

    async def _call(self, attempt: Attempt, shelf: Shelf, model: Model, title: str, texts: list[str]) -> Any:
        user, source = shelf.where["user"], shelf.where["source"]
        return await attempt.call(sessions_of(attempt), model.client, user, source, title, list(texts))

    async def _stores(self, attempt: Attempt, shelf: Shelf, texts: list[str], known: Vectors, new: int) -> None:
        await attempt.sql("TRUNCATE judge.writers")
        before = await shelf.chunks()
        seen: list[int] = []

        async def look(_: Request) -> None:
            seen.append(len(await shelf.chunks()))

        model = Model(attempt, look)
        title = some_texts(1)[0]
        said = await self._call(attempt, shelf, model, title, texts)
        self._look_at_bill(attempt, model, new)
        attempt.expect(all(count == len(before) for count in seen), "gap", n=len(before), count=min(seen, default=0))
        await self._compare(attempt, shelf, rows_for(texts, known))
        document = await shelf.document() or {}
        id = document.get("id")
        attempt.expect(isinstance(said, UUID) and said == id, "not an id", said=article(said))
        for column, value in {"title": title, "status": "ready", "error": None}.items():
            attempt.expect(document[column] == value, "wrong document", column=column, stored=document[column])
        writers = await attempt.value(WRITERS, id=id)
        attempt.expect(writers <= 1, "several transactions", count=writers)

    def _look_at_bill(self, attempt: Attempt, model: Model, new: int) -> None:
        count = len(model.inputs)
        attempt.expect(count >= new, "vector of another")
        attempt.expect(count == new, "bought too much", new=new, count=count)
        requests = len(model.requests)
        attempt.expect(requests == 0 or new > 0, "asked for nothing", count=requests)
        attempt.expect(requests <= 1, "too many requests", count=requests, new=new)
        attempt.expect(model.held == 0, "connection held", count=model.held)

    async def _compare(self, attempt: Attempt, shelf: Shelf, wanted: list[dict[str, Any]]) -> None:
        after = await shelf.chunks()
        attempt.expect(len(after) >= len(wanted), "chunks missing", n=len(wanted), count=len(after))
        attempt.expect(len(after) <= len(wanted), "left over", n=len(wanted), count=len(after))
        for index, (stored, right) in enumerate(zip(after, wanted, strict=True)):
            for column, value in right.items():
                shown = repr(str(stored[column])[:30])
                attempt.expect(stored[column] == value, "wrong chunk", index=index, column=column, stored=shown)

    async def _fails(self, attempt: Attempt, shelf: Shelf, texts: list[str]) -> None:
        async def refuse(_: Request) -> httpx2.Response:
            return refusal(FAILURE, "It's late.")

        before, document = await shelf.chunks(), await shelf.document() or {}
        model = Model(attempt, refuse)
        said, error = None, None
        try:
            said = await self._call(attempt, shelf, model, "Another title", texts)
        except Wrong as wrong:
            if wrong.mistake != "raised" or not model.requests:
                raise
            error = wrong.__cause__
        attempt.expect(bool(model.requests), "vector of another")
        after = await shelf.chunks()
        kept = sum(row in after for row in before)
        attempt.expect(kept == len(before), "old version lost", count=kept, n=len(before))
        for column, value in (await shelf.document() or {}).items():
            attempt.expect(document[column] == value, "state lost", column=column, stored=value)
        attempt.expect(error is not None, "error swallowed", said=article(said))
        right = kind_of(error) == "InternalServerError"
        attempt.expect(right, "another error", error="an InternalServerError", raised=article(error))

    async def _elsewhere(self, attempt: Attempt, shelf: Shelf) -> None:
        """Vectors of another model are there, and while the model is asked, another version takes their place."""
        texts = some_texts(6)
        known = await shelf.replace(texts[:4])
        await attempt.sql(
            "UPDATE document_chunks AS c SET embedding_model = :model FROM documents AS d WHERE d.id = c.document_id "
            "AND d.user_id = :user AND d.source = :source AND c.content = :text",
            model=OTHER_MODEL, text=texts[3], **shelf.where,
        )  # fmt: skip

        async def overtake(_: Request) -> None:
            await shelf.replace([texts[1], *some_texts(2)])

        model = Model(attempt, overtake, looks=False)
        with calling_it(attempt, "overtaken", what="it raised an error"):
            await self._call(attempt, shelf, model, "Handbook", texts)
        self._look_at_bill(attempt, model, 3)
        wanted = rows_for(texts, {text: known[text] for text in texts[:3]})
        after = await shelf.chunks()
        right = sum(row in wanted for row in after)
        what = f"others see {len(after)} passages, {right} of them of this call's {len(wanted)}"
        attempt.expect(after == wanted, "overtaken", what=what)

    async def _two_at_once(self, attempt: Attempt, shelf: Shelf, was: str) -> None:
        model = Model(attempt, looks=False)
        kept = [row["content"] for row in await shelf.chunks()]
        known = {row["content"]: row["embedding"] for row in await shelf.chunks()}
        versions = [some_texts(7) + kept[:3], kept[2:] + some_texts(4)]
        where = shelf.where["user"], shelf.where["source"]
        with calling_it(attempt, "failed at once", was=was):
            calls = [(model.client, *where, "Handbook", texts) for texts in versions]
            in_the_database, _ = await in_turns(attempt, *calls)
        after = await shelf.chunks()
        whole = after in [rows_for(texts, known) for texts in versions]
        first, second = map(len, versions)
        attempt.expect(whole, "mixed versions", first=first, second=second, count=len(after))
        attempt.expect(in_the_database, "locked in this process")
