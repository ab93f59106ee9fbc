"""What an answer prints, of which a verdict shows the beginning: the rest is counted and not kept."""

from __future__ import annotations

import io

from course_lib.judging.quoting import one_line

KEPT = 8_000  # characters
LINES = 8
WIDTH = 160


class Printed(io.TextIOBase):
    """A place to print to."""

    def __init__(self) -> None:
        self._start = ""
        self._lines = 0
        self._ended = True  # so far, with the end of a line

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        text = str.__str__(text)
        if text:
            self._start += text[: KEPT - len(self._start)]
            self._lines += text.count("\n")
            self._ended = text.endswith("\n")
        return len(text)

    def shown(self) -> str:
        """The first lines, each cut, and how many more there are."""
        lines = [one_line(line, WIDTH) for line in self._start.strip().splitlines()[:LINES]]
        more = self._lines + (not self._ended) - len(self._start.splitlines()[:LINES])
        return "\n".join([*lines, *([f"… and {more:,} more lines"] if more > 0 else [])])
