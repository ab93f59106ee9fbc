"""10.3: an outbox that brings a second store to agree, whatever fails on the way."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from course_lib.exercises.lesson_10.scenes.carrying import agree, carry, drain, play, storm
from course_lib.exercises.lesson_10.scenes.meanwhile import changed_meanwhile, one_amid_another, two_at_once
from course_lib.exercises.lesson_10.scenes.second_copies import Stage
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import quoted
from course_lib.judging.staging import add_user

REFUSALS = 8  # rounds in which one document is refused
ASIDE = 5  # documents behind it
SOON = 20  # seconds, of half a minute and what has passed since


class TwoStores(Exercise):
    """An entry with the change, the newest state carried under a lock, and nothing deleted that was not carried."""

    id = "10.3"
    title = "Until both stores agree"
    answer = "Outbox"
    minutes = 30
    points = 3
    level = "senior"
    seconds = 60.0  # some four hundred transactions, on a machine that may be busy
    hints: ClassVar = (
        "An entry says that a document has changed, not how. What has to be in the store is what PostgreSQL has when "
        "the worker looks: a document that was deleted and added again needs no special case then.",
        "Three things in this order: lock the document against other workers, note the ids of its entries, read its "
        "passages. After the store has answered, delete the entries with these ids, and no others.",
        "A lock on an entry is no lock on its document: the next change brings another entry. "
        "`pg_try_advisory_xact_lock` takes a number, such as `hashtextextended(document_id::text, 0)`, waits for "
        "nobody and is given back with the transaction, by a dead worker too. Where it says no, take the next one.",
        "The failure has to be noted where the lock is still held: catch StoreFailed inside the transaction, UPDATE "
        "the entry and let it commit.",
    )
    why = (
        "The entry is committed with the change, so neither exists without the other; the store is called after that, "
        "at least once, by calls that may be repeated. State is read when it is carried, so the order of entries does "
        "not matter and old ones do no harm. What is left to get wrong is time: two workers at one document, and a "
        "change that comes while the store works. A lock by document answers the first, deleting by id the second."
    )
    follow_up = (
        "The advisory lock lasts as long as the worker's connection. The connection breaks while the store works, and "
        "another worker takes the document: what can the store hold in the end, and what would it have to offer to "
        "rule that out?"
    )
    mistakes: ClassVar = {
        "method missing": "`Outbox` has no method `{method}`. | Two are asked for: `enqueue` and `carry`.",
        "not in the transaction": "{when}, others see {count} entries for the document. "
        "| `enqueue` adds a row through the session that it is given, and leaves the rest to its caller.",
        "not enqueued": "A change was committed after `enqueue`, and others see no entry for its document. "
        "| Every call leaves an entry, whatever is there already: who carries the other one may have looked before.",
        "store called": "`enqueue` called the store {count} times. "
        "| That is for `carry`, once the change is committed.",
        "not a bool": "`carry` returned {kind}, and True or False was asked for. | True when it took a document.",
        "connection held": "`carry` had returned, and {count} connection(s) were still out of the pool. "
        "| Open sessions with `async with`.",
        "not carried": "{what}: after `carry`, of the copied passages {difference}. "
        "| The store has to hold what others see in PostgreSQL, and nothing else of this document.",
        "not drained": "The stores agree, and {count} entries of the document are still there. "
        "| Entries whose changes were carried are deleted, and that is committed.",
        "nothing to do": "With nothing to be taken, `carry` {did}. "
        "| An entry waits until `run_after` by the server's clock.",
        "failure came out": "A call of the store failed, and `carry` raised it. "
        "| A worker goes on with other documents: note the failure in the entry.",
        "lost at a failure": "A call of the store failed {when} it was applied, and the document's entry is gone. "
        "| Nobody knows whether it was applied: it is carried again.",
        "not noted": "A call of the store failed, and its entry, tried once, has {attempts} attempts, error {error}, "
        "and is due {due}. | One more attempt, the failure's text, and a `run_after` half a minute from now or more.",
        "lost at a kill": "A worker was cancelled while the store worked; later on {difference}, with {left} entries "
        "left. | Entries are deleted once the store has answered, and what a dead worker had is free at once.",
        "writer waits": "While a worker waited for the store, a change of the same document waited for the worker. "
        "| The product must not become as slow as the store: lock nothing that `enqueue` or a change needs.",
        "lost meanwhile": "A change was committed with its entry while the store worked{how}; later on {difference}, "
        "with {left} entries left. "
        "| Delete the entries that were there before the passages were read, by their ids.",
        "waits": "While one worker waited for the store, another one waited for that worker. "
        "| There are other documents: skip what another one has in hand.",
        "stopped": "While one worker waited for the store, another one was asked {count} times to carry other "
        "documents, and one that was due is not carried. | Skip what another one has in hand, and look further.",
        "older over newer": "Two workers had entries of one document, the one with the older passages came to its end "
        "last, and later on {difference}, with {left} entries left. "
        "| A lock on one entry does not keep others from the next one: lock the document, and then read its passages.",
        "between two statements": "A worker stood after {statements} statements, the document was changed with "
        "an entry, another worker came, and then the first one went on; later on {difference}, with {left} entries "
        "left. | What is read before the lock, or before the entries, is old by the time it is carried.",
        "stuck": "One document is refused by the store again and again, and of {count} others behind it {difference}. "
        "| Whatever has failed comes again after the others: that is what `run_after` is for.",
        "given up": "One document was refused {rounds} times, then the store took it again; {difference}, with {left} "
        "entries left. | An entry stays until it is carried, however long that takes.",
        "strangers": "The store holds {count} documents that nobody has enqueued. "
        "| Carry the document of an entry, not every document.",
        "passages changed": "Rows of `documents` or `document_chunks` changed while entries were carried. "
        "| PostgreSQL is right, and the store follows.",
        "never agreed": "After {changes} changes with two workers at once, failures, cancelled workers and an outage, "
        "and six quiet rounds after that, {difference}, with {left} entries left. "
        "| Go through a step line by line: what if the worker dies here, or a change is committed here?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            stage = Stage(attempt, Path(folder), await add_user(attempt))
            try:
                await stage.open()
                await self._scenes(attempt, stage)
            finally:
                stage.let_go()
                stage.close()

    async def _scenes(self, attempt: Attempt, stage: Stage) -> None:
        await self._enqueues(attempt, stage)
        await self._carries(attempt, stage)
        await self._nothing_to_do(attempt, stage)
        for after in (False, True):
            for number in (1, 2):
                await self._fails(attempt, stage, number, after)
        for after in (False, True):
            for number in (1, 2):
                await self._is_killed(attempt, stage, number, after)
        for number in (1, 2):
            for early in (False, True):
                await changed_meanwhile(stage, number, early)
        for number in (1, 2):
            for early in (False, True):
                await two_at_once(stage, number, early)
        await one_amid_another(stage)
        await self._refused(attempt, stage)
        await storm(stage)

    async def _enqueues(self, attempt: Attempt, stage: Stage) -> None:
        id = stage.new_document()
        for commits in (False, True):
            async with attempt.session() as session:
                await stage.change(session, "replace", id, 3)
                await attempt.call(session, id, function=stage.boxes[0].enqueue)
                attempt.expect(stage.calls == 0, "store called", count=stage.calls)
                seen = len(await stage.entries())
                attempt.expect(seen == 0, "not in the transaction", when="Before the change is committed", count=seen)
                await (session.commit() if commits else session.rollback())
            seen = len(await stage.entries(id))
            if not commits:
                attempt.expect(seen == 0, "not in the transaction", when="After the change was rolled back", count=seen)
        attempt.expect(seen > 0, "not enqueued")

    async def _carries(self, attempt: Attempt, stage: Stage) -> None:
        """New, with fewer passages and others, deleted, deleted and added again, and twice before anybody looks."""
        (id,) = stage.documents
        steps: list[tuple[str, list[tuple[Any, ...]]]] = [
            ("A new document", []),
            ("Other passages, fewer than before", [("replace", 2)]),
            ("One passage changed", [("change",)]),
            ("No passage left", [("replace", 0)]),
            ("Passages again", [("replace", 5)]),
            ("Deleted", [("delete",)]),
            ("Added again with the same id", [("replace", 3)]),
            ("Deleted and added again before a worker came", [("delete",), ("replace", 2)]),
            ("Added and deleted before a worker came", [("replace", 4), ("delete",)]),
        ]
        for what, changes in steps:
            for how, *arguments in changes:
                before = {row.id for row in await stage.entries(id)}
                await stage.commit(how, id, *arguments)
                new = {row.id for row in await stage.entries(id)} - before
                attempt.expect(bool(new), "not enqueued")
            await self._carried(attempt, stage, what, id)

    async def _carried(self, attempt: Attempt, stage: Stage, what: str, id: UUID) -> None:
        before = await stage.fingerprint()
        steps = await drain(stage)
        difference = await stage.difference([id])
        attempt.expect(await stage.fingerprint() == before, "passages changed")
        strangers = await stage.strangers()
        attempt.expect(strangers == 0, "strangers", count=strangers)
        attempt.expect(not difference, "not carried", what=what, difference=difference)
        left = len(await stage.entries(id))
        attempt.expect(left == 0, "not drained", count=left)
        attempt.expect(steps > 0, "nothing to do", did="returned False, after it had carried something")

    async def _nothing_to_do(self, attempt: Attempt, stage: Stage) -> None:
        id = await stage.add()
        await attempt.sql("UPDATE outbox SET run_after = now() + interval '1 hour', attempts = 3, error = 'before'")
        before, calls = await stage.entries(id), stage.calls
        said = await carry(stage)
        attempt.expect(stage.calls == calls, "nothing to do", did="called the store")
        attempt.expect(said is False, "nothing to do", did=f"returned {quoted(said)}")
        after = await stage.entries(id)
        same = [row[:3] for row in before] == [row[:3] for row in after]
        attempt.expect(same, "nothing to do", did="changed an entry")
        await agree(stage, "not carried", what="An entry whose time had come")

    async def _fails(self, attempt: Attempt, stage: Stage, number: int, after: bool) -> None:
        id = await stage.add()
        await drain(stage)
        await stage.commit("replace", id, 3)
        stage.fails = (number, after)
        said = await carry(stage)
        if stage.fails is not None:  # so many calls it does not need
            stage.fails = None
            return
        entries = await stage.entries(id)
        attempt.expect(bool(entries), "lost at a failure", when="after" if after else "before")
        noted = [row for row in entries if row.attempts == 1 and row.error and row.due > SOON]
        if not noted:
            row = max(entries, key=lambda row: row.attempts)
            due = "at once" if row.due <= 0 else f"in {row.due:.0f} s"
            raise attempt.wrong("not noted", attempts=row.attempts, error=quoted(row.error), due=due)
        attempt.expect(said is True, "nothing to do", did="returned False, when it had tried an entry in vain")
        await agree(stage, "not carried", what="After a failure")

    async def _is_killed(self, attempt: Attempt, stage: Stage, number: int, after: bool) -> None:
        id = await stage.add()
        hang = stage.hang(id, number, after)

        async def scene() -> None:
            running = asyncio.ensure_future(stage.boxes[0].carry())
            await first_of(running, hang.begun)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        await play(stage, scene)
        stage.let_go()
        await drain(stage, 1)  # without a word about time: what the dead worker had is free
        difference, left = await stage.difference(), len(await stage.entries())
        said = f"of the copied passages {difference}" if difference else "the stores agree"
        attempt.expect(not difference and not left, "lost at a kill", difference=said, left=left)

    async def _refused(self, attempt: Attempt, stage: Stage) -> None:
        poison = await stage.add()
        stage.refused.add(poison)
        others = [await stage.add() for _ in range(ASIDE)]
        await drain(stage)
        difference = await stage.difference(others)
        attempt.expect(not difference, "stuck", count=ASIDE, difference=difference)
        for _ in range(REFUSALS):
            await stage.make_due()
            await carry(stage)
        stage.refused.clear()
        await agree(stage, "given up", rounds=REFUSALS)
