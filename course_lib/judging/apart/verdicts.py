"""Verdicts from a process of its own: what it found, or how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import asyncpg

from course_lib.data.fresh import FreshDatabase
from course_lib.errors import CourseError
from course_lib.judging.apart.process import Child, Outcome
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import one_line
from course_lib.judging.trouble import Before, clear_away, put_back_remark
from course_lib.judging.verdict import Finding, State, Verdict
from course_lib.postgres import sweep
from course_lib.postgres.databases import GENERATED_NAME
from course_lib.postgres.server import enter_server

SILENT_SECONDS = 2.0  # beyond the answer's own time, until code in C is taken to have no end
LONGEST = 4_000  # characters of a text
STATES = ("right", "wrong", "not attempted")


def home_of(exercise: Exercise) -> str:
    """Where another process finds it."""
    return f"{type(exercise).__module__}:{type(exercise).__qualname__}"


def silence_of(exercise: Exercise) -> float:
    """Seconds without a sign of life, after which a process that judges it is ended."""
    return exercise.seconds + SILENT_SECONDS


async def judge_apart(exercise: Exercise, cells: Sequence[str], silence: float | None = None) -> Verdict:
    """The verdict on what the cells define, from a process of its own.

    Waits without letting the event loop go on, so that nothing of the answer's runs here meanwhile.

    Args:
        exercise: which one.
        cells: the sources of the code cells above the check, in the order in which they are to be run.
        silence: seconds until code in C is taken to have no end; by default ``silence_of`` it.

    Raises:
        CourseError: no server, or no process to be had.
    """
    raised, outcome = "", Outcome(0)
    with Child() as child:
        place = len(cells)
        checks = {place: home_of(exercise)}
        for outcome in child.follow([*cells, ""], checks, silence=silence or silence_of(exercise)):
            if outcome.number != place and outcome.ended:
                return Verdict.of(exercise, await of_a_cell(exercise, outcome, cells[outcome.number]))
            raised = outcome.error or raised
    verdict = await verdict_of(exercise, outcome)
    if raised and outcome.found and outcome.found.get("missing"):
        verdict.finding.remarks.append(f"A cell above it raised {one_line(raised)}")
    return verdict


async def of_a_cell(exercise: Exercise, outcome: Outcome, source: str) -> Finding:
    """A cell above the check ended the process, so that there is nothing to judge."""
    await _clear_up()
    first = one_line(next(iter(source.strip().splitlines()), ""))
    sentence = f"A cell above the check {_end(outcome)}, so `{exercise.answer}` was not judged."
    return Finding("wrong", "ended the process", sentence, f"It begins with: `{first}`")


async def verdict_of(exercise: Exercise, outcome: Outcome) -> Verdict:
    """The verdict that a check came to; where it ended the process, what that left on the server is cleared away.

    Raises:
        CourseError: nothing was judged, and it is not the answer's doing.
    """
    found = outcome.found
    if found is None:
        put_back = await _clear_up(outcome.prepared)
        sentence = f"The process in which `{exercise.answer}` was judged {_end(outcome)}."
        finding = Finding("wrong", "endless" if outcome.late else "ended the process", sentence, _look(outcome))
        if put_back:
            finding.remarks.append(put_back_remark(put_back))
    elif "trouble" in found:
        raise CourseError(*map(_text, found["trouble"]))
    elif "changed" in found:
        sentence = f"The answer changed the judge: `{_text(found['changed'])}` is not what it was."
        finding = Finding("wrong", "changed the judge", sentence, "What belongs to the course stays as it is.")
    else:
        finding = _finding(found["finding"])
    return Verdict.of(exercise, finding)


def _end(outcome: Outcome) -> str:
    if outcome.silent:
        return f"ran no line of Python for {outcome.seconds:.0f} seconds and was ended"
    if outcome.closed:
        return "closed the file by which it tells its verdict, and was ended"
    if outcome.late:
        return f"had not come to its end after {outcome.seconds:.0f} seconds and was ended"
    how = outcome.ended
    return f"ended with {how}" if how.startswith("exit") else f"was ended by {how}"


def _look(outcome: Outcome) -> str:
    if outcome.silent:
        return "Look for a call into a library that does not return."
    if outcome.closed:
        return "Close only what your code has opened."
    if outcome.late:
        return "Look for what never ends, and catches what would end it."
    return "Look for what ends a process: `os._exit`, a signal, a crash in a library."


def _finding(values: Mapping[str, Any]) -> Finding:
    """As plain values, whatever was sent."""
    state = _text(values["state"])
    if state not in STATES:
        raise CourseError("The process that judges sent no verdict.", "Run the check again.")
    mistake, sentence, look, printed = (_text(values[name]) for name in ("mistake", "sentence", "look", "printed"))
    remarks = [_text(remark) for remark in values["remarks"]]
    return Finding(cast(State, state), mistake, sentence, look, printed, remarks)


def _text(value: object) -> str:
    return str(value)[:LONGEST]


async def _clear_up(prepared: Mapping[str, Any] | None = None) -> list[str]:
    """Drop what a process that was ended has left, and put the role's settings back; which ones."""
    put_back: list[str] = []
    with contextlib.suppress(CourseError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError):
        async with enter_server() as (server, connection):
            if prepared is not None and (server.pooled or GENERATED_NAME.match(str(prepared["name"]))):
                database = FreshDatabase(server, str(prepared["name"]))
                before = Before(int(prepared["oid"]), prepared["server"])
                put_back = await clear_away(database, connection, before, said=None)
            await sweep(connection, server.embedded)
    return put_back
