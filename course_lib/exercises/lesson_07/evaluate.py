"""7.8: how good a search is, by recall@k and by the mean reciprocal rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import expect_news, is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, article_of_pair, quoted

K = 3
Found = list[tuple[UUID, float]]


class SearchDown(RuntimeError):
    """The index could not be read."""


@dataclass(frozen=True)
class Case:
    """A question, what the search finds for it, and the passages that answer it."""

    found: Found
    right: frozenset[UUID]
    question: str = field(default_factory=awkward_text)

    @property
    def places(self) -> list[int]:
        """Of the right passages that are found."""
        nearest = {id: distance for id, distance in sorted(self.found, key=lambda one: -one[1])}
        return [sum(other <= nearest[id] for other in nearest.values()) for id in self.right if id in nearest]


class Evaluate(Exercise):
    """Two numbers for a search, and what they do about the awkward questions."""

    id = "7.8"
    title = "Recall@k and MRR"
    answer = "evaluate"
    minutes = 12
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Both numbers come from the places of the right passages. Write down first what the place of a passage is "
        "when others are at the same distance, and when one passage was found twice.",
        "For each question, keep every id with its smallest distance. The place of an id is then a count over these "
        "distances. A question that finds nothing has no places: what are its two numbers?",
        "`place = sum(other <= distance for other in nearest.values())`. The recall is divided by the number of "
        "right ones, found or not, and `statistics.fmean` is taken over the questions that have any.",
    )
    why = (
        "A search is compared by these numbers with what it was last week, so they must not move when nothing has "
        "changed. The order of equal distances is the database's whim: a place that counts all of them is the same in "
        "every run. A miss is a 0 and stays in the mean; only a question that nobody could answer is left out. "
        "Another choice for ties is the mean over all their orders; what matters is that it is written down."
    )
    follow_up = (
        "On 80 questions recall@5 went from .81 to .84. How do you find out whether the search is better, or whether "
        "other questions would have said the opposite?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`evaluate` returned None for questions that can be scored. | Did you forget `return`?",
        "not a pair": "`evaluate` returned {kind}, and two numbers were asked for. | `(recall, mrr)`, both means.",
        "wrong question": "The search was asked for {kind} that is none of the questions. | The text, as it came.",
        "not searched": "Of {n} questions, {missing} were not given to the search. "
        "| Every one that has right passages.",
        "wrong value": "With k = {k} and one right passage for each question, at the places {places}, the {metric} "
        "came out as {said}. | Places count from 1, and `k` is one of those that count.",
        "beyond k": "With k = {k} and one right passage for each question, at the places {places}, the {metric} came "
        "out as {said}. | Recall looks at the first `k`; the reciprocal rank at all that was found.",
        "several right": "With k = {k}, the {right} right passages of {n} questions, and {found} of them found, the "
        "{metric} came out as {said}. "
        "| A question's recall is the share of its own right passages; its rank is the first one's; then each question "
        "counts the same.",
        "nothing found": "Of {n} questions one found nothing and one nothing right, and the {metric} came out as "
        "{said}. | A miss counts: both of its numbers are 0.",
        "ties": "With k = {k}, and {n} passages at the same distance as the right one, the {metric} came out as "
        "{said}. | The list's order says nothing about equals: how many different passages are as near or nearer?",
        "found twice": "Where passages were found twice, the {metric} came out as {said}. "
        "| One passage has one place, by its smallest distance, and takes no other's.",
        "no right ones": "Of {n} questions one has no right passages, and {did}. "
        "| It cannot be scored: leave it out of both means.",
        "asked twice": "The same question stood in the list twice with other right passages, and the {metric} came out "
        "as {said}. | Each entry of the list counts.",
        "nothing to score": "Where no question could be scored, it {did}. "
        "| `(None, None)`: no mean is not a mean of 0.",
        "error swallowed": "The search failed, and the caller was given {said}. "
        "| A search that is down has not found nothing: let its error go on.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await self._one_right(attempt, "wrong value", [1, 2, K])
        await self._one_right(attempt, "beyond k", [1, K + 1, K + 4 + randbelow(9)])
        await self._several(attempt)
        nothing = [_case(9, [2]), Case([], frozenset([uuid4()])), Case(_found(5), frozenset([uuid4()]))]
        await self._scored(attempt, "nothing found", nothing, n=len(nothing))
        await self._ties(attempt)
        await self._twice(attempt)
        await self._without_right_ones(attempt)
        await self._same_question(attempt)
        for none in ([], [Case(_found(4), frozenset())]):
            await self._nothing_to_score(attempt, none)
        await self._fails(attempt)

    async def _one_right(self, attempt: Attempt, mistake: str, places: list[int]) -> None:
        cases = [_case(place + 3, [place]) for place in places]
        await self._scored(attempt, mistake, cases, k=K, places=", ".join(map(str, places)))

    async def _several(self, attempt: Attempt) -> None:
        """Among them one whose right passages are more than k, and one whose right passages are not all found."""
        lost = _case(6, [2, K + 2])
        cases = [
            _case(9, [1, 2, 4, 5, 6]),
            Case(lost.found, lost.right | {uuid4(), uuid4()}, lost.question),
            _case(2, [1]),
        ]
        right, found = (sum(map(len, those)) for those in ([c.right for c in cases], [c.places for c in cases]))
        before = await self._scored(attempt, "several right", cases, k=K, right=right, n=len(cases), found=found)
        changed = [Case(_found(7), case.right, case.question) for case in cases]  # the passages were replaced
        expect_news(attempt, before, await _evaluated(attempt, changed))

    async def _ties(self, attempt: Attempt) -> None:
        """The right one among its equals is the first of the list, the last, and one of two right ones."""
        n = 2 + randbelow(3)
        near, same = round(0.1 + randbelow(100) / 1000, 3), round(0.3 + randbelow(100) / 1000, 3)
        cases = []
        for right in ([1], [n + 1], [1, 2]):
            found = [(uuid4(), near), *((uuid4(), same) for _ in range(n + 1)), (uuid4(), 0.75)]
            cases.append(Case(found, frozenset(found[place][0] for place in right)))
        await self._scored(attempt, "ties", cases, k=K, n=n)

    async def _twice(self, attempt: Attempt) -> None:
        one, two, right = uuid4(), uuid4(), uuid4()
        cases = [
            Case([(one, 0.1), (one, 0.15), (two, 0.15), (two, 0.2), (right, 0.25)], frozenset([right])),
            Case([(right, 0.1), (one, 0.2), (right, 0.3)], frozenset([right, uuid4()])),
            Case([(one, 0.1), (two, 0.15), (one, 0.25), (two, 0.25), (right, 0.25)], frozenset([right])),
        ]
        await self._scored(attempt, "found twice", cases)

    async def _without_right_ones(self, attempt: Attempt) -> None:
        cases = [_case(6, [2]), Case(_found(4), frozenset()), _case(6, [K + 1])]
        try:
            said = await _evaluated(attempt, cases)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            raise attempt.wrong("no right ones", n=len(cases), did="it raised an error") from wrong
        for metric, value, wanted in zip(_metrics(), said, _reference(cases), strict=True):
            did = f"the {metric} came out as {_shown(value)}"
            attempt.expect(_same(value, wanted), "no right ones", n=len(cases), did=did)

    async def _same_question(self, attempt: Attempt) -> None:
        first = _case(8, [1])
        again = Case(first.found, frozenset([first.found[K][0]]), first.question)
        await self._scored(attempt, "asked twice", [first, again, _case(5, [2])])

    async def _nothing_to_score(self, attempt: Attempt, cases: list[Case]) -> None:
        try:
            said = await attempt.call(_Search(cases), _questions(cases), K)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            raise attempt.wrong("nothing to score", did="raised an error") from wrong
        right = is_list(said) and list(said) == [None, None]
        attempt.expect(right, "nothing to score", did=f"returned {quoted(said)}")

    async def _fails(self, attempt: Attempt) -> None:
        cases = [_case(5, [1]), _case(5, [2])]
        search = _Search(cases, fails=cases[1].question)
        try:
            said = quoted(await attempt.call(search, _questions(cases), K))
        except Wrong as wrong:
            if wrong.mistake != "raised" or wrong.__cause__ is search.error:
                if wrong.mistake == "raised":
                    return
                raise
            said = article(wrong.__cause__)
        raise attempt.wrong("error swallowed", said=said)

    async def _scored(self, attempt: Attempt, mistake: str, cases: list[Case], **numbers: object) -> list[Any]:
        """What the answer says of ``cases``; it has to be right."""
        said = await _evaluated(attempt, cases)
        for metric, value, wanted in zip(_metrics(), said, _reference(cases), strict=True):
            attempt.expect(_same(value, wanted), mistake, metric=metric, said=_shown(value), **numbers)
        return said


class _Search:
    """Finds for each question what its case says, and fails for one of them."""

    def __init__(self, cases: Sequence[Case], fails: str | None = None) -> None:
        self._found = {case.question: case.found for case in cases}
        self._fails = fails
        self.error = SearchDown("the index could not be read")
        self.asked: list[Any] = []

    async def __call__(self, question: Any) -> Found:
        self.asked.append(question)
        if type(question) is str and question == self._fails:
            raise self.error
        return list(self._found[question]) if type(question) is str and question in self._found else []


async def _evaluated(attempt: Attempt, cases: list[Case]) -> list[Any]:
    search = _Search(cases)
    said = await attempt.call(search, _questions(cases), K)
    known = {case.question for case in cases}
    for asked in search.asked:
        attempt.expect(type(asked) is str and asked in known, "wrong question", kind=article(asked))
    missing = {case.question for case in cases if case.right} - set(search.asked)
    attempt.expect(not missing, "not searched", n=len(cases), missing=len(missing))
    attempt.expect(said is not None, "nothing returned")
    attempt.expect(is_list(said) and len(said) == 2, "not a pair", kind=article_of_pair(said))
    return list(said)


def _questions(cases: Sequence[Case]) -> list[tuple[str, set[UUID]]]:
    return [(case.question, set(case.right)) for case in cases]


def _metrics() -> tuple[str, str]:
    return f"recall@{K}", "MRR"


def _reference(cases: Sequence[Case]) -> tuple[float, float]:
    """Both means."""
    able = [case for case in cases if case.right]
    recall: Callable[[Case], float] = lambda case: sum(place <= K for place in case.places) / len(case.right)  # noqa: E731
    ranks = [1 / min(case.places) if case.places else 0.0 for case in able]
    return math.fsum(map(recall, able)) / len(able), math.fsum(ranks) / len(able)


def _same(value: Any, wanted: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isclose(value, wanted, abs_tol=1e-9)


def _shown(value: Any) -> str:
    return f"{float(value):.3f}" if isinstance(value, Real) else article(value)


def _found(count: int) -> Found:
    """So many passages, nearest first, no two of them at the same distance."""
    steps = [1 + randbelow(40) for _ in range(count)]
    return [(uuid4(), sum(steps[: place + 1]) / 1000) for place in range(count)]


def _case(count: int, places: Sequence[int]) -> Case:
    found = _found(count)
    return Case(found, frozenset(found[place - 1][0] for place in places))
