"""4.7: many vectors in one go, in a transaction that is somebody else's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.db import make_engine
from course_lib.judging.asking import calling_it, sent_most
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of, message_of
from course_lib.judging.staging import add_rows, add_user, new_name
from course_lib.judging.trouble import sqlstate_of
from course_lib.models import DIMENSIONS

MANY, SOME = 1_200, 40  # chunks
STATEMENTS = 10  # for as many as you like
LOOKED_AT = 20  # vectors of those
NEAR = 1e-5  # vectors are stored in four bytes a number
STORED = """
    SELECT chunk_index, content, token_count, embedding_model FROM document_chunks
    WHERE document_id = :id ORDER BY chunk_index
"""
VECTORS = """
    SELECT chunk_index, embedding::text FROM document_chunks
    WHERE document_id = :id AND chunk_index = ANY(:some) ORDER BY chunk_index
"""
IN_SESSION = text("SELECT count(*) FROM document_chunks WHERE document_id = :id")
Chunks = list[tuple[str, list[float]]]
BROKEN: dict[str, Any] = {
    "a NaN": lambda vector: [*vector[:-1], float("nan")],
    "an infinity": lambda vector: [float("-inf"), *vector[1:]],
    "nothing but zeros": lambda vector: [0.0] * len(vector),
    "a number too few": lambda vector: vector[:-1],
    "a number too many": lambda vector: [*vector, 0.5],
}


class LoadChunks(Exercise):
    """Look at everything first, then one COPY in the caller's transaction."""

    id = "4.7"
    title = "Twelve hundred vectors in one go"
    answer = "load_chunks"
    minutes = 15
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Two steps: look at all vectors, and refuse before anything is sent; then send all rows together. What does "
        "pgvector refuse by itself, and what does it store without a word?",
        "`len(vector)`, `math.isfinite` for each number, `any(vector)`: the position of the first vector that fails "
        "goes into the `ValueError`.",
        "`await copy_rows(session, DocumentChunk, columns, rows)` from `course_lib.db` is COPY in the session's "
        "transaction. A list of dicts for `insert(DocumentChunk)` is slower and right as well.",
    )
    why = (
        "A statement for each row pays a round trip for each row; COPY streams all of them in one. It belongs to the "
        "caller's transaction only if that has begun: SQLAlchemy sends BEGIN with the first statement, and COPY on the "
        "driver's own connection is none, so it would be stored for good whatever the caller decides. A zero vector is "
        "accepted and never found again, since its cosine distance is NaN and no index holds it; so vectors are looked "
        "at before they are sent."
    )
    follow_up = (
        "The import brings a million vectors, and the table has an HNSW index. What do you do with the index "
        "meanwhile, and what does a search see?"
    )
    mistakes: ClassVar = {
        "not a number": "`load_chunks` returned {kind}, and the number of chunks was asked for. | An int.",
        "wrong number": "`load_chunks` returned {said}, and was given {n} chunks. | How many were stored?",
        "rows missing": "{count} of {n} chunks can be found after the caller's commit. | What was sent, and by whom?",
        "wrong row": "Chunk {index} has {column} {stored!r}, and that is not what belongs to it. "
        "| Its place in the list, its content, the number of words, the model.",
        "wrong vector": "Chunk {index} has another vector than the one beside its content. | Pairs stay together.",
        "one by one": "For {n} chunks {count} statements were sent, and the budget is {budget}: `{statement}`. "
        "| All rows in one statement, or in COPY.",
        "begun already": "It raised {error}, because the caller had begun the transaction already. "
        "| `session.begin()` is for who owns the transaction.",
        "commits itself": "`load_chunks` committed {count} chunk(s), and its caller had not decided yet. "
        "| The end of the transaction is the caller's.",
        "outside the transaction": "The caller rolled back, and {count} chunks are stored all the same; nobody sent "
        "COMMIT. | SQLAlchemy sends BEGIN with its first statement. What came before it on the driver's connection?",
        "caller's work lost": "What the caller had done before the call was gone after the commit. "
        "| `session.rollback()` ends a transaction that is not yours.",
        "accepted": "For a vector with {what} at position {position} no error came, and {count} of {n} chunks were "
        "stored. | Such a vector can never be found, or breaks a search: refuse all of the list. Look before you send.",
        "good ones refused": "`load_chunks` raised {error} for vectors that are all good: {said}. "
        "| Some have a single zero, some add up to 0; only nothing but zeros is no direction.",
        "not a ValueError": "For a vector with {what}, `load_chunks` raised {error}. "
        "| `raise ValueError(…)`, before the server or a library says it in its own way.",
        "position not named": "The vector with {what} was at position {position}, and the error says {said!r}. "
        "| Whoever has to mend it looks for the place, counted from 0.",
        "stored before": "One vector was refused, and {count} other chunks of the list are stored after the caller's "
        "commit. | Look at all of them first.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.engine.dispose()
        attempt.engine = make_engine(attempt.url, binary_vectors=True, **POOL)
        user_id = await add_user(attempt)
        await self._load(attempt, user_id, _chunks(SOME), kept=False, begun=False)
        await self._load(attempt, user_id, _chunks(SOME), kept=False, begun=True)
        await self._load(attempt, user_id, _chunks(SOME), kept=True, begun=True)
        await self._load(attempt, user_id, [], kept=True, begun=False)
        many = _chunks(MANY)
        for what in BROKEN:
            await self._refuses(attempt, user_id, what, _chunks(SOME + randbelow(SOME)))
        await self._refuses(attempt, user_id, choice(list(BROKEN)), many)
        await self._load(attempt, user_id, many, kept=True, begun=False)

    async def _load(self, attempt: Attempt, user_id: UUID, chunks: Chunks, kept: bool, begun: bool) -> None:
        """One load in a caller's transaction, which commits (``kept``) or rolls back."""
        id, model, name = await _add_document(attempt, user_id), f"embed-{token_hex(2)} {awkward_text()}", new_name()
        async with attempt.session() as session:
            if begun:
                await _work(session, user_id, name)
            begun_already = calling_it(attempt, "begun already", InvalidRequestError, saying="already begun")
            with begun_already, _good_ones_accepted(attempt):
                said = await attempt.call(session, id, model, [(content, list(vector)) for content, vector in chunks])
            count, statement = len(attempt.log.statements), sent_most(attempt.log)
            committed = any("COMMIT" in entry.sql for entry in attempt.log.entries)
            early = len(await attempt.sql(STORED, id=id))
            attempt.expect(not (early and committed), "commits itself", count=early)
            await (session.commit() if kept else session.rollback())
        rows = await attempt.sql(STORED, id=id)
        attempt.expect(kept or not len(rows), "outside the transaction", count=len(rows))
        if kept:
            self._expect_number(attempt, said, chunks)
            await self._compare(attempt, id, model, chunks)
            await self._look_after_the_caller(attempt, user_id, name if begun else "")
            numbers = {"n": len(chunks), "count": count, "budget": STATEMENTS, "statement": statement}
            attempt.expect(count <= STATEMENTS, "one by one", **numbers)

    def _expect_number(self, attempt: Attempt, said: Any, chunks: Chunks) -> None:
        attempt.expect(isinstance(said, int) and not isinstance(said, bool), "not a number", kind=article(said))
        attempt.expect(said == len(chunks), "wrong number", said=said, n=len(chunks))

    async def _look_after_the_caller(self, attempt: Attempt, user_id: UUID, name: str) -> None:
        stored = await attempt.value("SELECT name FROM users WHERE id = :id", id=user_id)
        attempt.expect(not name or stored == name, "caller's work lost")

    async def _compare(self, attempt: Attempt, id: UUID, model: str, chunks: Chunks) -> None:
        rows = await attempt.sql(STORED, id=id)
        attempt.expect(len(rows) == len(chunks), "rows missing", count=len(rows), n=len(chunks))
        for index, (row, (content, _)) in enumerate(zip(rows, chunks, strict=True)):
            wanted = (index, content, len(content.split()), model)
            for column, stored, value in zip(rows.columns, row, wanted, strict=True):
                attempt.expect(stored == value, "wrong row", index=index, column=column, stored=stored)
        some = sorted({randbelow(len(chunks)) for _ in range(LOOKED_AT)}) if chunks else []
        for index, vector in await attempt.sql(VECTORS, id=id, some=some):
            attempt.expect(np.allclose(json.loads(vector), chunks[index][1], atol=NEAR), "wrong vector", index=index)

    async def _refuses(self, attempt: Attempt, user_id: UUID, what: str, chunks: Chunks) -> None:
        """One vector is broken; the caller catches the error, and commits what it had done before."""
        id, name = await _add_document(attempt, user_id), new_name()
        position = len(chunks) // 2 + randbelow(len(chunks) // 2)
        chunks = list(chunks)
        chunks[position] = (chunks[position][0], BROKEN[what](chunks[position][1]))
        async with attempt.session() as session:
            await _work(session, user_id, name)
            with self._expecting_refusal(attempt, what, position):
                await attempt.call(session, id, "model", chunks)
                await session.flush()  # of what was only added
                numbers = {"what": what, "position": position, "n": len(chunks)}
                raise attempt.wrong("accepted", count=await _stored_so_far(session, id), **numbers)
            await session.commit()
        count = len(await attempt.sql(STORED, id=id))
        attempt.expect(not count, "stored before", count=count)
        await self._look_after_the_caller(attempt, user_id, name)

    @contextmanager
    def _expecting_refusal(self, attempt: Attempt, what: str, position: int) -> Iterator[None]:
        try:
            yield
        except Exception as caught:
            error = caught.__cause__ if isinstance(caught, Wrong) else caught
            if isinstance(caught, Wrong) and caught.mistake != "raised":
                raise
            kind = kind_of(error)
            attempt.expect(isinstance(error, ValueError), "not a ValueError", what=what, error=kind)
            named = re.search(rf"(?<!\d){position}(?!\d)", str(error)) is not None
            attempt.expect(named, "position not named", what=what, position=position, said=str(error)[:80])


@contextmanager
def _good_ones_accepted(attempt: Attempt) -> Iterator[None]:
    try:
        yield
    except Wrong as wrong:
        error = wrong.__cause__
        if wrong.mistake == "raised" and isinstance(error, ValueError | AssertionError) and sqlstate_of(error) is None:
            raise attempt.wrong("good ones refused", error=kind_of(error), said=message_of(error)) from error
        raise


def _chunks(count: int) -> Chunks:
    words = ("vector", "commit", "page", "index", "row", "plan", "lock")
    blanks = (" ", "  ", "\n", "\t ", " \r\n")
    contents = [choice(blanks).join([awkward_text(), *words[: randbelow(len(words))]]) for _ in range(count)]
    contents[-1] = contents[0]  # a page header, say: the same words, another place
    contents[1] += "\n"
    vectors = np.random.default_rng().normal(size=(count, DIMENSIONS))
    vectors[2::7, randbelow(DIMENSIONS)] = 0.0
    vectors[3] = 0.0
    vectors[3, :2] = (1.0, -1.0)  # is not nothing, though it adds up to that
    vectors[4] = 0.0
    vectors[4, -1] = -1e-6
    return list(zip(contents, vectors.tolist(), strict=True))


async def _add_document(attempt: Attempt, user_id: UUID) -> UUID:
    source = f"{token_hex(4)}.md"
    await add_rows(attempt, "documents", [{"user_id": user_id, "source": source, "title": "Notes", "meta": {}}])
    id: UUID = await attempt.value("SELECT id FROM documents WHERE source = :source", source=source)
    return id


async def _stored_so_far(session: AsyncSession, id: UUID) -> int:
    try:
        return await session.scalar(IN_SESSION, {"id": id}) or 0
    except (DBAPIError, PendingRollbackError):  # the server has refused something, and the answer kept that to itself
        return 0


async def _work(session: AsyncSession, user_id: UUID, name: str) -> None:
    """What the caller does before: a change that nobody else sees yet."""
    await session.execute(text("UPDATE users SET name = :name WHERE id = :id"), {"name": name, "id": user_id})
