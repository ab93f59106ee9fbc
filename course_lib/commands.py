"""How a command of the course is typed by whoever reads of it: in a shell, in JupyterLab's terminal, in a notebook."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

_in_a_terminal = False


def read_in_a_terminal() -> None:
    """From now on what this process says is read in a terminal, where nobody can call ``hint("2.3")``.

    Not where a notebook runs the process, as ``!course check 2.3`` does: it says what can be typed there.
    """
    global _in_a_terminal
    _in_a_terminal = not _in_a_notebook()


def in_a_terminal() -> bool:
    return _in_a_terminal


def command(words: str) -> str:
    """``course doctor``, for the ``words`` ``doctor``, with what must stand before it where it is read."""
    return f"{'!' if _in_a_notebook() else ''}{_course()} {words}"


def call(function: str, id: str, *more: int) -> str:
    """What learners call in a notebook and type in a terminal: ``hint("2.3", 1)``, or ``course hint 2.3 1``."""
    if _in_a_terminal:
        return command(" ".join([function, id, *map(str, more)]))
    arguments = [f'"{id}"', *map(str, more)]
    return f"{function}({', '.join(arguments)})"


def _in_a_notebook() -> bool:
    """Whether this is a kernel, or was started by one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel") or "JPY_PARENT_PID" in os.environ


def _course() -> str:
    if "UV_RUN_RECURSION_DEPTH" in os.environ:  # the path that uv has made is not the reader's
        return "uv run course"
    script = shutil.which("course", path=Path(sys.executable).parent)
    if script is None:
        return f"{_quoted(sys.executable)} -m course_lib.cli"
    found = shutil.which("course")
    if found is not None and Path(found).samefile(script):
        return "course"
    return _quoted(_from_here(Path(script)))


def _from_here(place: Path) -> str:
    with contextlib.suppress(OSError, ValueError):  # the folder we are in is gone, or ``place`` is not below it
        return str(place.relative_to(Path.cwd()))
    return str(place)


def _quoted(path: str) -> str:
    return subprocess.list2cmdline([path]) if os.name == "nt" else shlex.quote(path)
