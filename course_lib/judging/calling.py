"""One call of an answer: what it returns, made plain, or what it raised."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from types import FunctionType, MethodType
from typing import Any

from sqlalchemy.exc import IllegalStateChangeError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.exercise import Wrong
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import one_line

LEFT_BEHIND_SECONDS = 0.5  # for a task to come to its end


class PatientSession(AsyncSession):
    """Its closing bears with a task that the answer has left behind and that still uses it, as ``gather`` does."""

    async def close(self) -> None:
        patience = time.monotonic() + LEFT_BEHIND_SECONDS
        while time.monotonic() < patience:
            try:
                await super().close()
                break
            except (IllegalStateChangeError, InterfaceError):  # the session, or its connection, is in use
                await asyncio.sleep(0.01)


class Raised(Exception):
    """The answer raised ``error``; its sentence was made inside the clock, since that may run code of the answer."""

    def __init__(self, error: BaseException, sentence: str) -> None:
        self.error = error
        self.sentence = sentence


async def result_of(target: Callable[..., Any], call: Callable[[], Any], name: str) -> Any:
    """What the call returns, plain. To be run inside the clock: whatever is asked of the answer may run its code."""
    awaited = inspect.iscoroutinefunction(target)
    result = call()
    if isinstance(result, Awaitable):
        awaited, result = True, await result
    if isinstance(result, Awaitable):
        if inspect.iscoroutine(result):
            result.close()
        raise Wrong("forgotten await", f"`{name}` returned a coroutine: an `await` is missing before a call.")
    if not awaited and inspect.isroutine(target):
        kind = "yields, and is to return" if inspect.isasyncgen(result) else "is a plain function"
        raise Wrong("not async", f"`{name}` {kind}; the database is awaited here.", "Write `async def`.")
    return plain(result, name)


def name_of(target: Any, otherwise: str) -> str:
    """The function's own name; other objects may run code when they are asked."""
    return one_line(target.__name__) if type(target) in (FunctionType, MethodType) else otherwise
