"""4.1: similarity, distance, and which rows may be compared at all."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from course_lib.exercises.lesson_04.scenes.hits import Hits, differ, read_pairs
from course_lib.judging.asking import ask, fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.staging import add_rows, add_user
from course_lib.models import DIMENSIONS

OWN = 14
SIMILARITIES = np.linspace(0.92, -0.3, OWN)
DECOYS = 5  # of each kind, most of them nearer than the nearest of the right ones
BESIDE = 5  # rows that may be fetched besides those asked for, such as the user; fewer than there are to be had
NOT_READY = ("uploaded", "processing", "failed")
Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """What is on stage. ``own`` are the chunks that may be found, most similar first."""

    question: Vectors
    model: str
    user_id: UUID
    own: list[tuple[str, float]]
    strangers: set[str]
    not_ready: set[str]
    other_models: set[str]


class NearestChunks(Exercise):
    """A first search: an order, a limit, and what has no place in the comparison."""

    id = "4.1"
    title = "Nearest, of one kind"
    answer = "nearest"
    minutes = 8
    hints: ClassVar = (
        "Three conditions choose the rows, the distance orders them, `limit` ends the list. Where is the user's id? "
        "Not in `document_chunks`.",
        "`DocumentChunk.embedding.cosine_distance(vector)` is `embedding <=> vector`: the smaller, the nearer. "
        "Similarity is 1 minus that.",
        "Select the content and `1 - distance`, join `Document`, filter by its `user_id` and `status` and by the "
        "chunk's `embedding_model`, and order by the distance.",
    )
    why = (
        "Cosine distance runs from 0 to 2, and smaller is nearer; similarity is 1 minus it. Order by the distance and "
        "show the similarity: an index on vectors follows the distance alone. Vectors of two models lie in two spaces. "
        "If they have the same length, PostgreSQL compares them without complaint, so the model is part of the WHERE."
    )
    follow_up = (
        "OpenAI's embeddings have length 1. What does that say about cosine distance, Euclidean distance and inner "
        "product, and which of them would you take then?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`nearest` returned None. | Did you forget `return`?",
        "not a list": "`nearest` returned {kind}, and a list was asked for. | `.all()` makes a list of a result.",
        "not pairs": "The list holds {kind}, and pairs of a text and a number were asked for. "
        "| `(content, similarity)`: select two columns, and use `execute`.",
        "strangers": "{count} of {n} chunks belong to another user. | The owner is in `documents.user_id`.",
        "not ready": "{count} of {n} chunks are of documents that are not ready. | `Document.status`.",
        "other models": "{count} of {n} chunks were embedded with another model. "
        "| Their vectors are of the same length and mean something else: `embedding_model`.",
        "wrong length": "{count} chunk(s) came back for k = {k}, where {there} are to be had. | `limit(k)`.",
        "furthest first": "The {k} chunks that came are the user's least similar ones. "
        "| Of distances the smallest is nearest; of similarities the greatest is.",
        "another measure": "The {k} chunks that came are nearest by another measure than the cosine. "
        "| `<=>` compares directions; `<->` and `<#>` mind lengths as well, and these vectors differ in length.",
        "order": "The right chunks came, but not the most similar first. | Order by the distance, upwards.",
        "distance": "The numbers beside the chunks are distances: the first is {first:.3f}. "
        "| Similarity is 1 minus the distance, so it is greatest for the nearest.",
        "wrong numbers": "The right chunks came, and {count} of {n} numbers beside them are not their similarity. "
        "| 1 minus the cosine distance.",
        "loaded everything": "{rows} rows were fetched for {k} chunks. | The server can sort, and stop after k.",
    }

    async def judge(self, attempt: Attempt) -> None:
        library = await _stage(attempt)
        for k in (5 + randbelow(3), 2 * OWN):  # of so few, no other measure has the same ones first
            asked = (library.user_id, library.question.tolist(), library.model, k)
            found = read_pairs(attempt, await ask(attempt, *asked), str)
            wanted = library.own[:k]
            if [content for content, _ in found] != [content for content, _ in wanted]:
                self._tell_what_differs(attempt, library, [content for content, _ in found], k)
            self._compare_numbers(attempt, found, [similarity for _, similarity in wanted])
            rows = fetched(attempt.log)
            attempt.expect(rows <= k + BESIDE, "loaded everything", rows=rows, k=k)

    def _tell_what_differs(self, attempt: Attempt, library: Library, found: list[str], k: int) -> None:
        for mistake, decoys in (
            ("strangers", library.strangers), ("not ready", library.not_ready), ("other models", library.other_models)
        ):  # fmt: skip
            count = sum(content in decoys for content in found)
            attempt.expect(not count, mistake, count=count, n=len(found))
        there = min(k, OWN)
        attempt.expect(len(found) == there, "wrong length", count=len(found), k=k, there=there)
        contents = [content for content, _ in library.own]
        if set(found) == set(contents[-there:]) != set(contents[:there]):
            raise attempt.wrong("furthest first", k=k)
        if set(found) != set(contents[:there]):
            raise attempt.wrong("another measure", k=k)
        raise attempt.wrong("order")

    def _compare_numbers(self, attempt: Attempt, found: Hits, wanted: list[float]) -> None:
        numbers = [number for _, number in found]
        wrong = differ(numbers, wanted)
        if wrong and not differ(numbers, [1 - similarity for similarity in wanted]):
            raise attempt.wrong("distance", first=numbers[0])
        attempt.expect(not wrong, "wrong numbers", count=wrong, n=len(numbers))


async def _stage(attempt: Attempt) -> Library:
    random = np.random.default_rng()
    question = random.normal(size=DIMENSIONS)
    model, other = f"words-{token_hex(2)}", f"words-{token_hex(2)}x"
    user_id, stranger = await add_user(attempt), await add_user(attempt)
    ready = await _add_document(attempt, user_id, "ready")
    own = [(f"own {token_hex(4)}", float(similarity)) for similarity in SIMILARITIES]
    vectors = _of_many_lengths(random, question)
    chunks = [_chunk(ready, content, vector, model) for (content, _), vector in zip(own, vectors, strict=True)]
    decoys = []
    for home, kind in (
        (await _add_document(attempt, stranger, "ready"), model), (ready, other),
        *[(await _add_document(attempt, user_id, status), model) for status in NOT_READY],
    ):  # fmt: skip
        nearer = [_at(random, question, 0.99 - 0.1 * place, 1.0) for place in range(DECOYS)]
        decoys.append([_chunk(home, f"other {token_hex(4)}", vector, kind) for vector in nearer])
    rows = [*chunks, *(chunk for group in decoys for chunk in group)]
    random.shuffle(rows)
    await add_rows(attempt, "document_chunks", [row | {"chunk_index": n} for n, row in enumerate(rows)])
    theirs, otherwise, *unready = [{str(row["content"]) for row in group} for group in decoys]
    return Library(question, model, user_id, own, theirs, set().union(*unready), otherwise)


def _of_many_lengths(random: np.random.Generator, question: Vectors) -> list[Vectors]:
    """A vector for each similarity, of such lengths that no other measure has the same first five, six or seven."""
    lengths = np.tile([0.3, 2.2], OWN)[:OWN] * np.linalg.norm(question)
    return [_at(random, question, *pair) for pair in zip(SIMILARITIES, lengths, strict=True)]


def _at(random: np.random.Generator, question: Vectors, similarity: float, length: float) -> Vectors:
    """A vector of this cosine similarity to the question, in a direction picked by chance."""
    ahead = question / np.linalg.norm(question)
    aside = random.normal(size=DIMENSIONS)
    aside -= (aside @ ahead) * ahead
    aside /= np.linalg.norm(aside)
    vector: Vectors = length * (similarity * ahead + np.sqrt(1 - similarity**2) * aside)
    return vector


def _chunk(document_id: UUID, content: str, vector: Vectors, model: str) -> dict[str, Any]:
    written = str(vector.astype(np.float32).tolist())
    return {"id": uuid4(), "document_id": document_id, "content": content, "token_count": 7} | {
        "embedding": written, "embedding_model": model,
    }  # fmt: skip


async def _add_document(attempt: Attempt, user_id: UUID, status: str) -> UUID:
    id: UUID = await attempt.value(
        "INSERT INTO documents (user_id, source, title, status) VALUES (:user, :source, :source, :status) RETURNING id",
        user=user_id, source=f"upload/{token_hex(4)}.md", status=status,
    )  # fmt: skip
    return id
