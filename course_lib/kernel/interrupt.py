"""■ reaches a cell that awaits.

ipykernel has a handler for it, which asks the event loop to cancel the cell. It asks by ``call_soon``, and a loop that
waits in ``select()`` is not woken by that: seen with ipykernel 6.22 to 7.4, tornado 6.1 to 6.6, the cell goes on until
something else wakes the loop. ``call_soon_threadsafe`` wakes it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from inspect import CO_COROUTINE
from types import FrameType
from typing import Any

OF_IPYKERNEL = "IPythonKernel._cancel_on_sigint"
PATIENCE_SECONDS = 0.5  # for the loop to come round


def arm(namespace: Mapping[str, Any]) -> None:
    """Take over from ipykernel's handler, where that is in place: in the task of a cell that awaits.

    ipykernel takes its own away when the cell ends, and this one with it. Subshells have no signals.

    Args:
        namespace: the globals of cells.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    earlier = getattr(signal.getsignal(signal.SIGINT), "__qualname__", "")
    if earlier.startswith(OF_IPYKERNEL) and (cell := asyncio.current_task()) is not None:
        signal.signal(signal.SIGINT, _handler(cell, asyncio.get_running_loop(), namespace))


def _handler(
    cell: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, namespace: Mapping[str, Any]
) -> Callable[[int, FrameType | None], None]:
    presses = 0

    def stop(_: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        running, own = asyncio.current_task(loop), _is_in_own_code(frame, namespace)
        if own and running is cell:
            raise KeyboardInterrupt  # it computes, as a cell without await would
        again = _press_again()

        def cancel() -> None:
            again.cancel()
            cell.cancel()

        loop.call_soon_threadsafe(cancel)
        if own and running is not None and presses > 1:
            raise asyncio.CancelledError  # another task that gives way to nobody; KeyboardInterrupt would end the loop

    return stop


def _press_again() -> threading.Timer:
    """Presses again after a while, unless it is cancelled."""
    timer = threading.Timer(PATIENCE_SECONDS, _press)
    timer.daemon = True
    timer.start()
    return timer


def _press() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _is_in_own_code(frame: FrameType | None, namespace: Mapping[str, Any]) -> bool:
    """True where a cell's code runs, or something that it called, without a coroutine of a library in between."""
    while frame is not None:
        if frame.f_globals is namespace:
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
