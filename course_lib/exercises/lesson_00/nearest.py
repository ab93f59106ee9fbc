"""0.3: the search of lesson 00, with its WHERE."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from random import Random
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_00.scenes.owners import Owner, Owners, add_owners, expect_nothing, expect_texts
from course_lib.judging.asking import ask, calling_it, fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, new_email
from course_lib.judging.threads import shuffled
from course_lib.llm import EMBEDDING_MODEL
from course_lib.models.documents import DIMENSIONS

PASSAGES = 36
SINGLE = 3  # passages that are nearer than all others; from there on two are equally near
DOCUMENTS = 12  # of one owner
OTHERS = 10  # passages of another owner: chance puts them in order once in three million times
SCALE = 1_000_000  # a question's vector may be that much longer, or shorter, than an embedding
STEP = 0.0004  # between one passage's cosine and the next one's: lost where distances are rounded
FAR = (-0.2, -0.5)  # cosines of passages about something else, which are asked for all the same
NEARER = 40  # passages of each of some others, all nearer than one's own
MORE_ROWS = 20  # than the passages of one's own: for those who look the owner and the documents up first
ALL = 1000
Vector = list[float]


class Nearest(Exercise):
    """The search of lesson 00, with its WHERE."""

    id = "0.3"
    title = "The nearest of one's own"
    answer = "nearest"
    points = 2
    minutes = 6
    hints: ClassVar = (
        "Two conditions and an order: the owner's e-mail, then distance to the vector, then a limit.",
        "`DocumentChunk.embedding.cosine_distance(vector)` is the ORM's `<=>`.",
        "Start from `select(DocumentChunk.content).join(Document).join(User)`.",
    )
    why = "The owner is a condition, the meaning is an order. One statement holds both, so neither can be forgotten."
    follow_up = "The user owns 1% of ten million passages, and there is an HNSW index. What can go wrong?"
    mistakes: ClassVar = {
        "nothing returned": "`nearest` returned None. | Did you forget `return`?",
        "not a list": "`nearest` returned {kind}; a list of texts was asked for. "
        "| `(await session.scalars(…)).all()` is a list.",
        "rows, not texts": "The list holds {kind}, not texts. | Select `DocumentChunk.content`, use `scalars`.",
        "not passages": "{count} of the texts are not the content of any passage. | Which column is asked for?",
        "strangers": "{count} of the passages are in documents of other users. "
        "| Is it this user, and nobody else, whose they are?",
        "too many": "{count} passages came back for n = {n}. | `n` is the limit.",
        "too few": "{count} passages came back for n = {n}, and the user has {total}. "
        "| Is something left out after the limit, or a limit fixed, or a filter too many?",
        "no passages": "For {email}, who has no passage, it {did}. | An empty list was asked for.",
        "far": "The passages are the user's own, but nearer ones were left out. "
        "| Which distance is it, of which vectors, and is the smallest first?",
        "order": "The right passages came back, not nearest first. | Let the server sort by cosine distance.",
        "injection": "For {email} it raised {error}, and for an e-mail without quotation mark and colon it did not. "
        "| Pass the e-mail as a value, never inside the SQL text.",
        "loaded everything": "{rows} rows were fetched, and the user has {total} passages. "
        "| Let the server filter: `where`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        owners, vector = await add_owners(attempt), _vector(Random(randbelow(1 << 62)))
        await _stage(attempt, owners, vector)
        n = SINGLE + choice((1, 3, 5))  # ends between two that are equally near
        await self._search(attempt, owners.plain, vector, n)
        await _add_passages(attempt, owners.plain, _at_cosines(vector, [0.4]))  # the nearest, from now on
        total = await self._search(attempt, owners.plain, vector, ALL)
        rows = fetched(attempt.log)
        await self._search(attempt, owners.plain, [-SCALE * value for value in vector], n)
        new = new_email("newcomer")
        await add_user(attempt, new)
        await expect_nothing(attempt, "no passages", new, list(vector), 3)
        with calling_it(attempt, "injection", email=owners.quoted.email):
            await self._search(attempt, owners.quoted, [value / SCALE for value in vector], OTHERS)
        attempt.expect(rows <= total + MORE_ROWS, "loaded everything", rows=rows, total=total)
        await expect_errors_to_rise(attempt, owners.plain.email, list(vector), n)

    async def _search(self, attempt: Attempt, owner: Owner, vector: Vector, n: int) -> int:
        """How many passages the owner has."""
        own = await attempt.sql(
            """
            SELECT content, embedding <=> CAST(:vector AS vector) AS distance
            FROM document_chunks AS c JOIN documents AS d ON d.id = c.document_id WHERE user_id = :id ORDER BY distance
            """,
            vector=str(vector), id=owner.id,
        )  # fmt: skip
        found = expect_texts(attempt, await ask(attempt, owner.email, list(vector), n), "rows, not texts")
        if not _are_nearest(found, list(own), n):
            await self._tell_what_differs(attempt, found, list(own), n)
        return len(own)

    async def _tell_what_differs(
        self, attempt: Attempt, found: list[str], own: list[tuple[str, float]], n: int
    ) -> None:
        distances = dict(reversed(own))
        foreign = [text for text in found if text not in distances]
        known = await attempt.sql("SELECT DISTINCT content FROM document_chunks")
        invented = len(set(foreign) - set(known.column("content")))
        attempt.expect(not invented, "not passages", count=invented)
        attempt.expect(not foreign, "strangers", count=len(foreign))
        wanted = min(n, len(own))
        attempt.expect(len(found) <= wanted, "too many", count=len(found), n=n)
        attempt.expect(len(found) >= wanted, "too few", count=len(found), n=n, total=len(own))
        attempt.expect(_are_nearest(sorted(found, key=distances.__getitem__), own, n), "far")
        raise attempt.wrong("order")


def _are_nearest(found: list[str], own: list[tuple[str, float]], n: int) -> bool:
    """Whether these texts are the first n of ``own``, of which those equally near may come in any order."""
    place = 0
    for _, group in groupby(own, lambda passage: passage[1]):
        texts = Counter(text for text, _ in group)
        told = found[place : min(place + texts.total(), n)]
        if Counter(told) - texts or len(told) < min(texts.total(), n - place):
            return False
        place += len(told)
    return len(found) == place


def _vector(random: Random) -> Vector:
    return [round(random.gauss(0, 0.1), 6) for _ in range(DIMENSIONS)]


def _at_cosine(random: Random, vector: Vector, cosine: float) -> Vector:
    """A vector of any length at this cosine to ``vector``."""
    other = _vector(random)
    length = math.hypot(*vector)
    along = sum(a * b for a, b in zip(vector, other, strict=True)) / length**2
    across = [b - along * a for a, b in zip(vector, other, strict=True)]
    width, size = math.hypot(*across), 0.3 + 3 * random.random()
    sine = math.sqrt(1 - cosine**2)
    return [size * (cosine * a / length + sine * b / width) for a, b in zip(vector, across, strict=True)]


def _at_cosines(vector: Vector, cosines: Iterable[float]) -> list[Vector]:
    random = Random(randbelow(1 << 62))
    return [_at_cosine(random, vector, cosine) for cosine in cosines]


async def _stage(attempt: Attempt, owners: Owners, vector: Vector) -> None:
    near = 0.302 + randbelow(20) / 1000
    mine = _at_cosines(vector, (near - STEP * place for place in range(PASSAGES)))
    for place in range(SINGLE + 1, PASSAGES, 2):
        mine[place] = mine[place - 1]
    await _add_passages(attempt, owners.plain, mine + _at_cosines(vector, FAR))
    await _add_passages(attempt, owners.quoted, _at_cosines(vector, (0.9 - place / 12 for place in range(OTHERS))))
    for stranger in owners.lookalikes:
        (document,) = await _add_documents(attempt, stranger, 1)
        await attempt.sql(
            """
            INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
            SELECT :document, n, 'not yours ' || n, 1, CAST(:vector AS vector), :model FROM generate_series(1, :count) n
            """,
            document=document, vector=str(vector), model=EMBEDDING_MODEL, count=NEARER,
        )  # fmt: skip


async def _add_passages(attempt: Attempt, owner: Owner, vectors: list[Vector]) -> None:
    """Passages with these embeddings, in documents by turns; the second and the third have the same text."""
    documents = await _add_documents(attempt, owner, min(DOCUMENTS, len(vectors)))
    await add_rows(attempt, "document_chunks", shuffled(list(_passages(documents, vectors))))


def _passages(documents: list[UUID], vectors: list[Vector]) -> Iterator[dict[str, Any]]:
    texts = [f"It's passage {token_hex(3)}\n\n{awkward_text() * (place % 20)}" for place in range(len(vectors))]
    texts[1:3] = texts[1:2] * len(texts[1:3])
    for place, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        yield {
            "id": uuid4(), "document_id": documents[place % len(documents)], "chunk_index": place, "content": text,
            "token_count": 3, "embedding": str(vector), "embedding_model": EMBEDDING_MODEL,
        }  # fmt: skip


async def _add_documents(attempt: Attempt, owner: Owner, count: int) -> list[UUID]:
    rows = await attempt.sql(
        "INSERT INTO documents (user_id, source, title, status) "
        "SELECT :id, :mark || n, 'Handbook', 'ready' FROM generate_series(1, :count) n RETURNING id",
        id=owner.id, mark=f"{token_hex(4)}/", count=count,
    )  # fmt: skip
    ids: list[UUID] = rows.column("id")
    Random(randbelow(1 << 62)).shuffle(ids)  # a plan that goes from document to document is in no order of distance
    return ids
