"""How good a search is, counted on questions with known answers, and how sure that is.

    found = [await rag.search(owner[q.user], vector[q.id], k=20) for q in questions]
    by_document = places(found, questions, "document")
    print("R@5", mean(by_document <= 5), "MRR", mean(1 / by_document))

Two searches that answer the same questions are compared question by question, ``difference(one, other)``: what makes a
question hard for both cancels out, and the interval is narrower than the two intervals of the means let one think.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from course_lib.errors import CourseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from course_lib.repositories.rag.search import Passage

RESAMPLES = 10_000
SEED = 2026
Z = 1.96
"""Standard errors on either side of 95% of a normal distribution."""


class Answered(Protocol):
    """A question with known answers, as ``GoldenQuestion`` is: sources of documents; sources, and indices of chunks."""

    @property
    def documents(self) -> Sequence[str]: ...

    @property
    def passages(self) -> Sequence[tuple[str, int]]: ...


@dataclass(frozen=True)
class Estimate:
    """A mean over questions, and the limits of its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Of a difference: the interval does not touch 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    __repr__ = __str__


def places(
    found: Sequence[Sequence[Passage]], questions: Sequence[Answered], by: Literal["document", "passage"]
) -> NDArray[np.float64]:
    """Where in each list the first right one stands, from 1, and infinity where there is none; shape (questions,).

    So ``places <= k`` is recall@k of each question, and ``1 / places`` its reciprocal rank. Right is any passage of a
    document that answers the question, or with ``by="passage"`` one of the passages that do.

    Raises:
        CourseError: there are not as many lists as questions.
    """
    import numpy as np

    if len(found) != len(questions):
        raise CourseError(
            f"There are {len(found)} lists of passages for {len(questions)} questions.",
            "One for each question, in the same order; an empty one where nothing was found.",
        )
    pairs = zip(found, questions, strict=True)
    return np.array([_first_right(passages, question, by) for passages, question in pairs], dtype=float)


def _first_right(passages: Sequence[Passage], question: Answered, by: str) -> float:
    for place, passage in enumerate(passages, start=1):
        here = passage.source if by == "document" else (passage.source, passage.chunk_index)
        if here in (question.documents if by == "document" else question.passages):
            return place
    return float("inf")


def mean(values: ArrayLike) -> Estimate:
    """The mean over questions. Its interval is Wilson's for a share, of True and False, and else a bootstrap's.

    Wilson's is right near 0 and 1 too, where a bootstrap of the same few values says that nothing can change.

    Raises:
        CourseError: there are no values.
    """
    import numpy as np

    array = _values(values)
    if array.dtype == bool:
        return _wilson(float(array.mean()), array.size)
    return Estimate(float(array.mean()), *np.percentile(_resampled(array), [2.5, 97.5]).tolist())


def difference(one: ArrayLike, other: ArrayLike) -> Estimate:
    """The mean of ``one - other``, question by question, and its interval by a paired bootstrap.

    Raises:
        CourseError: they are not of equally many questions, or of none.
    """
    import numpy as np

    left, right = _values(one).astype(float), _values(other).astype(float)
    if left.shape != right.shape:
        raise CourseError(
            f"{left.size} values cannot be paired with {right.size}.", "Ask both searches the same questions."
        )
    apart = left - right
    return Estimate(float(apart.mean()), *np.percentile(_resampled(apart), [2.5, 97.5]).tolist())


def _values(values: ArrayLike) -> NDArray[Any]:
    import numpy as np

    array = np.asarray(values)
    if array.size == 0:
        raise CourseError("No questions were asked, and there is no mean of nothing.", "golden_questions('test')")
    return array


def _wilson(share: float, count: int) -> Estimate:
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * (share * (1 - share) / count + Z * Z / (4 * count * count)) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def _resampled(values: NDArray[Any]) -> NDArray[np.float64]:
    """Means of as many values drawn with replacement, again and again; the same ones in every run."""
    import numpy as np

    drawn = np.random.default_rng(SEED).integers(0, values.size, (RESAMPLES, values.size))
    means: NDArray[np.float64] = values[drawn].mean(axis=1)
    return means
