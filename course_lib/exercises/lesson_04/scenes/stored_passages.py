"""The passages of 4.9 as they are stored, and which of them are nearest: by one model, or by a mixture of two."""

from __future__ import annotations

from itertools import pairwise
from secrets import token_hex

from course_lib.exercises.lesson_04.two_models import Model, cosine_distance
from course_lib.instruments import Rows
from course_lib.judging.crowd import awkward_text

K = 5
APART = 1e-5  # between two distances; less would be a matter of rounding


class Passages:
    """Rows of id, content, and whether the second vector is missing.

    Attributes:
        some_wait: whether any passage has no second vector.
    """

    def __init__(self, old: Model, next_: Model, rows: Rows) -> None:
        self.old, self.next = old, next_
        self.old_ones = {id: old.vector(content) for id, content, _ in rows}
        self.new_ones = {id: next_.vector(content) for id, content, waits in rows if not waits}
        self.some_wait = len(self.new_ones) < len(self.old_ones)

    def telling_question(self) -> str:
        """One that mixed vectors answer in another way, and with no two passages about equally near."""
        while True:
            question = new_texts(1)[0]
            apart = self._apart(self.old.vector(question), self.old_ones)
            apart = apart and self._apart(self.next.vector(question), self.new_ones)
            mixed = self.some_wait and self.new_ones and self.by_old(question) in self.mixtures(question)
            if apart and not mixed:
                return question

    def by_old(self, question: str) -> list[int]:
        return _nearest(self.old.vector(question), self.old_ones)

    def by_next(self, question: str) -> list[int]:
        return _nearest(self.next.vector(question), self.new_ones)

    def mixtures(self, question: str) -> list[list[int]]:
        """What comes of comparing with whichever vector there is, or with the other model's, or each by its own."""
        old, next_ = self.old.vector(question), self.next.vector(question)
        either = self.old_ones | self.new_ones
        distances = {id: cosine_distance(next_ if id in self.new_ones else old, either[id]) for id in either}
        return [
            _nearest(old, either),
            _nearest(next_, either),
            _nearest(old, self.new_ones),
            _nearest(next_, self.old_ones),
            sorted(distances, key=distances.__getitem__)[:K],
        ]

    def _apart(self, question: list[float], vectors: dict[int, list[float]]) -> bool:
        nearest = sorted(cosine_distance(question, vector) for vector in vectors.values())[: K + 1]
        return all(further - near > APART for near, further in pairwise(nearest))


def _nearest(question: list[float], vectors: dict[int, list[float]]) -> list[int]:
    return sorted(vectors, key=lambda id: cosine_distance(question, vectors[id]))[:K]


def new_texts(count: int) -> list[str]:
    return [f"{awkward_text()} {token_hex(3)}" for _ in range(count)]
