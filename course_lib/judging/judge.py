"""One answer judged: an attempt prepared, the judge let loose on it, everything given back."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from course_lib.data.fresh import make_and_stay
from course_lib.errors import CourseError
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import crowd
from course_lib.judging.deadline import NeverEnds, Tasks, run_within
from course_lib.judging.exercise import Exercise, NotAttempted, Wrong
from course_lib.judging.leftovers import look_for_leftovers
from course_lib.judging.printed import Printed
from course_lib.judging.source import is_stub
from course_lib.judging.steps import Ended
from course_lib.judging.trouble import put_back_remark
from course_lib.judging.verdict import Finding, Verdict

JUDGE_SECONDS = 25  # for what a judge does itself; it takes one
MISSING = object()
"""In the place of an answer whose name is not defined."""
_BUILTINS = dict(vars(builtins))


async def judge_answer(
    exercise: Exercise, answer: Any, *, prepared: Callable[[Attempt], None] = lambda _: None
) -> Verdict:
    """The verdict on ``answer``, on a database of its own. The next one is unaffected, whatever the answer does.

    Args:
        exercise: which one.
        answer: what the learner's cell defined, or ``MISSING``.
        prepared: told when the database is there and the answer has not been called yet.

    Raises:
        CourseError: no server, or it lacks what it needs.
    """
    if answer is MISSING:
        return Verdict.of(exercise, Finding("not attempted", "not attempted", f"There is no `{exercise.answer}` yet."))
    if is_stub(answer):
        return Verdict.of(exercise, _stub())
    with _kept_quiet() as printed, _honest_builtins():
        async with make_and_stay(exercise.lesson, exercise.recipe) as (database, admin):
            finding = await _find(exercise, Attempt(exercise, answer, database, admin), prepared)
    finding.printed = printed.shown()
    return Verdict.of(exercise, finding)


async def _find(exercise: Exercise, attempt: Attempt, prepared: Callable[[Attempt], None]) -> Finding:
    """Judge, give everything back, and have what the answer left behind collected while nobody listens."""
    with _own_garbage(), _own_loop(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        finding = await _judge(exercise, attempt, prepared)
        if attempt.left_open:
            gc.unfreeze()  # what holds them may hang on something older; to look through all takes a fifth of a second
        gc.collect()  # a coroutine that was never awaited says so when it is collected
    forgotten = [str(warning.message) for warning in caught if "never awaited" in str(warning.message)]
    if forgotten and finding.state == "wrong":
        finding.remarks.append(f"An `await` is missing: {forgotten[0].removeprefix('coroutine ')}.")
    return finding


async def _judge(exercise: Exercise, attempt: Attempt, prepared: Callable[[Attempt], None]) -> Finding:
    finding = Finding("right")
    try:
        finding = await _opinion(exercise, attempt, prepared)
    finally:
        put_back = await attempt.close()
    if put_back:
        finding.remarks.append(put_back_remark(put_back))
    return finding


async def _opinion(exercise: Exercise, attempt: Attempt, prepared: Callable[[Attempt], None]) -> Finding:
    try:
        await attempt.prepare()
        prepared(attempt)
        if exercise.crowded and exercise.recipe != "empty":
            await crowd(attempt)
        await _judge_within(exercise.seconds + JUDGE_SECONDS, exercise, attempt)
        await look_for_leftovers(attempt)
    except NotAttempted:
        return _stub()
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


def _stub() -> Finding:
    return Finding("not attempted", "not attempted", "Not attempted yet.")


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
