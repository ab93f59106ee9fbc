"""A line typed in a terminal; and what there was of it where Ctrl-C comes before Enter."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

MOST = 2**16  # bytes
LOCAL, CONTROL = 3, 6  # places of the local modes and of the control characters in what tcgetattr gives


class Interrupted(Exception):
    """Ctrl-C, or the end of the input. ``line`` is what was typed since the last Enter, as far as it can be told."""

    def __init__(self, line: str = "") -> None:
        super().__init__(line)
        self.line = line


def typed_line(prompt: str) -> str:
    """A line that was typed, without blanks around it.

    Raises:
        Interrupted: there comes none.
    """
    with _nothing_thrown_away():
        try:
            return input(prompt).encode(errors="replace").decode().strip()
        except EOFError as error:
            print()
            raise Interrupted from error
        except KeyboardInterrupt as error:
            line = _not_read_yet()
            print()
            raise Interrupted(line) from error


@contextmanager
def _nothing_thrown_away() -> Iterator[None]:
    """At Ctrl-C a terminal throws away what was typed and not read; not within the block."""
    before = _modes()
    if before is None:
        yield
        return
    kept = [*before]
    kept[LOCAL] |= termios.NOFLSH
    _set(kept)
    try:
        yield
    finally:
        _set(before)


def _not_read_yet() -> str:
    """A terminal hands a line over when it is ended; one that does not wait for that hands over what there is."""
    before = _modes()
    if before is None:
        return ""
    at_once = [*before]
    at_once[LOCAL] &= ~termios.ICANON
    at_once[CONTROL] = [*before[CONTROL]]
    at_once[CONTROL][termios.VMIN] = at_once[CONTROL][termios.VTIME] = 0
    try:
        _set(at_once)
        with suppress(OSError):
            return os.read(sys.stdin.fileno(), MOST).decode(errors="replace").strip()
    finally:
        _set(before)
    return ""


def _modes() -> list[Any] | None:
    """Those of the terminal, None where there is none."""
    if termios is None:
        return None
    with suppress(termios.error, OSError, ValueError):
        return termios.tcgetattr(sys.stdin.fileno())
    return None


def _set(modes: list[Any]) -> None:
    with suppress(termios.error, OSError, ValueError):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)
