"""Texts that are awkward to cut, and what a cutter has made of one."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from secrets import choice, randbelow, token_hex

GAPS = ("\n\n", "\n\n\n", "\r\n\r\n", "\n \t\n", "\n\u00a0\n \n", "\n\n    ")
JOINTS = (" ", " ", " ", "  ", "\n", "\r\n", "\t", "\u2028", "\u2028\u2028")
WORDS = ("index", "lease", "naïve", "東京", "it's", "50%", "C:\\new", "row.", "🛠", "plan,", "`a`", "Ærø")

Span = tuple[int, int]


def a_paragraph(length: int) -> str:
    """Words with every kind of white space between them that makes no blank line; exactly so many characters."""
    text = token_hex(2)
    while len(text) < length:
        text += choice(JOINTS) + choice(WORDS)
    text = text[:length]
    return text if not text[-1].isspace() else text[:-1] + "x"


def a_word(length: int) -> str:
    return token_hex(length)[:length]


def far_apart(above: int, between: int, behind: int) -> str:
    """Two short paragraphs and a longer one, with so many blank lines above, between the short ones and behind them."""
    gaps = ("\n" * above, "\n" * (1 + between), "\n" * (1 + behind))
    return "".join(gap + paragraph for gap, paragraph in zip(gaps, ("a b", "c", a_paragraph(19)), strict=True))


def joined(paragraphs: Sequence[str]) -> str:
    """The paragraphs with every kind of gap between them, and some white space around it all."""
    return "\n \n  " + "".join(paragraph + choice(GAPS) for paragraph in paragraphs)


def mixed(size: int, count: int) -> str:
    """Paragraphs of every length around and below ``size``, and some far above it."""
    lengths = [1 + randbelow(size) for _ in range(count)]
    lengths[::5] = [size + choice((-1, 0, 0, 1, size, 7 * size)) for _ in lengths[::5]]
    return joined([a_paragraph(max(4, length)) for length in lengths])


@dataclass(frozen=True)
class Writing:
    """A text, and the places in it that matter to who cuts it."""

    text: str

    @cached_property
    def paragraphs(self) -> list[Span]:
        """From the first to after the last character of each that is no white space."""
        spans: list[Span] = []
        start = end = place = 0
        after_blank = True
        for line in self.text.split("\n"):
            if line.strip():
                if after_blank and end:
                    spans.append((start, end))
                if after_blank:
                    start = place + len(line) - len(line.lstrip())
                end = place + len(line.rstrip())
            after_blank = not line.strip()
            place += len(line) + 1
        return [*spans, (start, end)] if end else []

    @cached_property
    def words(self) -> list[Span]:
        return [match.span() for match in re.finditer(r"\S+", self.text)]


@dataclass(frozen=True)
class Cutting:
    """What became of a text."""

    writing: Writing
    pieces: Sequence[str]
    size: int

    @property
    def borders(self) -> list[int]:
        """The places between two pieces."""
        return list(accumulate(map(len, self.pieces)))[:-1]

    def cut_paragraphs(self) -> Iterator[tuple[Span, int]]:
        """Paragraphs that have a border in them, once for each border."""
        return _cut(self.writing.paragraphs, self.borders)

    def cut_words(self) -> Iterator[tuple[Span, int]]:
        return _cut(self.writing.words, self.borders)

    def too_short(self) -> tuple[int, int] | None:
        """The lengths of the first two neighbours of whole paragraphs that fit into half of the size together.

        Those before a paragraph that is too long may do so: it is cut by itself.
        """
        text = self.writing.text
        broken = {border for _, border in self.cut_paragraphs()}
        ends = [0, *self.borders, len(text)]
        before_long = {at for at in ends if self._is_before_long(at)}
        for start, middle, end in zip(ends, ends[1:], ends[2:], strict=False):
            whole = not broken & {start, middle, end} and end not in before_long
            if whole and 2 * len(text[start:end].strip()) <= self.size:
                return len(text[start:middle].strip()), len(text[middle:end].strip())
        return None

    def _is_before_long(self, place: int) -> bool:
        at = bisect_left(self.writing.paragraphs, (place, 0))
        return any(end - start > self.size for start, end in self.writing.paragraphs[at : at + 1])

    def in_crumbs(self) -> tuple[int, int] | None:
        """The length of the first paragraph that became more than four pieces for each size it is long, and these."""
        counts: dict[Span, int] = {}
        for span, _ in self.cut_paragraphs():
            counts[span] = counts.get(span, 1) + 1
        for (start, end), count in counts.items():
            if count * self.size > 4 * (end - start):
                return end - start, count
        return None


def _cut(spans: Sequence[Span], borders: Sequence[int]) -> Iterator[tuple[Span, int]]:
    starts = [start for start, _ in spans]
    for border in borders:
        at = bisect_right(starts, border - 1) - 1
        if at >= 0 and spans[at][0] < border < spans[at][1]:
            yield spans[at], border
