"""A text cut into passages: at headings, then at paragraphs, and only where it must be at anything smaller.

Where a text is filled up piece by piece, a word more at its top moves every border after it, and every passage is a
new one to be embedded. Here a border is chosen by what stands before it, among those that a piece of the wanted size
reaches: soon after an edit the old borders are met again.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from zlib import crc32

from wcwidth import iter_graphemes

from course_lib.errors import CourseError
from course_lib.texts import check_sendable

SIZE = 800
"""Characters of a passage: a few paragraphs, some 200 tokens."""

SEEN = 16
"""Characters before a border that decide which border is taken."""

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+\S")
_FENCE = re.compile(r" {0,3}(```|~~~)")

# Each begins with a character that a run of them has only one of, or asks what stands before: none is slow on a
# million spaces or dots.
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[.!?…][\"')\]”’»])\s+|(?<=[。！？])(?=[^\W_])")
_LINE = re.compile(r"\n(?:[^\S\n]*\n)*")
_WORD = re.compile(r"\s+")


Way = Callable[[str], "list[Border]"]
Border = tuple[int, int]
"""Where a text may be cut: where the white space before the place begins, and the place."""


def cut(text: str, size: int = SIZE) -> list[str]:
    """``text`` in pieces of up to ``size`` characters, of which ``"".join`` makes the text again.

    A heading in Markdown begins a piece. Within its section a piece ends after a paragraph; where one is too long,
    after a sentence, a line or a word of it, and at last between two letters as they are seen. White space at a
    piece's ends is not counted, and no piece is nothing else, unless the text is.

    Raises:
        CourseError: ``size`` is no number of characters, or ``text`` none that has bytes in UTF-8.
    """
    check_sendable(text, "The text")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise CourseError(f"size is how many characters a piece may have, and {size!r} is none.", "Such as size=800")
    if not text or text.isspace():
        return [text] if text else []
    return [piece for section in _sections(text) for piece in _cut(section, size, _WAYS)]


def _cut(text: str, size: int, ways: Sequence[Way]) -> Iterator[str]:
    """``text`` at the borders that the first of ``ways`` finds; what is too long between two of them, by the others."""
    lead, ink = len(text) - len(text.lstrip()), len(text.rstrip())
    if ink - lead <= size:
        yield text
        return
    if not ways:
        yield from _between_letters(text, lead, ink, size)
        return
    borders = [border for border in ways[0](text) if lead < border[0] and border[1] < ink] + [(ink, len(text))]
    start = first = 0
    while first < len(borders):
        counted = max(start, lead)
        reached = bisect_right(borders, (counted + size, len(text)))
        if reached == first:
            last = first
            yield from _cut(text[start : borders[first][1]], size, ways[1:])
        elif reached == len(borders):
            last = reached - 1
            yield text[start:]
        else:
            late = min(bisect_left(borders, (counted + size // 3, 0), first), reached - 1)
            last = min(range(late, reached), key=lambda place: (_checksum(text, borders[place][0]), -place))
            yield text[start : borders[last][1]]
        start, first = borders[last][1], last + 1


def _checksum(text: str, place: int) -> int:
    """The border with the lowest one is taken: the same one, whichever border the piece began at."""
    return crc32(text[max(0, place - SEEN) : place].encode())


def _between_letters(text: str, lead: int, ink: int, size: int) -> Iterator[str]:
    """A word that is too long. A letter made of several characters stays whole, unless it is too long itself."""
    start, place = 0, lead
    while ink - place > size:
        letters = _letters(text[place : place + size + 1])
        ends = [place + length for length in accumulate(map(len, letters[:-1]))] or [place + size]
        late = min(bisect_left(ends, place + size // 3), len(ends) - 1)
        end = min(ends[late:], key=lambda place: (_checksum(text, place), -place))
        yield text[start:end]
        start, place = end, ink - len(text[end:ink].lstrip())  # a space that carries an accent is no piece
    yield text[start:]


def _letters(text: str) -> Sequence[str]:
    return text if text.isascii() else list(iter_graphemes(text))


def _sections(text: str) -> list[str]:
    """The text cut before each heading, but not between headings that follow one another."""
    starts = [start for _, start, is_heading in _blocks(text) if is_heading]
    return [text[start:end] for start, end in pairwise([0, *starts, len(text)]) if start < end]


def _paragraphs(text: str) -> list[Border]:
    return [(ink, start) for ink, start, _ in _blocks(text)]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where blocks begin, but for the first: where the text before has its end, the place, whether a heading is there.

    A block begins after a blank line or with a heading, not within a fenced piece of code, and not after a heading.
    """
    place = ink = 0
    after_blank = fenced = after_heading = False
    for line in text.split("\n"):
        if line and not line.isspace():
            is_heading = not fenced and _HEADING.match(line) is not None
            if ink and not after_heading and (is_heading or (after_blank and not fenced)):
                yield ink, place, is_heading
            fenced ^= _FENCE.match(line) is not None
            ink, after_blank, after_heading = place + len(line.rstrip()), False, is_heading
        else:
            after_blank = True
        place += len(line) + 1


def _at(pattern: re.Pattern[str]) -> Way:
    def borders(text: str) -> list[Border]:
        found = [match.span() for match in pattern.finditer(text)]
        return found if text.isascii() else [span for span in found if not _joined(text, span[1])]

    return borders


def _joined(text: str, place: int) -> bool:
    """Whether the characters on both sides of ``place`` are one letter: a space may carry an accent."""
    return text[place : place + 1] >= "\u0300" and len(_letters(text[place - 1 : place + 1])) == 1


_WAYS = (_paragraphs, _at(_SENTENCE), _at(_LINE), _at(_WORD))
