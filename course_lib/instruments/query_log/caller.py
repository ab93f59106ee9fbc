"""Find the line that issued a statement: the learner's own, not that of a library between it and the database.

In a session of asyncio the statement runs in a greenlet, whose stack ends inside SQLAlchemy. The coroutines that
await it are on the stack of the parent greenlet, so the search goes on there.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from functools import cache
from gc import get_referents
from inspect import isasyncgen
from pathlib import Path
from types import FrameType
from typing import Any

import greenlet  # type: ignore[import-untyped]

from course_lib.origin import MAGICS, Origin, origin_of

CELL_MAGIC, LINE_MAGIC = "run_cell_magic", "run_line_magic"  # of IPython's shell, around that code
BETWEEN = {"sqlalchemy", "greenlet", "asyncpg", "psycopg", "psycopg_pool", "course_lib"}
STEPS_OF_A_GENERATOR = ("async_generator_asend", "async_generator_athrow")  # which do not tell whose they are
OUTERMOST = re.compile(r"<[^.]*>|inner")  # code that stands in no function; timeit wraps one around a cell
ANONYMOUS = re.compile(r"(\.<locals>)?\.?<\w+>|\.<locals>")


def issuing_line() -> str | None:
    """``shop/orders.py:12``, ``cell line 3`` or ``load, cell line 3`` when the cell's code is in a function ``load``.

    A file below the working folder is told by its path from there, another by its name. A statement issued by
    ``course_lib`` on nobody's behalf is told by the function's name; one that only a library can have issued, as when a
    response model reads a relationship in a thread of FastAPI's, by the library's line. None when nobody is found.
    """
    in_course: FrameType | None = None
    in_library: FrameType | None = None
    for frame in _stack():
        origin = origin_of(frame)
        if origin in (Origin.FILE, Origin.CELL) and not _is_of_a_line_magic(frame):
            return _spoken(frame, origin)
        if origin is Origin.COURSE and in_course is None:
            in_course = frame
        if in_library is None and _installed(frame.f_code.co_filename):
            in_library = frame
    if in_course is not None:
        return _function(in_course)
    return _waiting_line() or (_in_library(in_library) if in_library is not None else None)


def _stack() -> Iterator[FrameType]:
    """The frames of this task from here outwards, across the greenlets that SQLAlchemy puts between.

    Beyond the task there is only the line that started the event loop, which issues nothing.
    """
    task = _current_task()
    outermost = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    frame: FrameType | None = sys._getframe(2)
    current = greenlet.getcurrent()
    while current is not None:
        while frame is not None:
            yield frame
            if frame is outermost:
                return
            frame = frame.f_back
        current = current.parent
        frame = current.gr_frame if current is not None else None


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop in this thread
        return None


def _waiting_line() -> str | None:
    """The line that waits for this task, when a library made it: a session that closes, ``gather``, ``wait_for``.

    Such a task has no frame of the learner. The one that waits for it is known by gathering it or by holding it in
    a local variable; failing that, by being the only line in which a learner's task stands. A function of the course
    that holds it is told where no learner does; that it is the only one says nothing, in a service with many requests.
    """
    this = _current_task()
    if this is None:
        return None
    lines: set[str] = set()
    holding: set[str] = set()
    in_course: set[str] = set()
    for task in asyncio.all_tasks():
        line, function, holds = _awaited_in(task.get_coro(), this)
        gathered = getattr(getattr(task, "_fut_waiter", None), "_children", ())
        if line is not None:
            (holding if holds or this in gathered else lines).add(line)
        elif function is not None and holds:
            in_course.add(function)
    lines = holding or in_course or lines
    return lines.pop() if len(lines) == 1 else None


def _awaited_in(coroutine: Any, task: Any) -> tuple[str | None, str | None, bool]:
    """Of a suspended chain of coroutines the innermost line of a learner, the innermost function of the course, and
    whether one of the coroutines holds ``task``."""
    line, function, holds = None, None, False
    while (frame := getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)) is not None:
        origin = origin_of(frame)
        if origin in (Origin.FILE, Origin.CELL):
            line = _spoken(frame, origin)
        elif origin is Origin.COURSE:
            function = _function(frame)
        holds = holds or any(value is task for value in frame.f_locals.values())
        coroutine = coroutine.cr_await if hasattr(coroutine, "cr_await") else coroutine.ag_await
        if type(coroutine).__name__ in STEPS_OF_A_GENERATOR:
            coroutine = next(filter(isasyncgen, get_referents(coroutine)), None)
    return line, function, holds


def _spoken(frame: FrameType, origin: Origin) -> str:
    if origin is Origin.FILE:
        return f"{_file_name(frame.f_code.co_filename)}:{frame.f_lineno}"
    function, line = _function(frame), frame.f_lineno + _lines_above(frame)
    return f"{function}, cell line {line}" if function else f"cell line {line}"


def _is_of_a_line_magic(frame: FrameType) -> bool:
    """True for the code of ``%time …``, whose line is that of the cell around it."""
    return frame.f_code.co_filename in MAGICS and next(_magics_around(frame), "") == LINE_MAGIC


def _lines_above(frame: FrameType) -> int:
    """How many lines of its cell are no part of the code: the line of each cell magic that the code stands under."""
    around = sum(magic == CELL_MAGIC for magic in _magics_around(frame))
    return max(around, frame.f_code.co_filename in MAGICS)


def _magics_around(frame: FrameType) -> Iterator[str]:
    """The magics that run the code in which ``frame`` is written, the nearest first, and not those that call it."""
    filename, written_here = frame.f_code.co_filename, False
    outer: FrameType | None = frame
    while outer is not None:
        code = outer.f_code
        written_here = written_here or (code.co_filename == filename and bool(OUTERMOST.fullmatch(code.co_qualname)))
        if written_here and code.co_name in (CELL_MAGIC, LINE_MAGIC) and "IPython" in code.co_filename:
            yield code.co_name
        outer = outer.f_back


@cache
def _file_name(path: str) -> str:
    """From the working folder, with slashes; the name alone when the file lies elsewhere."""
    file = Path(path)
    try:
        return file.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):  # elsewhere, or the working folder is gone
        return file.name


@cache
def _installed(path: str) -> str:
    """The file's path within ``site-packages``; empty for what stands between any statement and whoever issues it."""
    parts = Path(path).parts
    folder = next((at for at, part in enumerate(parts) if part in ("site-packages", "dist-packages")), len(parts))
    below = parts[folder + 1 :]
    return "" if not below or below[0] in BETWEEN else "/".join(below)


def _in_library(frame: FrameType) -> str:
    return f"{_installed(frame.f_code.co_filename)}:{frame.f_lineno}"


def _function(frame: FrameType) -> str:
    """The function's name, without the comprehensions in it, which Python 3.12 no longer shows as frames."""
    name = frame.f_code.co_qualname
    if frame.f_code.co_filename in MAGICS:
        name = name.removeprefix("inner")
    return _without_anonymous(name).removeprefix(".")


@cache
def _without_anonymous(qualified_name: str) -> str:
    return ANONYMOUS.sub("", qualified_name)
