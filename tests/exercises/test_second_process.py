"""The second process that runs an answer: it has nothing of this one but the source, and no answer can break it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, ClassVar

import pytest
from sqlalchemy import text

from course_lib.exercises import judge_answer
from course_lib.judging import second_process as machinery
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.portable import made_from, portable
from course_lib.judging.second_process import Told, second_process

SEEN: dict[str, int] = {}


class Asked(Exercise):
    """Calls the answer over there, twice, and keeps what was told."""

    id, title, answer, hints, why, follow_up = "0.1", "Elsewhere", "answer", (), "", ""
    told: ClassVar[list[Told | None]] = []

    async def judge(self, attempt: Attempt) -> None:
        async with second_process(attempt) as other:
            self.told.clear()
            assert other is not None
            self.told.extend([await other.call("a"), await other.call("b")])


async def told_of(answer: Any) -> list[Told | None]:
    verdict = await judge_answer(Asked(), answer)
    assert verdict.passed, str(verdict)
    return list(Asked.told)


async def another_interpreter(sessions: Any, word: str) -> list[Any]:
    SEEN[word] = SEEN.get(word, 0) + 1
    return [os.getpid(), hash("word"), time.strftime("%z"), len(SEEN)]


async def in_the_database(sessions: Any, word: str) -> Any:
    print("this goes nowhere")
    async with sessions() as session:
        return await session.scalar(text("SELECT current_database() || :word"), {"word": word})


async def gone_at_once(sessions: Any, word: str) -> Any:
    os._exit(7 if word == "a" else 0)


async def fails(sessions: Any, word: str) -> Any:
    raise LookupError(word)


async def lacks(sessions: Any, word: str) -> Any:
    return nobody_knows  # type: ignore[name-defined] # noqa: F821


async def never_ends(sessions: Any, word: str) -> Any:
    while True:
        pass


class Keeps:
    """A class that remembers for all of its kind."""

    kept: ClassVar[list[str]] = []

    def keep(self, what: str) -> list[str]:
        self.kept.append(what)
        return self.kept


async def test_it_shares_nothing_with_this_process() -> None:
    first, second = await told_of(another_interpreter)
    assert first is not None and second is not None
    assert first.value[0] != os.getpid()
    assert first.value[1] != hash("word")
    assert first.value[2] != time.strftime("%z")
    assert [first.value[3], second.value[3]] == [1, 1], "what one call leaves in memory the next does not find"
    assert SEEN == {}


async def test_it_works_in_the_attempts_database_and_what_is_printed_does_not_disturb() -> None:
    first, second = await told_of(in_the_database)
    assert first is not None and second is not None
    assert first.value[:-1] == second.value[:-1]
    assert (first.value[-1], second.value[-1]) == ("a", "b")


async def test_errors_are_told_by_their_class() -> None:
    assert await told_of(fails) == [Told(raised="LookupError")] * 2


async def test_a_name_that_is_not_there_tells_nothing() -> None:
    assert await told_of(lacks) == [None, None]


async def test_a_process_that_is_ended_is_told_and_the_next_check_has_another() -> None:
    assert await told_of(gone_at_once) == [Told(late=True)] * 2
    assert await told_of(fails) == [Told(raised="LookupError")] * 2


async def test_a_call_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinery, "CALL_SECONDS", 0.2)
    assert await told_of(never_ends) == [Told(late=True), None]
    monkeypatch.undo()
    assert await told_of(fails) == [Told(raised="LookupError")] * 2


def test_a_function_within_another_cannot_be_had() -> None:
    factor = 2

    async def double(sessions: Any, number: int) -> int:
        return factor * number

    assert portable(double) is None
    assert portable(print) is None


def test_a_class_is_made_anew_with_nothing_that_it_keeps() -> None:
    made = portable(Keeps)
    assert made is not None
    Keeps.kept.append("here")
    anew = made_from(made)
    assert anew is not Keeps and anew().keep("there") == ["there"] and Keeps.kept == ["here"]
    assert portable(int) is None


def test_an_answer_is_made_of_its_cell_and_of_the_names_that_it_takes_from_others() -> None:
    made = portable(another_interpreter)
    assert made is not None
    assert made_from(made) is not another_interpreter
    assert asyncio.run(made_from(made)(None, "x"))[0] == os.getpid()
