"""What an answer returns, raises and prints is foreign: no code of its own decides whether it is right."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises import Verdict, judge_answer
from course_lib.exercises.lesson_00 import TitlesOf
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.foreign import plain
from course_lib.models import User
from tests.exercises.tortured import CountUsers, right, verdict_on


class YesMan:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


class EqualInt(YesMan, int):
    pass


class EqualFloat(YesMan, float):
    pass


class EqualText(YesMan, str):
    pass


class Posing(YesMan):
    __class__ = int  # type: ignore[assignment]


class Unequal(int):
    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")

    __hash__ = int.__hash__


class Unformatted(int):
    def __format__(self, spec: str) -> str:
        raise ValueError("not to be shown")

    __repr__ = __str__ = lambda self: self.__format__("")


class Recursive:
    def __repr__(self) -> str:
        return repr(self)


class Untouchable(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ValueError("not to be looked at")


class Touchy(metaclass=Untouchable):
    def __getattr__(self, name: str) -> Any:
        raise ValueError("not to be looked at")


def returning(value: Any) -> Callable[[AsyncSession], Any]:
    async def count(session: AsyncSession) -> Any:
        return value

    return count


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {  # made late, as pytest looks at what it is given
    "an int that equals everything": (lambda: EqualInt(7_777), "wrong number"),
    "such a float": (lambda: EqualFloat(7_777), "wrong number"),
    "such a text": (lambda: EqualText("x"), "wrong number"),
    "such an object": (YesMan, "foreign value"),
    "an object that says it is an int": (Posing, "foreign value"),
    "a mock": (lambda: MagicMock(spec=int, __eq__=lambda *_: True), "foreign value"),
    "an int that cannot be compared": (lambda: Unequal(7_777), "wrong number"),
    "an int that cannot be shown": (lambda: Unformatted(7_777), "wrong number"),
    "an object with an endless repr": (Recursive, "wrong number"),
    "an object that raises when touched": (Touchy, "raised"),
    "a class that raises when touched": (lambda: Touchy, "raised"),
    "a long number": (lambda: 10**100_000, "wrong number"),
    "a long number in a list": (lambda: [10**100_000], "wrong number"),
    "a long text": (lambda: "x" * 20_000_000, "wrong number"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_value_is_right_or_breaks_the_judge_by_what_it_does(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    value, mistake = HOSTILE[name]
    verdict = await verdict_on(returning(value()))
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), str(verdict)
    assert len(str(verdict)) < 600
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_answer_that_is_no_function_is_not_looked_into(name: str) -> None:
    assert (await verdict_on(HOSTILE[name][0]())).state == "wrong"


class Endless(list[str]):
    def __iter__(self) -> Iterator[str]:
        while True:
            yield "x"

    def __len__(self) -> int:
        return 3


class EndlessSequence(Sequence[str]):
    def __getitem__(self, place: Any) -> Any:
        return "x"

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[str]:
        while True:
            time.sleep(0.01)
            yield "x"


@pytest.mark.parametrize(
    ("value", "mistake"), [(Endless(), "missing"), (EndlessSequence(), "endless")], ids=["list", "sequence"]
)
async def test_endless_iteration_comes_to_an_end(value: Any, mistake: str) -> None:
    async def titles_of(session: AsyncSession, email: str) -> Any:
        return value

    exercise = TitlesOf()
    exercise.seconds = 2.0  # type: ignore[misc]
    assert (await judge_answer(exercise, titles_of)).mistake == mistake


async def test_what_an_answer_sets_on_an_object_is_looked_at() -> None:
    async def count(session: AsyncSession) -> Any:
        user = (await session.scalars(select(User).limit(1))).one()
        user.__dict__["name"] = EqualText("x")
        return user

    assert (await verdict_on(count)).mistake == "foreign value"


def test_honest_values_stay_what_they_are() -> None:
    from dataclasses import dataclass
    from enum import StrEnum

    Pair = namedtuple("Pair", "title count")

    class Colour(StrEnum):
        RED = "red"

    @dataclass
    class Page:
        title: str

    page, user = Page("a"), User(name="x")
    assert plain(page, "f") is page
    assert plain(user, "f") is user
    assert plain(Pair("a", 1), "f").title == "a"
    assert type(plain(Colour.RED, "f")) is str
    deep: dict[Any, Any] = {"a": [(1, {2.5}), None, UUID(int=1)], ("b",): {"c": b"d"}}
    assert plain(deep, "f") == deep


def test_values_too_many_or_too_deep_are_a_sentence() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value, words in ((loop, "deep"), ([[] for _ in range(100_001)], "more than 100,000")):
        with pytest.raises(Wrong, match=words):
            plain(value, "f")


# -- what answers raise ------------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("mute")


class Babble(Exception):
    def __str__(self) -> str:
        while True:
            time.sleep(0.01)


HostileName = type("<img src=x onerror=alert(1)>\x1b[31m`*_", (Exception,), {})


@pytest.mark.parametrize(
    ("error", "mistake", "words"),
    [
        (ValueError("x" * 20_000_000), "raised", "ValueError: xxx"),
        (ValueError("a\x1b[31mb\x00c\nd"), "raised", "ValueError: ab c"),
        (Mute(), "raised", "Mute"),
        (Babble(), "endless", "2 seconds"),
        (HostileName("x"), "raised", "img"),
        (ExceptionGroup("several", [ExceptionGroup("in it", [KeyError("k")])]), "raised", "a KeyError in it: 'k'"),
        (GeneratorExit(), "raised", "GeneratorExit"),
        (StopIteration(1), "raised", "RuntimeError"),
        (StopAsyncIteration(), "raised", "StopAsyncIteration"),
        (MemoryError(), "raised", "MemoryError"),
        (RecursionError("deep"), "raised", "RecursionError: deep"),
        (KeyboardInterrupt(), "ended", "end the program"),
        (SystemExit(3), "ended", "end the program"),
        (asyncio.CancelledError(), "ended", "end the program"),
        (BaseException(), "raised", "BaseException"),
    ],
    ids=lambda value: type(value).__name__[:20] if isinstance(value, BaseException) else "",
)
async def test_whatever_is_raised_is_one_short_sentence(
    error: BaseException, mistake: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def count(session: AsyncSession) -> Any:
        raise error

    verdict = await verdict_on(count)
    assert (verdict.mistake, words in verdict.finding.sentence) == (mistake, True), str(verdict)
    assert len(verdict.finding.sentence) <= 300
    assert verdict.finding.sentence.isprintable()
    assert "<img" not in verdict._repr_html_() + verdict._repr_markdown_()
    assert capfd.readouterr() == ("", "")


async def test_errors_of_tasks_that_are_left_behind_stay_in_the_check(capfd: pytest.CaptureFixture[str]) -> None:
    async def late() -> None:
        await asyncio.sleep(0.2)
        raise ValueError("late")

    async def at_once() -> None:
        raise SystemExit(3)

    async def count(session: AsyncSession) -> Any:
        loop = asyncio.get_running_loop()
        kept.extend(loop.create_task(work()) for work in (late, at_once))
        loop.call_exception_handler({"message": "mine", "exception": ValueError("handled")})
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        return await right(session)

    kept: list[Any] = []
    assert (await verdict_on(count)).passed
    kept.clear()
    await asyncio.sleep(0.4)
    assert capfd.readouterr().err == ""


# -- what answers print ------------------------------------------------------------------------------------------


async def test_a_verdict_shows_the_beginning_of_what_was_printed() -> None:
    async def count(session: AsyncSession) -> int:
        print("x" * 20_000_000)
        sys.stderr.write("\x1b[31mred\x1b[0m\n")
        for number in range(200_000):
            print(number)
        return 0

    exercise = CountUsers()
    exercise.seconds = 30.0  # type: ignore[misc]
    verdict = await judge_answer(exercise, count)
    assert verdict.mistake == "wrong number"
    lines = verdict.finding.printed.splitlines()
    assert len(lines) <= 9
    assert max(map(len, lines)) <= 160
    assert "more lines" in lines[-1]
    assert len(verdict._repr_html_()) < 4_000


# -- what does not want to end -----------------------------------------------------------------------------------


async def swallows_everything(session: AsyncSession) -> None:
    while True:
        try:
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(5)  # noqa: ASYNC251
        except BaseException:
            pass
        finally:
            continue  # noqa: B012


async def ignores_the_signal(session: AsyncSession) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        with contextlib.suppress(Exception):
            sum(range(1000))


async def blocks_the_signal(session: AsyncSession) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True:
        sum(range(1000))


async def busy_in_a_task(session: AsyncSession) -> None:
    await asyncio.gather(swallows_everything(session), asyncio.sleep(0.1))


async def waits_and_swallows(session: AsyncSession) -> None:
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(0.1)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="busy code is interrupted by a signal")
@pytest.mark.parametrize(
    "answer", [swallows_everything, ignores_the_signal, blocks_the_signal, busy_in_a_task, waits_and_swallows]
)
@pytest.mark.soak(after=2)
async def test_code_that_will_not_end_is_left_behind(answer: Any) -> None:
    handler, mask = signal.getsignal(signal.SIGALRM), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    start = time.monotonic()
    verdict: Verdict = await verdict_on(answer)
    assert verdict.mistake == "endless"
    assert time.monotonic() - start < 8
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


class Labyrinth:
    """Nothing is wrong with it until an attribute is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        while True:
            time.sleep(0.01)


class Trap:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise SystemExit(name)


class Broken:
    @property
    def title(self) -> str:
        raise ValueError("no title")


class Reading(CountUsers):
    """A judge that reads an attribute of what was returned."""

    async def judge(self, attempt: Attempt) -> None:
        said = await attempt.call()
        attempt.expect(said.title == "x", "wrong number", said=said)


@pytest.mark.parametrize(
    ("made", "mistake", "words"),
    [
        (Labyrinth, "endless", "does not come to an end"),
        (Trap, "ended", "end the program"),
        (Broken, "raised", "no title"),
    ],
)
async def test_what_a_judge_reads_later_has_a_clock_too(
    made: Callable[[], Any], mistake: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count() -> Any:
        return made()

    monkeypatch.setattr(import_module("course_lib.judging.judge"), "JUDGE_SECONDS", 1)
    verdict = await judge_answer(Reading(), count)
    assert (verdict.mistake, words in str(verdict)) == (mistake, True), str(verdict)
    assert (await judge_answer(CountUsers(), right)).passed
