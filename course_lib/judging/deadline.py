"""Run somebody else's code and get control back, whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from weakref import WeakSet

from course_lib.judging.alarm import ringing
from course_lib.judging.steps import Ended, OutOfTime, Stepped, in_steps, leave_standing, stands_in_a_step

GRACE_SECONDS = 0.3  # for a cancelled task to wind up
CANCELLATIONS = 3  # for code that catches them; what still runs after that is not gone on with
INTERRUPTIONS = 3  # for busy code that catches them; what is still busy after that is left standing

Tasks = WeakSet[asyncio.Task[Any]]


class NeverEnds(Exception):
    """The code had not come to its end when its time was over. Not a TimeoutError: the code may raise one itself.

    ``busy`` is whether it computed, and did not wait for something.
    """

    def __init__(self, busy: bool) -> None:
        super().__init__(busy)
        self.busy = busy


async def run_within(seconds: float, call: Callable[[], Any], made: Tasks) -> Any:
    """``call()``, awaited where it returns something to await. Tasks that it makes are added to ``made``.

    A call that waits is cancelled; one that computes for ever is interrupted, and left standing where it will not
    end (by a signal, so in the main thread of a system that has them; elsewhere it is only cancelled).

    Raises:
        NeverEnds: it did not end in ``seconds``.
        Ended: it tried to end the process.
        Exception: whatever the code raised.
    """
    rung = 0

    def interrupt() -> None:
        nonlocal rung
        if not stands_in_a_step():  # never break into the event loop itself
            return
        rung += 1
        if rung > INTERRUPTIONS:
            leave_standing()
        raise OutOfTime

    with in_steps(made), ringing(interrupt, after=seconds + GRACE_SECONDS, every=GRACE_SECONDS):
        task = asyncio.ensure_future(Stepped(_called(call)))
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:  # its time is over, or whoever waits here is cancelled
            in_time = task.done()
            await end([task])
    if not in_time:
        raise NeverEnds(busy=rung > 0)
    if task.cancelled():
        raise Ended("CancelledError")
    error = task.exception()
    if isinstance(error, OutOfTime):
        raise NeverEnds(busy=True) from error
    if error is not None:
        raise error
    return task.result()


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel what has not ended; what catches that again and again is given up."""
    for last in (*[False] * CANCELLATIONS, True):
        left = [task for task in tasks if not task.done()]
        for task in left:
            coroutine = task.get_coro()
            if last and isinstance(coroutine, Stepped):
                coroutine.given_up = True
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=GRACE_SECONDS)


async def _called(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if isinstance(result, Awaitable) else result
