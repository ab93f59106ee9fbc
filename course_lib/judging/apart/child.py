"""The process in which an answer is judged: it runs the cells, judges, tells what it found, and ends."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from course_lib.errors import CourseError
from course_lib.judging.apart.cells import Shell, make_shell, run_cell
from course_lib.judging.apart.changes import Picture, changed, picture
from course_lib.judging.apart.inside import go_inside
from course_lib.judging.apart.wire import writer
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.judge import MISSING, judge_answer
from course_lib.judging.quoting import sentence_of
from course_lib.judging.verdict import Finding
from course_lib.postgres import databases, lives

TICK_SECONDS = 0.5
PATIENCE = 10.0  # seconds until we are ended
LONGEST = 4_000  # characters of a text
WHOEVER_STARTED_US_DIED = 1  # PR_SET_PDEATHSIG of Linux

Say = Callable[..., None]


def main() -> NoReturn:
    """Read the job from standard input, do it, end."""
    _end_with_our_parent()
    job = json.loads(sys.stdin.buffer.readline())
    channel = os.dup(1)  # inherited by nobody
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    say = writer(channel, bytes.fromhex(job.pop("secret")))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # but in cells
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda *_: None)
    try:
        _tell_all(loop, job, say)
        _give_back()
    except OSError:  # our file was closed by an answer, and whoever started us sees that
        time.sleep(PATIENCE)
    finally:
        os._exit(0)


def _tell_all(loop: asyncio.AbstractEventLoop, job: dict[str, Any], say: Say) -> None:
    try:
        loop.run_until_complete(_work(job, say))
    except BaseException as error:  # what nobody foresaw
        say("failed", error=sentence_of(error))
    else:
        say("end")


def _end_with_our_parent() -> None:
    """Elsewhere than on Linux, the first word that nobody takes ends us."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(WHOEVER_STARTED_US_DIED, signal.SIGKILL)


def _give_back() -> None:
    """Lessons that cells have opened drop their databases; the file that says that we live goes."""
    atexit._run_exitfuncs()
    if not databases._made:
        lives.forget_own_life()


async def _work(job: dict[str, Any], say: Say) -> None:
    if job["folder"] is not None:
        os.chdir(job["folder"])
    exercises = {int(number): _exercise(home) for number, home in job["checks"].items()}
    shell = make_shell()
    _hide()
    go_inside()
    before = picture()
    threading.Thread(target=_tick, args=(say,), daemon=True).start()
    for number, source in enumerate(job["cells"]):
        if number in exercises:
            say("judging", number=number)
            say("found", number=number, **await _judged(exercises[number], shell, before, say))
        elif source:
            say("running", number=number)
            say("ran", number=number, error=await run_cell(shell, source))


def _exercise(home: str) -> Exercise:
    module, _, name = home.partition(":")
    exercise: Exercise = getattr(import_module(module), name)()
    return exercise


def _hide() -> None:
    """Who imports this module or the one that compares gets another copy."""
    for name in ("child", "changes", "wire"):
        module = sys.modules.pop(f"course_lib.judging.apart.{name}", None)
        if module is not None:
            delattr(sys.modules["course_lib.judging.apart"], name)


def _tick(say: Say) -> None:
    """Tell that the interpreter still runs Python: code in C that never gives it back stops this."""
    while True:
        time.sleep(TICK_SECONDS)
        try:
            say("tick")
        except BrokenPipeError:  # nobody listens
            os._exit(0)
        except OSError:
            return


async def _judged(exercise: Exercise, shell: Shell, before: Picture, say: Say) -> dict[str, Any]:
    """Only plain values: a finding, or what kept the judge from one."""
    if place := changed(before):
        return {"changed": place}
    answer = shell.user_ns.get(exercise.answer, MISSING)

    def prepared(attempt: Attempt) -> None:
        assert attempt.before is not None  # it is prepared
        say("prepared", name=attempt.database.name, oid=attempt.before.oid, server=attempt.before.server)

    found: dict[str, Any]
    try:
        finding = (await judge_answer(exercise, answer, prepared=prepared)).finding
        found = {"finding": _plain(finding), "missing": answer is MISSING}
    except CourseError as error:
        found = {"trouble": [error.sentence, error.mend]}
    except Exception as error:
        found = {"trouble": [f"Judging {exercise.id} failed: {sentence_of(error)}", "Run the check again."]}
    place = changed(before)
    return {"changed": place} if place else found


def _plain(finding: Finding) -> dict[str, Any]:
    texts = {name: _cut(getattr(finding, name)) for name in ("state", "mistake", "sentence", "look", "printed")}
    return {**texts, "remarks": [_cut(remark) for remark in finding.remarks]}


def _cut(text: str) -> str:
    return str(text)[:LONGEST]
