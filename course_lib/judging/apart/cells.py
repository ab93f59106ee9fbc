"""Cells run as a notebook's kernel runs them: magics, top-level await, one after the other in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from course_lib.judging.quoting import sentence_of


class Shell(InteractiveShell):
    """What runs cells, without a terminal, a front end, a history on disk or a profile."""

    def init_ipython_dir(self, ipython_dir: Any) -> None: ...

    def init_profile_dir(self, profile_dir: Any) -> None: ...

    def init_virtualenv(self) -> None: ...

    def enable_gui(self, gui: Any = None) -> None: ...

    def ask_exit(self) -> None:
        """``exit`` in a cell: a kernel that grades goes on too."""

    def showtraceback(self, *_: Any, **__: Any) -> None:
        """Nobody reads it here, and to lay one out takes a while."""

    def showsyntaxerror(self, *_: Any, **__: Any) -> None: ...


def make_shell() -> Shell:
    """The shell of this process. From now on it has ``get_ipython``."""
    shell: Shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False, "hist_file": ":memory:"}}))
    sys.path.insert(0, "")  # where a kernel finds modules beside the notebook
    return shell


async def run_cell(shell: Any, source: str) -> str:
    """Run one cell to its end. Returns what it raised, for a sentence; empty when it raised nothing."""
    failed = None
    try:
        transformed = shell.transform_cell(source)
    except Exception:
        transformed, failed = source, sys.exc_info()
    how = {"transformed_cell": transformed, "preprocessing_exc_tuple": failed}
    if shell.should_run_async(source, **how):
        running = asyncio.ensure_future(shell.run_cell_async(source, store_history=True, **how))
        with _interruptible(running):
            await asyncio.wait({running})
        if running.cancelled():
            return "CancelledError"
        result = running.result()
        shell.events.trigger("post_execute")
    else:
        with _interrupted_by(signal.default_int_handler):
            result = shell.run_cell(source, store_history=True)
    error = result.error_before_exec or result.error_in_exec
    return "" if error is None else sentence_of(error)


@contextlib.contextmanager
def _interrupted_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Between cells nothing is interrupted, whatever a cell has made of the signal."""
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _interruptible(running: asyncio.Future[Any]) -> Iterator[None]:
    """An interrupt ends the cell also where it waits, and never the loop."""
    loop = asyncio.get_running_loop()

    def interrupt(_: int, __: FrameType | None) -> None:
        if asyncio.current_task(loop) is running:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(running.cancel)

    with _interrupted_by(interrupt):
        yield
