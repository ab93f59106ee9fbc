"""Run somebody else's code and get control back, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import CodeType, FrameType
from typing import Any

GRACE_SECONDS = 0.3  # for a cancelled task to wind up
CANCELLATIONS = 3  # for code that catches them; what still runs after that is left behind


class OutOfTime(BaseException):
    """Raised inside code that keeps the processor busy; no ``except Exception`` swallows it."""


class NeverEnds(Exception):
    """The code had not come to its end when its time was over. Not a TimeoutError: the code may raise one itself."""


class Ended(Exception):
    """The code called ``exit()``, or was interrupted."""


async def run_within(seconds: float, call: Callable[[], Any]) -> Any:
    """``call()``, awaited where it returns something to await.

    A call that waits is cancelled; one that computes for ever is interrupted (by a signal, so in the main thread
    of a system that has them; elsewhere it is only cancelled).

    Raises:
        NeverEnds: it did not end in ``seconds``.
        Ended: it tried to end the process.
        Exception: whatever the code raised.
    """
    task = asyncio.ensure_future(_guarded(call))
    with _interrupt_busy_code(seconds):
        await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        for _ in range(CANCELLATIONS):
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE_SECONDS)
        raise NeverEnds
    if task.cancelled():
        raise Ended("CancelledError")
    error = task.exception()
    if isinstance(error, OutOfTime):
        raise NeverEnds from error
    if error is not None:
        raise error
    return task.result()


async def _guarded(call: Callable[[], Any]) -> Any:
    """Run ``call``; what would end the event loop itself is turned into ``Ended``."""
    try:
        result = call()
        if isinstance(result, Awaitable):
            result = await result
    except (SystemExit, KeyboardInterrupt) as error:
        raise Ended(type(error).__name__) from error
    return result


@contextlib.contextmanager
def _interrupt_busy_code(seconds: float) -> Iterator[None]:
    """While the block runs, raise OutOfTime in guarded code that has not let the event loop run for ``seconds``."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_alarm(_: int, frame: FrameType | None) -> None:
        if _stands_in(frame, _guarded.__code__):  # never break into the event loop itself
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS, GRACE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _stands_in(frame: FrameType | None, code: CodeType) -> bool:
    """True when ``code`` is among the running frames."""
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
