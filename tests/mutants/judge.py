"""Judges mutants in processes of their own: one that hangs or ends its process is known by that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from tests.mutants.answers import RightAnswer

SECONDS = 150  # a judge has a clock of its own, of less than half of that; then the process is ended
MANY = 150  # mutants for one process, since some leave things behind
MEMORY = 6 * 2**30  # bytes of addresses; a list that grows for ever ends there


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant: whether it was found out, and by which mistake."""

    killed: bool
    mistake: str
    sentence: str = ""


class Judge:
    """A process that judges one answer after the other. A new one takes its place when it dies."""

    def __init__(self) -> None:
        self.process: BaseProcess | None = None
        self.judged = 0

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def judge(self, answer: RightAnswer, source: str) -> Outcome:
        """The verdict on ``answer`` with ``source`` in the place of its own."""
        if self.process is None or not self.process.is_alive() or self.judged >= MANY:
            self.end()
            self._begin()
        self.judged += 1
        try:
            self.connection.send((answer, source))
            if self.connection.poll(SECONDS):
                outcome: Outcome = self.connection.recv()
                return outcome
        except (EOFError, OSError):
            self.end()
            return Outcome(True, "ended the process")
        self.end()
        return Outcome(True, "never ended")

    def renew(self) -> None:
        """The next answer is judged by a new process."""
        self.end()

    def _begin(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.judged = 0

    def end(self) -> None:
        """End the process, and wait until it has."""
        if self.process is not None:
            self.connection.close()
            self.process.join(timeout=2)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        self.process = None


def _serve(connection: Connection) -> None:
    """Judge what comes until nothing more does."""
    _prepare()
    while True:
        try:
            answer, source = connection.recv()
        except EOFError:
            return
        connection.send(_outcome(answer, source))


def _prepare() -> None:
    """No network, no progress of a learner, no words on the terminal, no end of memory."""
    from course_lib.settings import Settings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process; it is no verdict
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        os.environ.pop(name, None)
    Settings.model_config["env_file"] = None
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _outcome(answer: RightAnswer, source: str) -> Outcome:
    from course_lib.exercises import find_exercise, judge_answer

    try:
        with _a_place_for_modules():
            loaded = answer.load(source)
    except BaseException as error:
        return Outcome(True, "does not load", repr(error)[:300])
    try:
        verdict = asyncio.run(judge_answer(find_exercise(answer.exercise), loaded))
    except BaseException as error:
        return Outcome(True, "no verdict", repr(error)[:300])
    return Outcome(not verdict.passed, verdict.mistake, verdict.finding.sentence[:300])


@contextlib.contextmanager
def _a_place_for_modules() -> Iterator[None]:
    """What loading an answer prints is not shown."""
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):  # noqa: PTH123
        yield
