"""What a kept process does: it takes jobs from its standard input, and says in JSON what came of each."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

IDLE_SECONDS = 60.0  # then it ends
KEEPS = sys.platform == "linux"
HAS_SAID = 83  # how a fork ends when it has said what came of its job, and was not ended by the answer

Say = Callable[[dict[str, Any]], None]


def serve(
    work: Callable[[bytes, Say], None],
    seconds: int,
    again: bool = False,
    load: Callable[[bytes], None] | None = None,
    forks: bool = False,
) -> None:
    """Read jobs until there are no more. Nothing that an answer prints goes where the results do.

    Args:
        work: does one job, and says what came of it.
        seconds: longer than anybody waits for one.
        again: whether one process may do several jobs where it cannot fork.
        load: imports what a job needs, before the fork, so that the next one finds it there.
        forks: whether the work forks too, by ``fork_again``; then it has no threads before that.
    """
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def say(what: dict[str, Any]) -> None:
        _say(out, what)

    say({"ready": True})
    while (job := _next_job()) is not None:
        if not job:
            say({"ready": True})  # a judge asks whether somebody is here
        elif KEEPS:
            if load is not None:
                load(job)
            _in_a_child(work, job, say, seconds, forks)
        else:
            work(job, say)
            if not again:
                return


def _next_job() -> bytes | None:
    if KEEPS and not select.select([0], [], [], IDLE_SECONDS)[0]:
        return None
    head = _exactly(4)
    return None if head is None else _exactly(struct.unpack(">I", head)[0])


def _exactly(count: int) -> bytes | None:
    got = b""
    while len(got) < count:
        piece = os.read(0, count - len(got))
        if not piece:
            return None
        got += piece
    return got


def _in_a_child(work: Callable[[bytes, Say], None], job: bytes, say: Say, seconds: int, forks: bool) -> None:
    """Each job in a fork: what it leaves in memory is gone with it."""
    child = os.fork()
    if not child:
        if forks:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)  # no fork of it inherits that
        else:
            _end_by_itself(seconds)
        work(job, say)
        os._exit(HAS_SAID)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != HAS_SAID:
        say({"died": True})


def fork_again(seconds: int) -> int:
    """A fork of a job that ``forks``: 0 in the child, which ends by itself as the job would."""
    child = os.fork()
    if not child:
        _end_by_itself(seconds)
    return child


def _end_by_itself(seconds: int) -> None:
    """Whoever waits for a job may be gone before it ends, and nobody else would end it."""
    import resource  # not on Windows

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    timer = threading.Timer(seconds, os._exit, (0,))  # the alarm clock is the work's
    timer.daemon = True
    timer.start()


def _say(out: int, what: dict[str, Any]) -> None:
    try:
        line = json.dumps(what, default=repr)
    except Exception:  # of a value that cannot be shown either
        line = json.dumps({"value": "?"})
    os.write(out, line.encode() + b"\n")
