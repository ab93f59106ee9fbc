"""4.1: similarity, distance, and which rows may be compared at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import cycle
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from course_lib.exercises.lesson_04.scenes.hits import Hits, differ, read_pairs
from course_lib.judging.asking import ask, fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, new_email
from course_lib.models import DIMENSIONS

OWN = 14
SIMILARITIES = np.linspace(0.92, -0.3, OWN)
TWINS = 2  # of the nearest, there twice: the same text and vector at another place
CLOSE = 0.002  # below one of the nearest lies another; both are the same in two digits
DECOYS = 5  # of each kind, most of them nearer than the nearest of the right ones
MOST = 100
NOT_READY = ("uploaded", "processing", "failed")
DOCUMENTS = 3  # of the user's that are ready, each with chunks
MEASURES = {"`<->`": 2, "`<+>`": 1}  # Minkowski's distances and their orders
Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """What is on stage. ``own`` are the chunks that may be found, most similar first; ``vectors`` are theirs."""

    question: Vectors
    model: str
    user_id: UUID
    home: UUID
    own: list[tuple[str, float]]
    vectors: list[Vectors]
    strangers: set[str]
    not_ready: set[str]
    other_models: set[str]

    def nearest_by(self, measure: str, k: int) -> list[str]:
        """The k texts that another measure puts first."""
        if measure in MEASURES:
            order = [float(np.linalg.norm(v - self.question, MEASURES[measure])) for v in self.vectors]
        else:
            order = [-float(v @ self.question) for v in self.vectors]
        return [self.own[place][0] for place in np.argsort(order)[:k]]


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
        "wrong length": "{count} chunk(s) came back for k = {k}, where {there} are to be had. "
        "| Where does the limit stand, and what has been left out before it?",
        "furthest first": "The {k} chunks that came are the user's least similar ones. "
        "| Of distances the smallest is nearest; of similarities the greatest is.",
        "another measure": "The {k} chunks that came are those that {measure} puts first. "
        "| `<=>` compares directions; these vectors differ in length, and others mind that.",
        "one of two": "Two chunks have the same text and the same vector, and only one of them came. "
        "| Each chunk is a row of its own, whatever it says: `DISTINCT`, and the keys of a dict, make one of them.",
        "not the nearest": "{right} of the {k} chunks that came are among the {k} most similar. "
        "| What exactly are they ordered by before the limit, and is that asked anew at each call?",
        "order": "The right chunks came, but not the most similar first. "
        "| What is the list ordered by, and how finely?",
        "distance": "The numbers beside the chunks are distances: the first is {first:.3f}. "
        "| Similarity is 1 minus the distance, so it is greatest for the nearest.",
        "wrong numbers": "The right chunks came, and {count} of {n} numbers beside them are not their similarity. "
        "| 1 minus the cosine distance.",
        "loaded more": "{rows} rows were fetched for k = {k}. "
        "| The server can sort, and stop after k, in one statement.",
    }

    async def judge(self, attempt: Attempt) -> None:
        library = await _stage(attempt)
        few = 5 + randbelow(3)  # of so few, no other measure has the same ones first
        await self._ask(attempt, library, few)
        await self._ask(attempt, library, MOST)
        library = await _with_a_nearer_one(attempt, library)
        for k in (few, 2, 1):  # at 2 the second and the third are twins
            await self._ask(attempt, library, k)
        await expect_errors_to_rise(attempt, library.user_id, library.question.tolist(), library.model, few)

    async def _ask(self, attempt: Attempt, library: Library, k: int) -> None:
        asked = (library.user_id, library.question.tolist(), library.model, k)
        found = read_pairs(attempt, await ask(attempt, *asked), str)
        wanted = library.own[:k]
        if [content for content, _ in found] != [content for content, _ in wanted]:
            self._tell_what_differs(attempt, library, [content for content, _ in found], k)
        self._compare_numbers(attempt, found, [similarity for _, similarity in wanted])
        rows = fetched(attempt.log)
        attempt.expect(rows <= k, "loaded more", rows=rows, k=k)

    def _tell_what_differs(self, attempt: Attempt, library: Library, found: list[str], k: int) -> None:
        for mistake, decoys in (
            ("strangers", library.strangers), ("not ready", library.not_ready), ("other models", library.other_models)
        ):  # fmt: skip
            count = sum(content in decoys for content in found)
            attempt.expect(not count, mistake, count=count, n=len(found))
        contents = [content for content, _ in library.own]
        wanted, there = contents[:k], min(k, len(contents))
        if _without_twins(found, contents):
            raise attempt.wrong("one of two")
        attempt.expect(len(found) == there, "wrong length", count=len(found), k=k, there=there)
        if Counter(found) == Counter(contents[-there:]) != Counter(wanted):
            raise attempt.wrong("furthest first", k=k)
        if Counter(found) == Counter(wanted):
            raise attempt.wrong("order")
        for measure in (*MEASURES, "`<#>`"):
            if Counter(found) == Counter(library.nearest_by(measure, k)):
                raise attempt.wrong("another measure", k=k, measure=measure)
        raise attempt.wrong("not the nearest", k=there, right=sum((Counter(found) & Counter(wanted)).values()))

    def _compare_numbers(self, attempt: Attempt, found: Hits, wanted: list[float]) -> None:
        numbers = [number for _, number in found]
        wrong = differ(numbers, wanted)
        if wrong and not differ(numbers, [1 - similarity for similarity in wanted]):
            raise attempt.wrong("distance", first=numbers[0])
        attempt.expect(not wrong, "wrong numbers", count=wrong, n=len(numbers))


async def _stage(attempt: Attempt) -> Library:
    random = np.random.default_rng()
    question = random.normal(size=DIMENSIONS)
    model = f"words_{token_hex(2)}'s %"
    others = (f"{model}-large", f"x{model}", model.replace("_", "-"), model.upper(), model[:-1])
    user_id, stranger = uuid4(), uuid4()
    await add_rows(attempt, "users", [{"id": id, "email": new_email(), "name": "Ida"} for id in (user_id, stranger)])
    documents = [_document(user_id, status) for status in ("ready",) * DOCUMENTS + NOT_READY]
    documents.append(_document(stranger, "ready"))
    await add_rows(attempt, "documents", documents)
    (*ready, one, two, three, theirs) = [document["id"] for document in documents]
    own = [(f"own {token_hex(4)}", float(similarity)) for similarity in SIMILARITIES]
    vectors = _of_many_lengths(random, question)
    own[4] = (own[4][0], own[3][1] - CLOSE)
    vectors[4] = _at(random, question, own[4][1], float(np.linalg.norm(vectors[4])))
    for place in range(TWINS):
        own.insert(2 * place, own[2 * place])
        vectors.insert(2 * place, vectors[2 * place])
    chunks = [
        _chunk(ready[place % DOCUMENTS], content, vector, model)
        for place, ((content, _), vector) in enumerate(zip(own, vectors, strict=True))
    ]
    decoys = []
    for homes, kinds in (((theirs,), (model,)), (ready, others), ((one, two, three), (model,))):
        nearer = [_at(random, question, 0.99 - 0.1 * place, 1.0) for place in range(DECOYS)]
        pairs = zip(nearer, cycle(homes), cycle(kinds), strict=False)
        decoys.append([_chunk(home, f"other {token_hex(4)}", vector, kind) for vector, home, kind in pairs])
    rows = [*(chunk for group in decoys for chunk in group), *chunks]
    numbered = [row | {"chunk_index": len(rows) - n} for n, row in enumerate(rows)]  # the farther, the lower
    random.shuffle(numbered)
    await add_rows(attempt, "document_chunks", numbered)
    groups = [{str(row["content"]) for row in group} for group in decoys]
    strangers, other_models, not_ready = groups
    return Library(question, model, user_id, ready[0], own, vectors, strangers, not_ready, other_models)


async def _with_a_nearer_one(attempt: Attempt, library: Library) -> Library:
    """The user has one more chunk, and it is the most similar of all."""
    content, similarity = f"own {token_hex(4)}", 0.97
    vector = _at(np.random.default_rng(), library.question, similarity, 3.0)
    row = _chunk(library.home, content, vector, library.model) | {"chunk_index": 999}
    await add_rows(attempt, "document_chunks", [row])
    return replace(library, own=[(content, similarity), *library.own], vectors=[vector, *library.vectors])


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


def _document(user_id: UUID, status: str) -> dict[str, Any]:
    title = awkward_text()
    return {"id": uuid4(), "user_id": user_id, "source": title, "title": title, "status": status, "meta": {}}


def _without_twins(found: list[str], contents: list[str]) -> bool:
    """True if these are the first of ``contents``, but for those that were there before."""
    once = list(dict.fromkeys(contents))
    return len(set(found)) == len(found) and found == once[: len(found)] != contents[: len(found)]
