"""S5: vectors that belong to what a text was."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import shake_256
from typing import Any, ClassVar, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from course_lib.judging.asking import NOT_AVAILABLE, calling_it, together, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill
from course_lib.judging.moments import first_of
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.trouble import sqlstate_of
from course_lib.models.documents import DIMENSIONS

MODEL, OLD, EDITED = "embed-2", "embed-1", "edited"
MODELS = (OLD, OLD, OLD, MODEL, EDITED, EDITED, OLD, OLD)
"""Who made the vector of each passage on stage; an edit marks what it has changed."""
WAIT = "SET LOCAL lock_timeout = '40ms'"  # only who waits for a lock is timed, however slow the machine
EDIT = "UPDATE document_chunks SET content = :content, token_count = 99, embedding_model = 'edited' WHERE id = :id"
REMOVE = "DELETE FROM document_chunks WHERE id = :id"
LOOK = """
    SELECT id, content, CAST(embedding AS text), embedding_model, token_count FROM document_chunks
    WHERE document_id = :id ORDER BY chunk_index
"""
OTHERS = """
    SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM document_chunks AS c WHERE document_id <> :id
"""


def vector_of(content: str) -> list[float]:
    """What the model makes of a text: numbers that are the same in single precision."""
    return [(byte - 128) / 128 for byte in shake_256(content.encode()).digest(DIMENSIONS)]


class Passage(NamedTuple):
    """A row as the judge and the editor have left it."""

    id: UUID
    content: str
    model: str
    edited: bool = False


class Row(NamedTuple):
    """What stands in the table."""

    content: str
    vector: list[float]
    model: str
    tokens: int


@dataclass(frozen=True)
class Stage:
    """A document and its passages in order; ``others`` is a fingerprint of all other passages."""

    id: UUID
    passages: list[Passage]
    others: str

    def after(self, edits: Mapping[UUID, str | None]) -> Stage:
        """With these edits in it."""
        left = [
            p._replace(content=edits[p.id] or "", model=EDITED, edited=True) if p.id in edits else p
            for p in self.passages
            if edits.get(p.id, "") is not None
        ]
        return replace(self, passages=left)


@dataclass
class Editor:
    """Somebody who works on passages while the model is busy with their texts.

    Attributes:
        edits: passages, and the text that each is given; None to delete it.
        slowly: commits only when somebody stands at the row, or the whole call is over.
        waited: whether a lock was in the way.
    """

    attempt: Attempt
    edits: dict[UUID, str | None]
    slowly: bool = False
    waited: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_commit: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self) -> None:
        """Edit, and commit; not at once, if it is done slowly."""
        try:
            async with self.attempt.judge_session() as session:
                await session.execute(text(WAIT))
                for id, content in self.edits.items():
                    values = {"id": id} if content is None else {"id": id, "content": content}
                    await session.execute(text(REMOVE if content is None else EDIT), values)
                self.begun.set()
                if self.slowly:
                    await self.may_commit.wait()
                await session.commit()
        except DBAPIError as error:
            if sqlstate_of(error) != NOT_AVAILABLE:
                raise
            self.waited = True
        finally:
            self.begun.set()


class Model:
    """The embedding model: a vector for each text.

    Attributes:
        given: all texts that it was given.
    """

    def __init__(self, editor: Editor | None = None, texts: Sequence[str] = ()) -> None:
        self.given: list[str] = []
        self.editing: asyncio.Future[None] | None = None
        self._editor, self._texts = editor, set(texts)

    async def __call__(self, texts: Any) -> list[list[float]]:
        given = list(texts)
        self.given += given
        if self._editor and not self.editing and self._texts & set(given):
            self.editing = asyncio.ensure_future(self._editor.work())
            await (self._editor.begun.wait() if self._editor.slowly else asyncio.wait({self.editing}))
        return [vector_of(content) for content in given]


class NewVectors(Drill):
    """What was computed from a text is stored only where that text still stands."""

    id = "S5"
    title = "Found under the old words"
    answer = "reembed"
    minutes = 12
    points = 3
    level = "senior"
    topics: ClassVar = ("embeddings", "concurrency", "queues")
    faults: ClassVar = ("stale", "wrong count")
    hints: ClassVar = (
        "Which moment do the texts come from, and which moment is it when their vectors are stored? Think of an edit "
        "between the two, and of what it says in `embedding_model`.",
        "The vector belongs to a text. How can the UPDATE itself ask whether the row still holds that text, so that "
        "nothing comes between looking and writing?",
        "`WHERE id = … AND content = …`, with the content that was sent to the model. Then what the UPDATE says of "
        "how many rows it met is the number to be returned.",
    )
    why = (
        "A vector is computed from a text of seconds ago, so it may be stored only where that text still stands. The "
        "condition belongs into the UPDATE: the server looks and writes in one step, and where it waits for an edit "
        "under way it looks again when that has committed. A row that was edited is not met, keeps its mark, and the "
        "next run comes by. Nothing is locked while the model works."
    )
    follow_up = (
        "The texts are long, and the condition sends each of them to the server again. What would you compare instead, "
        "and who keeps it up to date?"
    )
    mistakes: ClassVar = {
        "stale": "A passage was edited {when}, and now stands as done by {model} with a vector that is not of its "
        "text. | That is what was reported. Of which moment is the text that the vector was made of?",
        "vector lost": "{count} passage(s) that nobody had edited stand as done, with a vector that is not of their "
        "text. | Which vector belongs to which text?",
        "editor waits": "While the model was at work, somebody edited a passage and had to wait for a lock. "
        "| Nothing may be locked over the call of the model.",
        "edit lost": "A passage was edited meanwhile, and that edit is gone. "
        "| Only `embedding` and `embedding_model` are to be written.",
        "came back": "A passage was deleted meanwhile, and is there again. | An UPDATE makes no rows.",
        "edit hidden": "A passage that was edited meanwhile is no longer marked, and has no vector by {model}. "
        "| The mark is what brings the next run to it.",
        "not done": "{count} passages that nobody touched have no vector by {model}. "
        "| All that are marked with another model, whatever became of others.",
        "failed on an edit": "A passage was edited or deleted meanwhile, and `reembed` raised {error}. "
        "| That happens every day: the others are stored, and the call goes on.",
        "bought again": "{count} texts were sent to the model whose vectors it had made already. "
        "| `embedding_model` says so.",
        "nothing to do": "No passage had to be done, and the model was asked. | Look before you ask.",
        "wrong count": "`reembed` returned {said}, and {count} passages got the vector of the text that they have. "
        "| Those that were edited or deleted meanwhile got none.",
        "others changed": "Passages of other documents have changed. | Only those of this document.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await self._edited(attempt, "while the model was at work")
        await self._edited(attempt, "by somebody who committed while vectors were being stored", slowly=True)
        await self._quietly(attempt)

    async def _edited(self, attempt: Attempt, when: str, slowly: bool = False) -> None:
        stage = await _set(attempt)
        once, removed, again = stage.passages[1], stage.passages[2], stage.passages[5]
        edits = {once.id: f"new {awkward_text()}", removed.id: None, again.id: _corrected(again.content)}
        editor = Editor(attempt, edits, slowly)
        model = Model(editor, [passage.content for passage in (once, removed, again)])
        with calling_it(attempt, "failed on an edit", SQLAlchemyError):
            said = (await together(attempt, [partial(_beside, attempt, model, editor, stage.id)]))[0]
        attempt.expect(not editor.waited, "editor waits")
        if model.editing:
            stage = stage.after(edits)
        rows = await _rows(attempt, stage)
        for passage in stage.passages:
            if passage.id in edits and model.editing:
                self._look_at_edited(attempt, passage, rows.get(passage.id), when)
        back = set(rows) - {passage.id for passage in stage.passages}
        attempt.expect(not back, "came back")
        self._look_at_rest(attempt, stage, rows, model)
        done = [p for p in stage.passages if p.model != MODEL and rows[p.id].model == MODEL]
        attempt.expect(type(said) is int and said == len(done), "wrong count", said=said, count=len(done))
        attempt.expect(await attempt.value(OTHERS, id=stage.id) == stage.others, "others changed")

    def _look_at_edited(self, attempt: Attempt, passage: Passage, row: Row | None, when: str) -> None:
        attempt.expect(row is not None and row.content == passage.content and row.tokens == 99, "edit lost")
        assert row is not None
        fresh = row.vector == vector_of(passage.content)
        attempt.expect(row.model != MODEL or fresh, "stale", when=when, model=MODEL)
        attempt.expect(row.model in (MODEL, EDITED), "edit hidden", model=MODEL)

    def _look_at_rest(self, attempt: Attempt, stage: Stage, rows: dict[UUID, Row], model: Model) -> None:
        untouched = [passage for passage in stage.passages if not passage.edited]
        missing = sum(passage.id not in rows or rows[passage.id].model != MODEL for passage in untouched)
        attempt.expect(missing == 0, "not done", count=missing, model=MODEL)
        odd = sum(rows[passage.id].vector != vector_of(passage.content) for passage in untouched)
        attempt.expect(odd == 0, "vector lost", count=odd)
        bought = sum(model.given.count(passage.content) for passage in untouched if passage.model == MODEL)
        attempt.expect(bought == 0, "bought again", count=bought)

    async def _quietly(self, attempt: Attempt) -> None:
        stage, model = await _set(attempt), Model()
        said = await attempt.call(sessions_of(attempt), model, stage.id)
        todo = sum(passage.model != MODEL for passage in stage.passages)
        self._look_at_rest(attempt, stage, await _rows(attempt, stage), model)
        attempt.expect(said == todo, "wrong count", said=said, count=todo)
        model = Model()
        said = await attempt.call(sessions_of(attempt), model, stage.id)
        attempt.expect(not model.given, "nothing to do")
        attempt.expect(said == 0 and type(said) is int, "wrong count", said=said, count=0)


def _corrected(text: str) -> str:
    """A text as long as that one: a price was mended."""
    return f"{text[:-1]}{'1' if text[-1] == '0' else '0'}"


async def _beside(attempt: Attempt, model: Model, editor: Editor, id: UUID) -> Any:
    """Call the answer beside the editor; both are over then."""

    async def call() -> Any:
        answered = attempt.answer(sessions_of(attempt), model, id)
        return await answered if inspect.isawaitable(answered) else answered

    running = asyncio.ensure_future(call())
    await first_of(running, editor.begun)
    if editor.slowly:
        await until_blocked(attempt, running, 1)
    editor.may_commit.set()
    try:
        return await running
    finally:
        if model.editing:
            await model.editing


async def _set(attempt: Attempt) -> Stage:
    """A document whose passages were done by several models, and another one with the same texts."""
    user_id, ids = await add_user(attempt), (uuid4(), uuid4())
    documents = [{"id": id, "user_id": user_id, "source": str(id), "title": "Handbook"} for id in ids]
    await add_rows(attempt, "documents", documents)
    texts = [awkward_text() for _ in MODELS]
    texts[-1] = texts[0]
    passages = [Passage(uuid4(), content, model) for content, model in zip(texts, MODELS, strict=True)]
    rows = [_row(passage, ids[0], place) for place, passage in enumerate(passages)]
    twins = [_row(Passage(uuid4(), content, OLD), ids[1], place) for place, content in enumerate(texts)]
    await add_rows(attempt, "document_chunks", [*twins, *rows[::-1]])
    return Stage(ids[0], passages, await attempt.value(OTHERS, id=ids[0]))


def _row(passage: Passage, document_id: UUID, place: int) -> dict[str, Any]:
    vector = vector_of(passage.content if passage.model == MODEL else "by the old model")
    return {
        "id": passage.id, "document_id": document_id, "chunk_index": place, "content": passage.content,
        "token_count": 7, "embedding": str(vector), "embedding_model": passage.model,
    }  # fmt: skip


async def _rows(attempt: Attempt, stage: Stage) -> dict[UUID, Row]:
    found = await attempt.sql(LOOK, id=stage.id)
    return {id: Row(content, json.loads(vector), model, tokens) for id, content, vector, model, tokens in found}
