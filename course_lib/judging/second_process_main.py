"""What the second process does with a job: it makes the answer anew and calls it."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

from course_lib.db import make_engine, make_session_factory
from course_lib.judging.kept_process_main import Say, serve
from course_lib.judging.portable import made_from

JOB_SECONDS = 20  # longer than anybody waits for one


def _work(job: bytes, say: Say) -> None:
    say(_result_of(job))


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


if __name__ == "__main__":
    serve(_work, JOB_SECONDS)
