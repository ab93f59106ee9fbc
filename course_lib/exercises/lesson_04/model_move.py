"""4.9: from one embedding model to the next, while people search and write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from secrets import randbelow, token_hex
from typing import Any, ClassVar

from course_lib.exercises.lesson_04.scenes.stored_passages import K, Passages, new_texts
from course_lib.exercises.lesson_04.two_models import CREATE, EmbeddingFailed, Model, cosine_distance
from course_lib.judging.asking import is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, NotAttempted, Wrong
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows

METHODS = ("store", "backfill", "switch", "search")
BATCH = 8
BATCHES = 10  # and a part of one: more than the failure leaves to an answer that stops after some
NEAR = 1e-3  # vectors are stored in four bytes a number
ROWS = "SELECT id, content, embedding_next IS NULL AS waits FROM passages ORDER BY id"
COUNT = "SELECT count(*) FROM passages"
WAITING = f"{COUNT} WHERE embedding_next IS NULL"
FILLED = f"{COUNT} WHERE embedding_next IS NOT NULL"
DONE = "SELECT content FROM passages WHERE embedding_next IS NOT NULL"


class ModelMove(Exercise):
    """Write both, fill in batches, switch once, search by one."""

    id = "4.9"
    title = "A new embedding model while searches go on"
    answer = "ModelMove"
    recipe = "empty"
    seconds = 15.0
    minutes = 25
    points = 3
    level = "senior"
    hints: ClassVar = (
        "Four steps, in this order: new passages get both vectors; the old ones get their second vector in batches; "
        "when none is without, one row in `search_model` changes; searches look at that row each time.",
        "`backfill` in a loop: a session reads up to `batch` passages whose `embedding_next` is NULL and is closed; "
        "the model is asked; another session writes the vectors and commits. What is written is not read again.",
        "`search` reads `current` first, and that decides both: which model embeds the question, and which column it "
        "is compared with. One without the other finds nonsense, and no error says so.",
        "`switch` counts passages without a second vector. If there is one: False, and nothing changes.",
    )
    why = (
        "Vectors of two models share no space: comparing them is no error, it is noise. So there is never a search "
        "over both; there are two columns, and one row that says which is in use, for all processes at the same "
        "moment. Writers fill both columns before the backfill starts, or it never ends. Each batch is a short "
        "transaction, with none open while the model is asked, so it may fail anywhere and go on from there."
    )
    follow_up = (
        "The new column needs an HNSW index before the switch. How do you build it without stopping writers, how "
        "would you compare the two models on real questions before switching, and when is the old column dropped?"
    )
    mistakes: ClassVar = {
        "method missing": "`ModelMove` has no `{method}`. | It has four: `store`, `backfill`, `switch`, `search`.",
        "not a list": "`search` returned {kind}, and a list of ids was asked for. | `(await session.scalars(…)).all()`",
        "nothing returned": "`search` returned None. | Did you forget `return`?",
        "not a bool": "`switch` returned {kind}, and True or False was asked for. "
        "| True when it has switched, False when passages are still waiting.",
        "not stored": "After `store` and the caller's commit there are {count} passages, and {wanted} were stored. "
        "| One row for each text; the commit is the caller's.",
        "connection held": "While the model was asked in `{method}`, {count} connection(s) were out of the pool. "
        "| Close the session before you ask, and open one afterwards.",
        "batch too large": "The model was asked for {count} texts at once, with batch={batch}. | `limit(batch)`.",
        "nothing kept": "When `backfill` had asked for {count} vectors and wanted more, others could see none of them. "
        "| Commit each batch before the next is begun.",
        "starts over": "The model failed, `backfill` was called again, and {count} texts that had their vector were "
        "embedded once more. | Ask for those that are without one.",
        "left behind": "`backfill` came to its end, and {count} passages have no second vector. "
        "| Some came while it ran. When is it at its end?",
        "other vectors": "{count} passages have a second vector that is not what the next model gives for their text. "
        "| Do the vectors go to the rows that their texts came from?",
        "switched too early": "`switch` said True while {count} passages had no second vector. "
        "| Whoever searches by the new vectors does not find those.",
        "never switches": "`switch` said False although no passage was waiting. | What do you count?",
        "stored with one vector": "A passage that was stored after the backfill has no second vector, so `switch` "
        "said False. | From the beginning of the move, `store` writes both.",
        "mixed": "{when}, `search` compared vectors of two models. "
        "| The question and the column have to be of the same model, in every row.",
        "missing": "{when}, `search` did not find passages that have no second vector yet. "
        "| Until the switch, everybody searches by the old vectors.",
        "not by the row": "{when}, `search` goes by the new vectors. "
        "| All passages have them by now, and still it is the row in `search_model` that says which are in use.",
        "still old": "After the switch, `search` goes by the old vectors. | Where does it learn that things changed?",
        "remembered": "After the switch, the program that switched searches by the new vectors, and another one by the "
        "old. | What decides has to be read from the database, each time.",
        "wrong passages": "{when}, {count} passages came, and {right} of them are among the nearest {n}. "
        "| By `cosine_distance`, nearest first, `limit(k)`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        for statement in CREATE:
            await attempt.sql(statement)
        await _Move(attempt).run()


class _Move:
    """One move from beginning to end, seen by two programs that run the same code."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.old, self.next = Model(token_hex(4)), Model(token_hex(4))
        self.switched = False
        self.method = ""
        self.asked_for = 0  # texts, since `backfill` was called
        self.looked = self.failed = False
        self.problem: Wrong | None = None  # found while the answer was running

    async def run(self) -> None:
        self.old.before, self.next.before = self._watch_old, self._watch_next
        self.one, self.other = await self._program(), await self._program()
        texts = new_texts(BATCHES * BATCH + 1 + randbelow(BATCH - 1))
        await add_rows(self.attempt, "passages", [{"content": t, "embedding": str(self.old.vector(t))} for t in texts])
        await self._search("Before the move", self.one)
        await self._switch(self.one)
        await self._backfill()
        await self._search("Before the switch", self.other)
        await self._store(self.one, 1)
        await self._switch(self.one)
        await self._store(self.other, 2)
        await self._search("After the switch", self.one)
        try:
            await self._search("After the switch", self.other)
        except Wrong as wrong:
            raise self.attempt.wrong("remembered") if wrong.mistake == "still old" else wrong from None

    async def _program(self) -> Any:
        program = await self.attempt.call(self.old, self.next)
        for method in METHODS:
            self.attempt.expect(callable(getattr(program, method, None)), "method missing", method=method)
        return program

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

    async def _watch_next(self, texts: Sequence[str]) -> None:
        await self._watch_old(texts)
        if self.method != "backfill":
            return
        self._expect(len(texts) <= BATCH, "batch too large", count=len(texts), batch=BATCH)
        before, self.asked_for = self.asked_for, self.asked_for + len(texts)
        if before >= BATCH:
            kept = await self.attempt.value(FILLED)
            self._expect(kept > 0, "nothing kept", count=before)
            await self._look_around()
        if before >= 2 * BATCH and not self.failed:
            self.failed = True
            raise EmbeddingFailed("the service did not answer")

    async def _look_around(self) -> None:
        """What everybody else does while a backfill is under way."""
        if not self.looked:
            self.looked = True
            await self._search("During the backfill", self.other)
            await self._switch(self.other)
            await self._store(self.other, 3)
            await self._search("During the backfill", self.one)

    async def _backfill(self) -> None:
        for _ in range(2):
            self.asked_for, began = 0, len(self.next.embedded)
            done = set((await self.attempt.sql(DONE)).column("content"))
            try:
                await self._call(self.one, "backfill", sessions_of(self.attempt), BATCH)
            except Wrong as wrong:
                if not isinstance(wrong.__cause__, EmbeddingFailed):
                    raise
            if not self.failed:
                break  # it has come to its end, and nothing stood in its way
        again = sum(text in done for text in self.next.embedded[began:])
        self.attempt.expect(not again, "starts over", count=again)
        waiting = await self.attempt.value(WAITING)
        self.attempt.expect(not waiting, "left behind", count=waiting)
        rows = await self.attempt.sql("SELECT content, embedding_next::text FROM passages")
        other = [text for text, vector in rows if cosine_distance(self.next.vector(text), json.loads(vector)) > NEAR]
        self.attempt.expect(not other, "other vectors", count=len(other))

    async def _store(self, program: Any, count: int) -> None:
        before = await self.attempt.value(COUNT)
        async with self.attempt.session() as session:
            await self._call(program, "store", session, new_texts(count))
            await session.commit()
        stored = await self.attempt.value(COUNT) - before
        self._expect(stored == count, "not stored", count=stored, wanted=count)

    async def _switch(self, program: Any) -> None:
        waiting = await self.attempt.value(WAITING)
        async with self.attempt.session() as session:
            said = await self._call(program, "switch", session)
            await session.commit()
        self._expect(isinstance(said, bool), "not a bool", kind=article(said))
        self._expect(not (said and waiting), "switched too early", count=waiting)
        if self.looked and self.method == "":
            self._expect(said or not waiting, "stored with one vector")
            self._expect(said, "never switches")
        self.switched = said

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
        wanted = by_next if self.switched else by_old
        if found == wanted:
            return
        self._expect(found != by_next, "missing" if rows.some_wait else "not by the row", when=when)
        self._expect(found != by_old, "still old")
        self._expect(found not in rows.mixtures(question), "mixed", when=when)
        self._expect(False, "wrong passages", when=when, count=len(found), right=len(set(found) & set(wanted)), n=K)
