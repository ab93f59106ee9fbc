"""Coroutines that can be left standing: each runs in a greenlet of its own, out of which one can switch.

An exception asks code to end, and code can say no. To switch away asks nothing: the frames stay as they are and are
never gone on with.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn
from weakref import WeakSet

import greenlet  # type: ignore[import-untyped]

LEFT = object()
_inside: ContextVar[bool] = ContextVar("inside", default=False)


class OutOfTime(BaseException):
    """Raised inside code that keeps the processor busy; no ``except Exception`` swallows it."""


class Ended(Exception):
    """The code called ``exit()``, or was interrupted."""


class _Steps(greenlet.greenlet):  # type: ignore[misc]
    """The greenlet in which a coroutine runs: one for all its steps, as SQLAlchemy's inside remember it."""


class _Box:
    """What is handed over. The garbage collector does not look into a greenlet, so nothing stays there meanwhile:
    a task that nobody holds has to be collected as it would be without us."""

    job: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    yielded: Any = None


def _drive(box: _Box) -> None:
    while box.job:
        go, arguments = box.job
        box.job = None
        box.yielded = go(*arguments)
        del go, arguments
        greenlet.getcurrent().parent.switch()


class Stepped(Coroutine[Any, Any, Any]):
    """``coroutine``, for asyncio to run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._steps: Any = None
        self._box = _Box()
        self.given_up = False
        """Set, it is not gone on with: the next step ends it for asyncio, and the coroutine stays where it waits."""

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coroutine.throw, *error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # cr_frame, cr_await, __qualname__: what others look at

    def _step(self, go: Callable[..., Any], *arguments: Any) -> Any:
        here = greenlet.getcurrent()
        start: tuple[Any, ...] = ()
        if self._steps is None:
            self._steps = _Steps(_drive)
            self._steps.gr_context = here.gr_context
            start = (self._box,)
        if self.given_up:
            self._leave()
        self._steps.parent = here
        self._box.job = (go, arguments)
        try:
            left = self._steps.switch(*start) is LEFT
        except (SystemExit, KeyboardInterrupt) as error:  # in a task these end the event loop
            raise Ended(type(error).__name__) from error
        if left:
            self._leave()
        yielded, self._box.yielded = self._box.yielded, None
        return yielded

    def _leave(self) -> NoReturn:
        for kept in (self._steps, self._coroutine):  # collected, they would be asked to end, and might say no again
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        raise OutOfTime


def stands_in_a_step() -> bool:
    """True when a step is what runs in this thread, and not the event loop itself."""
    return _current_steps() is not None


def leave_standing() -> None:
    """Go on with whoever runs the current step. Does not return."""
    steps = _current_steps()
    assert steps is not None
    steps.parent.switch(LEFT)


def _current_steps() -> Any:
    current = greenlet.getcurrent()
    while current is not None and not isinstance(current, _Steps):
        current = current.parent  # SQLAlchemy puts greenlets of its own between
    return current


def _look_at(task: asyncio.Task[Any]) -> None:
    """An error that nobody looked at is logged when the task is collected, on stderr."""
    if not task.cancelled():
        task.exception()


@contextmanager
def in_steps(made: WeakSet[asyncio.Task[Any]]) -> Iterator[None]:
    """While the block runs, tasks that are made inside of it are stepped too, and added to ``made``."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if _inside.get() and asyncio.iscoroutine(coroutine) and not isinstance(coroutine, Stepped):
            coroutine = Stepped(coroutine)
        task: Any = before(loop, coroutine, **options) if before else asyncio.Task(coroutine, loop=loop, **options)
        if _inside.get():
            made.add(task)
            task.add_done_callback(_look_at)
        return task

    token = _inside.set(True)
    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(before)
        _inside.reset(token)
