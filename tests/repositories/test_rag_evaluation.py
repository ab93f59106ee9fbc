"""Counting how good a search is: places, intervals, paired differences; and the goal, on questions never tuned on."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.data import GoldenQuestion, golden_questions
from course_lib.errors import CourseError
from course_lib.models import Document, User
from course_lib.repositories.rag import Passage, RagRepository, embed
from course_lib.repositories.rag.evaluation import difference, mean, places


def passage(source: str, index: int) -> Passage:
    return Passage(uuid4(), uuid4(), source, "Title", index, "text", 0.5)


def question(*passages: tuple[str, int]) -> GoldenQuestion:
    return GoldenQuestion("q", "u", "Why?", passages, ("",) * len(passages), "So.", "paraphrase", "test")


def test_the_place_of_the_first_right_one() -> None:
    found = [passage("a", 0), passage("b", 1), passage("a", 2), passage("b", 0)]
    asked = [question(("a", 2)), question(("b", 0), ("c", 1)), question(("c", 0))]
    assert places([found] * 3, asked, "document").tolist() == [1, 2, np.inf]
    assert places([found] * 3, asked, "passage").tolist() == [3, 4, np.inf]


def test_nothing_found_is_in_no_place() -> None:
    by = places([[], [passage("a", 0)]], [question(("a", 0)), question(("a", 0))], "passage")
    assert by.tolist() == [np.inf, 1]
    assert (mean(by <= 5).value, mean(1 / by).value) == (0.5, 0.5)


def test_a_list_for_each_question() -> None:
    with pytest.raises(CourseError, match="1 lists of passages for 2 questions"):
        places([[]], [question(), question()], "document")


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Known values, 81 of 96 and all of 30."""
    share = mean(np.arange(96) < 81)
    assert (share.value, share.low, share.high) == pytest.approx((0.84375, 0.7580, 0.9030), abs=5e-4)
    every = mean(np.full(30, True))
    assert (every.value, every.low, every.high) == pytest.approx((1, 0.8865, 1), abs=5e-4)
    assert mean([False] * 30).low == 0 and mean([False] * 30).high > 0.1


def test_the_bootstrap_agrees_with_the_normal_interval_and_with_itself() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 200)
    estimate = mean(values)
    half = 1.96 * values.std() / 200**0.5
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.004)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.004)
    assert mean(values) == estimate


def test_a_paired_difference_is_narrower_where_the_same_questions_are_hard() -> None:
    hard = np.random.default_rng(2).random(100)
    one, other = hard + 0.02, hard
    apart = difference(one, other)
    assert apart.value == pytest.approx(0.02) and apart.high - apart.low < 0.001 and apart.decided
    assert mean(one).low < mean(other).high  # unpaired they overlap widely
    assert not difference(hard, hard).decided
    assert difference(other, one).high < 0


def test_nine_to_six_is_undecided_and_nineteen_to_three_is_not() -> None:
    ahead, behind, both = np.repeat([[1, 0], [0, 1], [1, 1]], [9, 6, 45], axis=0).T, None, None
    assert behind is both and not difference(ahead[0] == 1, ahead[1] == 1).decided
    clear = np.repeat([[1, 0], [0, 1], [1, 1]], [19, 3, 38], axis=0).T == 1
    assert difference(clear[0], clear[1]).decided


def test_what_cannot_be_compared() -> None:
    with pytest.raises(CourseError, match="3 values cannot be paired with 2"):
        difference([1, 2, 3], [1, 2])
    with pytest.raises(CourseError, match="No questions"):
        mean([])


def test_an_estimate_reads_as_a_number_with_its_limits() -> None:
    assert str(mean([True] * 81 + [False] * 15)) == "0.84 [0.76, 0.90]"


async def test_the_goal_on_questions_that_nothing_was_tuned_on(session: AsyncSession) -> None:
    """Over the documents of all users, which for the length of a transaction belong to one."""
    questions = golden_questions("test")
    asked = await embed([question.text for question in questions])
    one = (await session.scalars(select(User.id).limit(1))).one()
    await session.execute(update(Document).values(user_id=one))
    rag = RagRepository(session)
    pairs = list(zip(questions, asked, strict=True))
    vectors = places([await rag.search(one, vector, 30) for _, vector in pairs], questions, "document")
    both = places([await rag.search_both(one, q.text, vector, 30) for q, vector in pairs], questions, "document")
    await session.rollback()

    identifier = np.array([question.kind == "identifier" for question in questions])
    fresh = np.array([question.fresh for question in questions])
    assert mean(both <= 5).value >= 0.85
    assert mean(both[fresh] <= 5).value >= 0.85
    assert mean(both[identifier] <= 5).value >= 0.95
    assert difference(1 / both, 1 / vectors).low > 0
