"""■ reaches a cell that awaits.

ipykernel has a handler for it, which asks the event loop to cancel the cell. It asks by ``call_soon``, and a loop that
waits in ``select()`` is not woken by that: seen with ipykernel 6.22 to 7.4, tornado 6.1 to 6.6, the cell goes on until
something else wakes the loop. ``call_soon_threadsafe`` wakes it.

What goes on: threads, tasks that other cells made, a library's coroutine until it next gives way, and code that
swallows the cancellation, until the next press. On Windows, where no handler wakes ``select()``, this was not tried.
"""

from __future__ import annotations

import _thread
import asyncio
import signal
import threading
from collections.abc import Callable
from inspect import CO_COROUTINE
from types import FrameType
from typing import Any

from course_lib.kernel.folding import is_own

OF_IPYKERNEL = "IPythonKernel._cancel_on_sigint"
PATIENCE_SECONDS = 0.5  # for the loop to come round


def arm() -> None:
    """Take over from ipykernel's handler, where that is in place: in the task of a cell that awaits.

    ipykernel takes its own away when the cell ends, and this one with it. Subshells have no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    earlier = getattr(signal.getsignal(signal.SIGINT), "__qualname__", "")
    if earlier.startswith(OF_IPYKERNEL) and (cell := asyncio.current_task()) is not None:
        signal.signal(signal.SIGINT, _handler(cell, asyncio.get_running_loop()))


def _handler(cell: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Callable[[int, FrameType | None], None]:
    presses = 0

    def stop(_: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        running, own = asyncio.current_task(loop), _is_in_own_code(frame)
        if own and running is cell:
            raise KeyboardInterrupt  # it computes, as a cell without await would
        came_round = threading.Event()
        _thread.start_new_thread(_press_again, (came_round,))  # threading.Thread takes a lock, which may be held here

        def cancel() -> None:
            came_round.set()
            cell.cancel()

        loop.call_soon_threadsafe(cancel)
        if own and running is not None and presses > 1:
            raise asyncio.CancelledError  # another task that gives way to nobody; KeyboardInterrupt would end the loop

    return stop


def _press_again(came_round: threading.Event) -> None:
    if not came_round.wait(PATIENCE_SECONDS) and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _is_in_own_code(frame: FrameType | None) -> bool:
    """True where the learner's code runs, or something that it called, without a library's coroutine in between."""
    while frame is not None:
        if is_own(frame):
            return True
        if frame.f_code.co_flags & CO_COROUTINE:
            return False
        frame = frame.f_back
    return False


def interrupted() -> bool:
    """True in a cell that has been told to stop. Nobody else cancels a cell's own task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # a cell without await
        return False
    return task is not None and task.cancelling() > 0
