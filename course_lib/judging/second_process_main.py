"""What the second process does: it takes jobs from its standard input, and says in JSON what came of each."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import select
import signal
import struct
import sys
from typing import Any

from course_lib.db import make_engine, make_session_factory
from course_lib.judging.portable import made_from

IDLE_SECONDS = 60.0  # then it ends
JOB_SECONDS = 20  # longer than anybody waits for one
KEEPS = sys.platform == "linux"
HAS_SAID = 83  # how a fork ends when it has said what came of its job, and was not ended by the answer


def main() -> None:
    """Read jobs until there are no more. Nothing that an answer prints goes where the results do."""
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _say(out, {"ready": True})
    while (job := _next_job()) is not None:
        if not job:
            _say(out, {"ready": True})  # a judge asks whether somebody is here
        elif KEEPS:
            _in_a_child(out, job)
        else:
            _say(out, _result_of(job))
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


def _in_a_child(out: int, job: bytes) -> None:
    """Each job in a fork: what it leaves in memory is gone with it."""
    child = os.fork()
    if not child:
        _end_by_itself()
        _say(out, _result_of(job))
        os._exit(HAS_SAID)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != HAS_SAID:
        _say(out, {"died": True})


def _end_by_itself() -> None:
    """Whoever waits for a job may be gone before it ends, and nobody else would end it."""
    import resource  # not on Windows

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(JOB_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (JOB_SECONDS, JOB_SECONDS))


def _result_of(job: bytes) -> dict[str, Any]:
    try:
        asked: dict[str, Any] = pickle.loads(job)
        answer = made_from(asked["answer"])
    except Exception as error:  # what the cell needs is not to be had here
        return {"lacks": repr(error)[:200]}
    try:
        return {"value": asyncio.run(_called(answer, asked))}
    except NameError as error:
        return {"lacks": repr(error)[:200]}
    except Exception as error:
        return {"raised": type(error).__name__}


async def _called(answer: Any, asked: dict[str, Any]) -> Any:
    engine = make_engine(asked["url"])
    try:
        return await answer(make_session_factory(engine), *asked["arguments"])
    finally:
        await engine.dispose()


def _say(out: int, what: dict[str, Any]) -> None:
    try:
        line = json.dumps(what, default=repr)
    except Exception:  # of a value that cannot be shown either
        line = json.dumps({"value": "?"})
    os.write(out, line.encode() + b"\n")


if __name__ == "__main__":
    main()
