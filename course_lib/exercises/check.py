"""``check``, ``hint``, ``solution`` and ``progress``: what learners call."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

from course_lib.commands import call
from course_lib.errors import CourseError
from course_lib.exercises.manifest import find_exercise
from course_lib.exercises.progress import Progress
from course_lib.judging.apart.asides import is_aside
from course_lib.judging.apart.inside import is_inside
from course_lib.judging.board import report
from course_lib.judging.exercise import Exercise
from course_lib.judging.judge import MISSING, judge_answer
from course_lib.judging.record import Record, take_remarks
from course_lib.judging.verdict import CheckFailed, Finding, Verdict
from course_lib.origin import running_shell
from course_lib.settings import get_settings

_last: list[str] = []


def check(id: str, *, strict: bool | None = None) -> Coroutine[Any, Any, Verdict]:
    """Judge the answer to an exercise: ``await check("2.3")``.

    The answer is looked up by its name where ``check`` is called from. A strict check in a notebook judges it in a
    process of its own, made from the cells that were run so far, and takes most of a second more.

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
    if is_inside():
        return Verdict.of(exercise, Finding("not attempted", "not attempted", "It is judged after this cell."))
    if strict is None:
        strict = get_settings().strict or "NBGRADER_EXECUTION" in os.environ
    cells = _cells_so_far(namespace) if strict else None
    if cells is None:
        verdict = await judge_answer(exercise, namespace.get(exercise.answer, MISSING))
    else:
        from course_lib.judging.apart.verdicts import judge_apart

        verdict = await judge_apart(exercise, cells)
    take_note(verdict)
    if strict and not verdict.passed:
        raise CheckFailed(str(verdict))
    return verdict


def take_note(verdict: Verdict) -> None:
    """Remember an exercise that was solved, which the verdict says where it is not possible; tell a class's board."""
    report(verdict)
    if verdict.passed:
        record = Record.load()
        if verdict.exercise.id not in record.passed:
            record.passed.append(verdict.exercise.id)
            record.save()
        verdict.finding.remarks += take_remarks()


def _cells_so_far(namespace: Mapping[str, Any]) -> list[str] | None:
    """The sources of what was run in this notebook, the current cell too; None where ``namespace`` is no notebook's."""
    shell = running_shell()
    if shell is None or shell.user_ns is not namespace:
        return None
    return [source for source in shell.history_manager.input_hist_raw if source and not is_aside(source)]


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
    if is_inside():
        return Hint("")
    record = Record.load()
    taken = record.hints.get(exercise.id, 0)
    wanted = number or min(taken + 1, len(exercise.hints))
    if wanted not in range(1, len(exercise.hints) + 1):
        raise CourseError(f"{exercise.id} has {len(exercise.hints)} hints.", f"Try: {call('hint', exercise.id, 1)}")
    wanted = int(wanted)
    record.hints[exercise.id] = max(taken, wanted)
    record.save()
    left = len(exercise.hints) - wanted
    more, ask = (f"{left} more", "hint") if left else ("the last; then", "solution")
    return _with_remarks(f"Hint {wanted}: {exercise.hints[wanted - 1]} ({more}: `{call(ask, exercise.id)}`)")


def solution(id: str | None = None) -> Hint:
    """The solution, once you have passed the check, or when you ask a second time.

    Raises:
        CourseError: no such exercise.
    """
    from course_lib.exercises.book import solution_source

    exercise = find_exercise(_named(id, "solution"))
    if is_inside():
        return Hint("")
    record = Record.load()
    record.asked[exercise.id] = record.asked.get(exercise.id, 0) + 1
    record.save()
    if exercise.id not in record.passed and record.asked[exercise.id] < 2:
        return _with_remarks(
            f"You have not solved {exercise.id} yet. To see the solution all the same, ask again: "
            f"`{call('solution', exercise.id)}`"
        )
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
        raise CourseError(f"Which exercise is the {what} for?", f"Name it: {call(what, '1.1')}")
    return _last[0]
