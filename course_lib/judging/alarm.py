"""Alarms that go on ringing in the main thread, whatever is done to signals and timers meanwhile."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

LOOK_SECONDS = 0.1


@dataclass
class _Alarm:
    ring: Callable[[], None]
    due: float  # on time.monotonic
    every: float
    rung: int = 0


_ringing = threading.Lock()
_alarms: list[_Alarm] = []  # the innermost last, which alone rings


def _on_signal(_: int, frame: FrameType | None) -> None:
    while frame is not None and frame.f_code is not _rearm.__code__:
        frame = frame.f_back
    if frame is None and _alarms and _alarms[-1].rung:  # nothing may be raised where no Python code waits for it
        _alarms[-1].ring()


def _rearm(_: object) -> int:
    """Take the signal back from code that ignores or blocks it. Runs in the main thread, between two instructions."""
    if _alarms:
        signal.signal(signal.SIGALRM, _on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    return 0


_REARM = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_rearm)  # kept: it may be called when all alarms are over


def _watch(main: int, over: threading.Event) -> None:
    while not over.wait(LOOK_SECONDS):
        for alarm in _alarms[-1:]:
            if time.monotonic() < alarm.due:
                continue
            alarm.due, alarm.rung = time.monotonic() + alarm.every, alarm.rung + 1
            ours = signal.getsignal(signal.SIGALRM) is _on_signal
            if not ours or alarm.rung % 3 == 0:  # blocked, it would still be ours
                ctypes.pythonapi.Py_AddPendingCall(_REARM, None)
            with _ringing:  # by default the signal ends the process
                if ours and not over.is_set():
                    signal.pthread_kill(main, signal.SIGALRM)


@contextlib.contextmanager
def ringing(ring: Callable[[], None], after: float, every: float) -> Iterator[None]:
    """Until the block ends, call ``ring`` in the main thread, first ``after`` seconds and then ``every`` so many.

    It interrupts Python code, and calls that wait. Does nothing outside of the main thread, and on systems without
    such signals. A single call into C that holds the interpreter cannot be interrupted, nor code that takes the signal
    away again thousands of times a second. Of alarms inside each other only the innermost rings.
    """
    if not hasattr(signal, "pthread_kill") or threading.current_thread() is not threading.main_thread():
        yield
        return
    alarm = _Alarm(ring, time.monotonic() + after, every)
    with contextlib.nullcontext() if _alarms else _watched():
        _alarms.append(alarm)
        try:
            yield
        finally:
            _alarms.remove(alarm)
            if signal.getsignal(signal.SIGALRM) is not _on_signal:
                signal.signal(signal.SIGALRM, _on_signal)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """The signal is ours, and a thread looks after it: one for all alarms, as to start one takes a while."""
    before, mask = signal.signal(signal.SIGALRM, _on_signal), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    over = threading.Event()
    _thread.start_new_thread(_watch, (threading.get_ident(), over))  # threading.Thread waits for it to begin
    try:
        yield
    finally:
        with _ringing:
            over.set()
        signal.signal(signal.SIGALRM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
