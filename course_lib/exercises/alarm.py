"""An alarm that goes on ringing in the main thread, whatever is done to signals and timers meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Ring = Callable[[], None]
_rings: list[Callable[[int, FrameType | None], None]] = []


def _rearm(_: object) -> int:
    """Take the signal back from code that ignores or blocks it. Runs in the main thread, between two instructions."""
    if _rings:
        signal.signal(signal.SIGALRM, _rings[-1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    return 0


_REARM = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_rearm)  # kept: it may be called when an alarm is over


@contextlib.contextmanager
def ringing(ring: Ring, after: float, every: float) -> Iterator[None]:
    """Until the block ends, call ``ring`` in the main thread, first ``after`` seconds and then ``every`` so many.

    It interrupts Python code, and calls that wait. Does nothing outside of the main thread, and on systems without
    such signals. A single call into C that holds the interpreter cannot be interrupted, nor code that takes the signal
    away again thousands of times a second.
    """
    main = threading.main_thread()
    if not hasattr(signal, "pthread_kill") or threading.current_thread() is not main or main.ident is None:
        yield
        return
    before, mask = signal.getsignal(signal.SIGALRM), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    over = threading.Event()

    def on_alarm(_: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not _rearm.__code__:
            frame = frame.f_back
        if frame is None and not over.is_set():  # nothing may be raised where no Python code waits for it
            ring()

    def watch(thread: int) -> None:
        wait, rung = after, 0
        while not over.wait(wait):
            ours, wait, rung = signal.getsignal(signal.SIGALRM) is on_alarm, every, rung + 1
            if not ours or rung % 3 == 0:  # blocked, it would still be ours
                ctypes.pythonapi.Py_AddPendingCall(_REARM, None)
            if ours:  # by default the signal ends the process
                signal.pthread_kill(thread, signal.SIGALRM)

    signal.signal(signal.SIGALRM, on_alarm)
    _rings.append(on_alarm)
    threading.Thread(target=watch, args=(main.ident,), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        _rings.remove(on_alarm)
        signal.signal(signal.SIGALRM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
