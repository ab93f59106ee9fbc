"""A fixed sample of the mutants is found out by the judges. All of them: ``make mutants``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest

from course_lib.exercises.manifest import manifest
from tests.mutants.__main__ import LESSONS
from tests.mutants.judge import Judge
from tests.mutants.mutate import find_mutant
from tests.mutants.results import EQUAL, SAMPLE, why_equal

KEYS = SAMPLE.read_text(encoding="utf-8").splitlines()
ANEW = "the answer was changed since; judge its lesson and choose anew: make mutants ARGS='--sample 60'"


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """A process that judges, as in a run over all of them."""
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize("key", KEYS, ids=[" ".join(key.split(" · ")[:3]) for key in KEYS])
@pytest.mark.soak(after=30)
def test_a_sampled_mutant_is_found_out(key: str, judge: Judge) -> None:
    mutant = find_mutant(key)
    assert mutant is not None, f"there is no such mutant, so {ANEW}"
    assert judge.judge(mutant.answer, mutant.source).killed, f"this passed: {key}"


def test_the_sample_has_all_exercises_and_none_that_is_equal() -> None:
    assert {key.partition(" ")[0] for key in KEYS} == {e.id for e in manifest() if e.lesson in LESSONS}
    assert not [key for key in KEYS if why_equal(key)]


def test_each_reason_for_being_equal_is_a_sentence() -> None:
    ids = {exercise.id for exercise in manifest()} | {"all"}
    for one in tomllib.loads(EQUAL.read_text(encoding="utf-8"))["equal"]:
        assert one["reason"].endswith("."), one
        assert {*one["exercises"], *one.get("but", ())} <= ids, one
        assert one["changes"] and all(one["changes"]), one
