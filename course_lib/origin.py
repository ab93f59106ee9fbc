"""Whose code a frame runs: a notebook's cell, a file of the learner's, the course, or a library."""

from __future__ import annotations

import sys
import sysconfig
from enum import Enum, auto
from functools import cache
from os import sep
from os.path import normcase
from pathlib import Path
from types import FrameType
from typing import Any

COURSE = normcase(f"{Path(__file__).parent}{sep}")
INSTRUMENTS = f"{COURSE}instruments{sep}"
LIBRARIES = tuple(
    normcase(f"{path}{sep}")
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)
MAGICS = ("<timed exec>", "<timed eval>", "<magic-timeit>")  # what %%time and %%timeit call the code they compile


class Origin(Enum):
    """The instruments count as a library: they stand between a statement and whoever issues it."""

    LIBRARY = auto()
    COURSE = auto()
    FILE = auto()
    CELL = auto()


def origin_of(frame: FrameType) -> Origin:
    """Where the code in ``frame`` comes from, told by the name of its file."""
    filename = frame.f_code.co_filename
    if filename == "<string>":  # `python -c`, but also code that libraries generate
        return Origin.FILE if frame.f_globals.get("__name__") == "__main__" else Origin.LIBRARY
    return _origin_of_file(filename)


@cache
def _origin_of_file(filename: str) -> Origin:
    if filename in MAGICS or _is_cell(filename):
        return Origin.CELL
    path = normcase(filename)
    if path.startswith(COURSE):
        return Origin.LIBRARY if path.startswith(INSTRUMENTS) else Origin.COURSE
    if path.startswith(LIBRARIES) or "site-packages" in path or "dist-packages" in path:
        return Origin.LIBRARY
    if path.startswith("<"):
        return Origin.FILE if path.startswith(("<stdin", "<python-input")) else Origin.LIBRARY
    return Origin.FILE


def running_shell() -> Any:
    """IPython's shell where this process has one, else None. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _is_cell(filename: str) -> bool:
    """True when IPython compiled this code: it keeps a list, by the names it gave to cells."""
    shell = running_shell()
    return shell is not None and shell.compile.format_code_name(filename) is not None
