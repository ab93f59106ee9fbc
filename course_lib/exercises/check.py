"""``check``, ``hint``, ``solution`` and ``progress``: what learners call."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

from course_lib.data.fresh import make_database
from course_lib.errors import CourseError
from course_lib.exercises.attempt import Attempt
from course_lib.exercises.deadline import NeverEnds, Tasks, run_within
from course_lib.exercises.exercise import Exercise, NotAttempted, Wrong, find_exercise
from course_lib.exercises.printed import Printed
from course_lib.exercises.progress import Progress, Record, take_remarks
from course_lib.exercises.source import is_stub
from course_lib.exercises.steps import Ended
from course_lib.exercises.verdict import CheckFailed, Finding, Verdict
from course_lib.settings import get_settings

JUDGE_SECONDS = 25  # for what a judge does itself; it takes one
_MISSING = object()
_BUILTINS = dict(vars(builtins))
_last: list[str] = []


def check(id: str, *, strict: bool | None = None) -> Coroutine[Any, Any, Verdict]:
    """Judge the answer to an exercise: ``await check("2.3")``.

    The answer is looked up by its name where ``check`` is called from.

    Args:
        id: the exercise.
        strict: raise ``CheckFailed`` instead of returning zero points; by default as ``COURSE_STRICT`` says,
            and always while nbgrader runs.

    Raises:
        CourseError: there is no such exercise, or no server.
        CheckFailed: see ``strict``.
    """
    namespace = sys._getframe(1).f_globals
    return _check(find_exercise(id), namespace, strict)


async def _check(exercise: Exercise, namespace: Mapping[str, Any], strict: bool | None) -> Verdict:
    _last[:] = [exercise.id]
    verdict = await judge_answer(exercise, namespace.get(exercise.answer, _MISSING))
    if verdict.passed:
        record = Record.load()
        if exercise.id not in record.passed:
            record.passed.append(exercise.id)
            record.save()
        verdict.finding.remarks += take_remarks()
    if strict is None:
        strict = get_settings().strict or "NBGRADER_EXECUTION" in os.environ
    if strict and not verdict.passed:
        raise CheckFailed(str(verdict))
    return verdict


async def judge_answer(exercise: Exercise, answer: Any) -> Verdict:
    """The verdict on ``answer``, on a database of its own. The next one is unaffected, whatever the answer does."""
    if answer is _MISSING:
        sentence = f"There is no `{exercise.answer}` yet. Write it in the cell above, run that cell, then this one."
        return Verdict.of(exercise, Finding("not attempted", "not attempted", sentence))
    if is_stub(answer):
        return Verdict.of(exercise, _stub(exercise))
    with _kept_quiet() as printed, _honest_builtins():
        attempt = Attempt(exercise, answer, await make_database(exercise.lesson, exercise.recipe))
        finding = await _find(exercise, attempt)
    finding.printed = printed.shown()
    return Verdict.of(exercise, finding)


async def _find(exercise: Exercise, attempt: Attempt) -> Finding:
    """Judge, give everything back, and have what the answer left behind collected while nobody listens."""
    with _own_garbage(), _own_loop(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        finding = await _judge(exercise, attempt)
        if finding.state != "right":
            gc.unfreeze()  # what a wrong answer left behind may hang on something older
        gc.collect()  # a coroutine that was never awaited says so when it is collected
    forgotten = [str(warning.message) for warning in caught if "never awaited" in str(warning.message)]
    if forgotten and finding.state == "wrong":
        finding.remarks.append(f"An `await` is missing: {forgotten[0].removeprefix('coroutine ')}.")
    return finding


async def _judge(exercise: Exercise, attempt: Attempt) -> Finding:
    finding = Finding("right")
    try:
        finding = await _opinion(exercise, attempt)
    finally:
        put_back = await attempt.close()
    if put_back:
        names = ", ".join(f"`{name}`" for name in put_back)
        finding.remarks.append(f"Your answer changed settings of the server's role: {names}. They were put back.")
    return finding


async def _opinion(exercise: Exercise, attempt: Attempt) -> Finding:
    try:
        await attempt.prepare()
        await _judge_within(exercise.seconds + JUDGE_SECONDS, exercise, attempt)
        await attempt.look_for_leftovers()
    except NotAttempted:
        return _stub(exercise)
    except Wrong as wrong:
        return await _mistaken(attempt, wrong)
    return Finding("right")


async def _judge_within(seconds: float, exercise: Exercise, attempt: Attempt) -> None:
    """The answer's calls have their own clock; this one is for whatever of its code runs when a judge looks at it."""
    name = exercise.answer
    try:
        await run_within(seconds, lambda: exercise.judge(attempt), Tasks())
    except (Wrong, NotAttempted, CourseError):
        raise
    except NeverEnds as late:
        if late.busy:
            raise Wrong("endless", f"Looking at what `{name}` made does not come to an end.") from late
        sentence = f"Judging did not come to an end in {seconds:.0f} seconds: the server or this machine is too slow."
        raise CourseError(sentence, "Run the check again.") from late
    except Ended as ended:
        raise Wrong("ended", f"It was interrupted, or `{name}` tried to end the program.") from ended
    except Exception as error:
        raise await attempt.explain(error) from error


async def _mistaken(attempt: Attempt, wrong: Wrong) -> Finding:
    """``wrong``, unless the server ran out of something meanwhile: then that is why."""
    try:
        await attempt.explain_shortage()
    except Wrong as shortage:
        wrong = shortage
    return Finding("wrong", wrong.mistake, wrong.sentence, wrong.look)


@contextlib.contextmanager
def _own_garbage() -> Iterator[None]:
    """Nothing is collected by chance, which would close an engine that the answer forgot, or not.

    And what was there before is not looked through: that takes a fifth of a second, and is no garbage of the answer.
    """
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _own_loop() -> Iterator[None]:
    """The event loop goes on telling of errors to whom it did before."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    try:
        yield
    finally:
        loop.set_exception_handler(handler)


def _stub(exercise: Exercise) -> Finding:
    sentence = f"Not attempted yet. Write `{exercise.answer}` in the cell above, run that cell, then this one."
    return Finding("not attempted", "not attempted", sentence)


@contextlib.contextmanager
def _kept_quiet() -> Iterator[Printed]:
    """Collect what is printed. A grader takes a word on stderr for a failure, whoever wrote it."""
    printed = Printed()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


@contextlib.contextmanager
def _honest_builtins() -> Iterator[None]:
    """Python's own builtins while judging, whatever a notebook has made of them."""
    theirs = dict(vars(builtins))
    vars(builtins).update(_BUILTINS)
    try:
        yield
    finally:
        vars(builtins).update(theirs)


class Hint(str):
    """A sentence that a notebook shows as text."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)


def hint(id: str | None = None, number: int | None = None) -> Hint:
    """The next hint of an exercise, or the one of that number: ``hint("2.3")``, ``hint("2.3", 2)``.

    Raises:
        CourseError: no such exercise or hint, or none was named and none checked yet.
    """
    exercise = find_exercise(_named(id, "hint"))
    record = Record.load()
    taken = record.hints.get(exercise.id, 0)
    wanted = number or min(taken + 1, len(exercise.hints))
    if not 1 <= wanted <= len(exercise.hints):
        raise CourseError(f"{exercise.id} has {len(exercise.hints)} hints.", f'Try: hint("{exercise.id}", 1)')
    record.hints[exercise.id] = max(taken, wanted)
    record.save()
    left = len(exercise.hints) - wanted
    more = f' ({left} more: `hint("{exercise.id}")`)' if left else f' (the last one; then: `solution("{exercise.id}")`)'
    return _with_remarks(f"Hint {wanted}: {exercise.hints[wanted - 1]}{more}")


def solution(id: str | None = None) -> Hint:
    """The solution, once you have passed the check, or when you ask a second time.

    Raises:
        CourseError: no such exercise.
    """
    from course_lib.exercises.book import solution_source

    exercise = find_exercise(_named(id, "solution"))
    record = Record.load()
    record.asked[exercise.id] = record.asked.get(exercise.id, 0) + 1
    record.save()
    if exercise.id not in record.passed and record.asked[exercise.id] < 2:
        return _with_remarks(f"You have not solved {exercise.id} yet. To see the solution all the same, ask again.")
    return _with_remarks(f"```python\n{solution_source(exercise)}\n```\n\n{exercise.why}")


def _with_remarks(text: str) -> Hint:
    """And what became of the record of hints and solutions, where it was no longer readable."""
    return Hint("\n\n".join([text, *take_remarks()]))


def progress() -> Progress:
    """What you have solved so far."""
    return Progress()


def _named(id: str | None, what: str) -> str:
    if id is not None:
        return id
    if not _last:
        raise CourseError(f"Which exercise is the {what} for?", f'Name it: {what}("1.1")')
    return _last[0]
