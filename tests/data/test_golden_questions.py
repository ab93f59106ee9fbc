"""The golden questions are what they say: answered where they say, in two halves alike, paraphrases in other words."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data import GoldenQuestion, documents, golden_questions

STEMS = text("SELECT tsvector_to_array(to_tsvector('english', :text))")
SHARED_AT_MOST = 2


def every() -> list[GoldenQuestion]:
    return [*golden_questions("tuning"), *golden_questions("test")]


@pytest.mark.parametrize("question", every(), ids=lambda question: question.id)
def test_the_answer_stands_in_the_paragraphs_that_are_named(question: GoldenQuestion) -> None:
    chunks = {document.source: document.chunks for document in documents()}
    assert question.passages and len(question.passages) == len(question.quotes)
    for (source, index), quote in zip(question.passages, question.quotes, strict=True):
        assert source.startswith(f"{question.user}/")
        assert quote in chunks[source][index]
    assert question.text.endswith(("?", ".")) and question.answer.endswith(".")


def test_the_halves_have_nothing_in_common_and_are_alike() -> None:
    tuning, test = golden_questions("tuning"), golden_questions("test")
    assert len({question.id for question in every()}) == 240
    assert len({question.text for question in every()}) == 235  # five texts are asked by two users, of the sixty
    assert not {question.text for question in tuning} & {question.text for question in test}
    assert set(golden_questions()) <= set(tuning)
    kinds = [Counter((question.user, question.kind) for question in half) for half in (tuning, test)]
    assert kinds[0] == kinds[1]
    assert set(kinds[0].values()) == {5, 10}


def test_forty_of_the_test_half_were_set_aside() -> None:
    fresh = [question for question in golden_questions("test") if question.fresh]
    assert Counter(question.kind for question in fresh) == {"paraphrase": 24, "identifier": 16}
    assert not any(question.fresh for question in golden_questions("tuning"))


async def test_paraphrases_are_in_other_words_than_the_paragraph(engine: AsyncEngine) -> None:
    """The first sixty are not held to it: they were written before it was counted."""
    chunks = {document.source: document.chunks for document in documents()}
    sixty = {question.id for question in golden_questions()}
    shared: dict[bool, list[int]] = {True: [], False: []}
    async with engine.connect() as connection:
        for question in every():
            if question.kind == "paraphrase":
                asked = set(await connection.scalar(STEMS, {"text": question.text}) or ())
                there = [await connection.scalar(STEMS, {"text": chunks[s][i]}) or () for s, i in question.passages]
                shared[question.id in sixty].append(max(len(asked.intersection(stems)) for stems in there))
    assert len(shared[False]) == 120
    assert max(shared[False]) <= SHARED_AT_MOST
    assert sum(shared[False]) / 120 <= sum(shared[True]) / 40  # no easier by their words than the sixty
