"""4.9 from beginning to end: people search, write and switch while the vectors are filled in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from secrets import randbelow, token_hex
from typing import Any

from course_lib.exercises.lesson_04.scenes.callers import BEGUN
from course_lib.exercises.lesson_04.scenes.stored_passages import K, Passages, new_texts
from course_lib.exercises.lesson_04.two_models import EmbeddingFailed, Model, cosine_distance
from course_lib.judging.asking import is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import NotAttempted, Wrong
from course_lib.judging.methods import look_for_methods
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.rising import expect_methods_to_raise
from course_lib.judging.staging import add_rows

METHODS = ("store", "backfill", "switch", "search")
BATCH = 8
BATCHES = 10  # and a part of one: more than the failure leaves to an answer that stops after some
NO_ANSWER = "the service did not answer"
NEAR = 1e-3  # vectors are stored in four bytes a number
ROWS = "SELECT id, content, embedding_next IS NULL AS waits FROM passages ORDER BY id"
COUNT = "SELECT count(*) FROM passages"
WAITING = f"{COUNT} WHERE embedding_next IS NULL"
FILLED = f"{COUNT} WHERE embedding_next IS NOT NULL"
DONE = "SELECT content FROM passages WHERE embedding_next IS NOT NULL"
DRAW = "SELECT nextval(pg_get_serial_sequence('passages', 'id'))"
ADD_LATE = """
    INSERT INTO passages (id, content, embedding) OVERRIDING SYSTEM VALUE
    VALUES (:id, :content, CAST(:vector AS vector))
"""
OLD_VECTORS = "SELECT content, embedding::text FROM passages WHERE content = ANY(:texts)"


class Move:
    """One move from beginning to end, seen by two programs that run the same code."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.old, self.next = Model(token_hex(4)), Model(token_hex(4))
        self.switched = False
        self.method = ""
        self.batch = BATCH
        self.asked_for = 0  # texts, since `backfill` was called
        self.looked = self.failed = self.arrived = self.was_late = False
        self.to_switch = self.refused = False
        self.fails: Model | None = None
        self.problem: Wrong | None = None  # found while the answer was running

    async def run(self) -> None:
        self.old.before, self.next.before = self._watch_old, self._watch_next
        self.one, self.other = await self._program(), await self._program()
        self.drawn = await self.attempt.value(DRAW)  # by a transaction that has not committed yet
        texts = new_texts(BATCHES * BATCH + 1 + randbelow(BATCH - 2))  # and one more comes: the last batch is not full
        await self._add_old_ones(texts)
        await self._search("Before the move", self.one)
        await self._switch(self.one)
        await self._store(self.one, 1, keep=False)
        for model, which in ((self.old, "old"), (self.next, "next")):
            await self._store_in_vain(model, which)
        await self._backfill()
        await self._search("Before the switch", self.other)
        await self._add_old_ones(new_texts(1))  # by a program that has not been told of the move
        await self._switch(self.one)
        self.batch = 1
        await self._backfill()
        await self._store(self.one, 1)
        await self._switch(await self._program(), "to a program that had not filled in the vectors", keep=False)
        await self._search_while_it_switches()
        await self._store(self.other, 2)
        await self._search("After the switch", self.one)
        try:
            await self._search("After the switch", self.other)
        except Wrong as wrong:
            raise self.attempt.wrong("kept in memory") if wrong.mistake == "still old" else wrong from None
        await self._switch(self.other, "when everything had been switched already")
        async with self.attempt.session() as session:
            backfill, search = (sessions_of(self.attempt), BATCH), (session, *new_texts(1), K)
            await expect_methods_to_raise(self.attempt, self.one, backfill=backfill, switch=(session,), search=search)

    async def _program(self) -> Any:
        program = await self.attempt.call(self.old, self.next)
        look_for_methods(self.attempt, program, *METHODS)
        return program

    async def _add_old_ones(self, texts: list[str]) -> None:
        """Passages with one vector, as they were before the move."""
        rows = [{"content": text, "embedding": str(self.old.vector(text))} for text in texts]
        await add_rows(self.attempt, "passages", rows)

    async def _search_while_it_switches(self) -> None:
        """``other`` asks its model, and meanwhile ``one`` switches; either answer is right, a mixture is not."""
        self.to_switch = True
        await self._search("While somebody switched", self.other)
        if self.to_switch:  # it asked no model at all
            await self._switch_at_last()

    async def _switch_at_last(self) -> None:
        self.to_switch = False
        await self._switch(self.one, "when it was asked for the last time")

    # -- the answer at work --------------------------------------------------------------------------------

    async def _call(self, program: Any, method: str, *arguments: Any) -> Any:
        """Call a method, also while another one is at work and waits for a model."""
        outer, self.method = self.method, method
        try:
            if not outer:
                return await self.attempt.call(*arguments, function=getattr(program, method))
            return await getattr(program, method)(*arguments)
        except Wrong as wrong:
            raise self.problem or wrong from wrong.__cause__
        except NotAttempted:
            raise
        except Exception as error:
            self.problem = self.problem or self.attempt.raised(method, error)
            raise self.problem from error
        finally:
            self.method = outer
            if self.problem and not outer:
                raise self.problem

    def _expect(self, right: bool, mistake: str, /, **numbers: object) -> None:
        """As ``attempt.expect``, and an answer that catches every error does not hide it."""
        if not right:
            self.problem = self.problem or self.attempt.wrong(mistake, **numbers)
            raise self.problem

    async def _watch_old(self, texts: Sequence[str]) -> None:
        held = self.attempt.engine.pool.checkedout()  # type: ignore[attr-defined]
        if self.method in ("backfill", "store"):  # a question is embedded in no time
            self._expect(not held, "connection held", method=self.method, count=held)
        self._answer_as(self.old)
        if self.method == "search" and self.to_switch:
            await self._switch_at_last()

    def _answer_as(self, model: Model) -> None:
        if self.fails is model:
            self.refused = True
            raise EmbeddingFailed(NO_ANSWER)

    async def _watch_next(self, texts: Sequence[str]) -> None:
        await self._watch_old(texts)
        self._answer_as(self.next)
        if self.method != "backfill":
            return
        self._expect(len(texts) <= self.batch, "batch too large", count=len(texts), batch=self.batch)
        before, self.asked_for = self.asked_for, self.asked_for + len(texts)
        if before >= BATCH:
            kept = await self.attempt.value(FILLED)
            self._expect(kept > 0, "nothing kept", count=before)
            await self._look_around()
        if before >= 2 * BATCH and not self.failed:
            self.failed = True
            raise EmbeddingFailed(NO_ANSWER)
        if self.failed and before >= BATCH:
            await self._others_arrive(len(texts))

    async def _others_arrive(self, in_work: int) -> None:
        """One in the middle, and while the model has the last batch one whose number was drawn before all others."""
        if not self.arrived:
            self.arrived = True
            await self._add_old_ones(new_texts(1))
        elif not self.was_late and await self.attempt.value(WAITING) == in_work:
            self.was_late = True
            (text,) = new_texts(1)
            vector = str(self.old.vector(text))
            await self.attempt.sql(ADD_LATE, id=self.drawn, content=text, vector=vector)

    async def _look_around(self) -> None:
        """What everybody else does while a backfill is under way."""
        if not self.looked:
            self.looked = True
            await self._search("During the backfill", self.other)
            await self._switch(self.other)
            await self._store(self.other, 3)
            await self._search("During the backfill", self.one)

    async def _backfill(self) -> None:
        failed_before = self.failed
        for _ in range(2):
            self.asked_for, began = 0, len(self.next.embedded)
            done = set((await self.attempt.sql(DONE)).column("content"))
            try:
                await self._call(self.one, "backfill", sessions_of(self.attempt), self.batch)
            except Wrong as wrong:
                if not isinstance(wrong.__cause__, EmbeddingFailed):
                    raise
            if self.failed == failed_before:
                break  # it has come to its end, and nothing stood in its way
        asked = self.next.embedded[began:]
        twice = len(asked) - len(set(asked))
        self.attempt.expect(not twice, "asked twice", count=twice, method="backfill")
        again = sum(text in done for text in self.next.embedded[began:])
        self.attempt.expect(not again, "starts over", count=again)
        waiting = await self.attempt.value(WAITING)
        self.attempt.expect(not waiting, "left behind", count=waiting)
        rows = await self.attempt.sql("SELECT content, embedding_next::text FROM passages")
        other = [text for text, vector in rows if not _is_of(self.next, text, vector)]
        self.attempt.expect(not other, "other vectors", count=len(other))

    async def _store(self, program: Any, count: int, keep: bool = True) -> None:
        texts, before = new_texts(count), await self.attempt.value(COUNT)
        async with self.attempt.session() as session:
            await self._call(program, "store", session, texts)
            await (session.commit() if keep else session.rollback())
        stored = await self.attempt.value(COUNT) - before
        self._expect(keep or not stored, "commits itself", method="store")
        self._expect(not keep or stored == count, "not stored", count=stored, wanted=count)
        rows = await self.attempt.sql(OLD_VECTORS, texts=texts)
        other = [text for text, vector in rows if not _is_of(self.old, text, vector)]
        self._expect(not other, "stored otherwise", count=len(other))

    async def _store_in_vain(self, model: Model, which: str) -> None:
        """The model does not answer: whoever wants something stored has to hear of it."""
        self.fails, self.refused = model, False
        before = await self.attempt.value(COUNT)
        try:
            async with self.attempt.session() as session:
                await self._call(self.one, "store", session, new_texts(1))
                await session.commit()
        except Wrong as wrong:
            if not isinstance(wrong.__cause__, EmbeddingFailed):
                raise
            self.problem = None
        else:
            stored = await self.attempt.value(COUNT) - before
            self.attempt.expect(not self.refused, "no error", which=which, count=stored)
        self.fails = None

    async def _switch(self, program: Any, when: str = "", keep: bool = True) -> None:
        """``when``: it is to say True then. Without, it may say so only if no passage waits."""
        waiting = await self.attempt.value(WAITING)
        async with self.attempt.session() as session:
            begun = await session.scalar(BEGUN)
            said = await self._call(program, "switch", session)
            self._expect(await session.scalar(BEGUN) == begun, "ends it")
            await (session.commit() if keep else session.rollback())
        self._expect(isinstance(said, bool), "not a bool", kind=article(said))
        self._expect(not (said and waiting), "switched too early", count=waiting)
        if when:
            self._expect(said or not waiting, "stored with one vector")
            self._expect(said, "never switches", when=when)
        in_use = await self.attempt.value("SELECT current FROM search_model")
        self._expect(keep or self.switched or in_use == "old", "commits itself", method="switch")
        self._expect(said or self.switched or in_use == "old", "half switched")
        self.switched = self.switched or (said and keep)

    async def _search(self, when: str, program: Any) -> None:
        rows = Passages(self.old, self.next, await self.attempt.sql(ROWS))
        question = rows.telling_question()
        async with self.attempt.session() as session:
            found = await self._call(program, "search", session, question, K)
        self._expect(found is not None, "nothing returned")
        self._expect(is_list(found), "not a list", kind=article(found))
        odd = [article(id) for id in found if not isinstance(id, int)]
        self._expect(not odd, "not a list", kind=f"a list with {odd[0]}" if odd else "")
        self._compare(when, rows, question, list(found))

    def _compare(self, when: str, rows: Passages, question: str, found: list[int]) -> None:
        by_old, by_next = rows.by_old(question), rows.by_next(question)
        if when.startswith("While") and found in (by_old, by_next):
            return
        wanted = by_next if self.switched else by_old
        if found == wanted:
            return
        if not when.startswith("While"):
            self._tell_which(when, rows, found, by_old, by_next)
        self._expect(found not in rows.mixtures(question), "mixed", when=when)
        self._expect(False, "wrong passages", when=when, count=len(found), right=len(set(found) & set(wanted)), n=K)

    def _tell_which(self, when: str, rows: Passages, found: list[int], by_old: list[int], by_next: list[int]) -> None:
        self._expect(found != by_next, "missing" if rows.some_wait else "not by the row", when=when)
        self._expect(found != by_old, "still old")


def _is_of(model: Model, text: str, vector: str) -> bool:
    return cosine_distance(model.vector(text), json.loads(vector)) <= NEAR
