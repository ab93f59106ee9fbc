"""What an answer cites, held against what the model was given.

A model may cite a number that no passage has, or quote what nobody wrote. Neither becomes a source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from course_lib.repositories.rag.search import Passage

NUMBERS = r"\[ ?[0-9]{1,6}(?: ?, ?[0-9]{1,6})* ?\]"
CITATION = re.compile(rf"{NUMBERS}(?:\s?{NUMBERS})*")
"""``[1]``, ``[1, 2]`` or ``[1][2]``."""

LONGEST_QUOTATION = 4000
OPENING, CLOSING = '"\u201c\u201e\u00ab', '"\u201d\u201c\u00bb'


@dataclass(frozen=True)
class Source:
    """A passage that was given and cited, by its number in the prompt, and what was quoted from it."""

    number: int
    passage: Passage
    quotation: str | None = None

    def as_meta(self) -> dict[str, Any]:
        """As ``messages.meta["sources"]`` holds it."""
        passage = self.passage
        meta = {"document_id": str(passage.document_id), "chunk_index": passage.chunk_index, "title": passage.title}
        return meta | {"number": self.number} | ({"quotation": self.quotation} if self.quotation else {})


@dataclass(frozen=True)
class Citations:
    """The sources of an answer in the order they are cited; the numbers it cites that no passage was given;
    the quotations that are not in the passages they are said to be from."""

    sources: list[Source]
    unknown: list[int]
    invented: list[str]


def check_citations(text: str, given: Mapping[int, Passage]) -> Citations:
    """Hold every citation in ``text`` against the passages that were given.

    A quotation is what stands in quotation marks before a number. It is found in the passage up to white space, and up
    to a full stop or comma at its end. Where it is not, the passage is a source without a quotation.
    """
    sources: list[Source] = []
    unknown, invented = [], []
    for numbers, before in citations_in(text):
        cited = [Source(n, given[n], quotation_in(before, given[n].content)) for n in numbers if n in given]
        if (words := last_quoted(before)) and not any(source.quotation for source in cited):
            invented.append(words)
        unknown += [number for number in numbers if number not in given]
        sources += cited
    return Citations(fullest(sources), list(dict.fromkeys(unknown)), list(dict.fromkeys(invented)))


def citations_in(text: str) -> Iterator[tuple[list[int], str]]:
    """The numbers of each citation, and the text between the citation before and this one."""
    end = 0
    for match in CITATION.finditer(text):
        yield [int(number) for number in re.findall("[0-9]+", match[0])], text[end : match.start()]
        end = match.end()


def quotation_in(before: str, passage: str) -> str | None:
    """The longest text in quotation marks at the end of ``before`` that stands in ``passage``."""
    content = plain(passage)
    for words in map(plain, quoted(before)):
        for candidate in (words, words.rstrip(".,; ")):
            if candidate and candidate in content:
                return candidate
    return None


def last_quoted(before: str) -> str | None:
    """What stands in the last pair of quotation marks, at the end of ``before``."""
    return next((words for words in reversed([*map(plain, quoted(before))]) if words), None)


def quoted(before: str) -> Iterator[str]:
    """What may be quoted at the end of ``before``, longest first: a quotation can have quotation marks in it."""
    text = before.rstrip().rstrip(".,;:").rstrip()[-LONGEST_QUOTATION:]
    if text and text[-1] in CLOSING:
        for place, sign in enumerate(text[:-1]):
            if sign in OPENING:
                yield text[place + 1 : -1]


def plain(text: str) -> str:
    """The text with one space for each run of white space."""
    return " ".join(text.split())


def fullest(sources: list[Source]) -> list[Source]:
    """Each once; of a passage without a quotation nothing where another place quotes it."""
    quoted_ones = {source.number for source in sources if source.quotation}
    return [source for source in dict.fromkeys(sources) if source.quotation or source.number not in quoted_ones]


def without_citations(text: str) -> str:
    """The text without the numbers of passages."""
    return re.sub(rf"\s?{CITATION.pattern}", "", text)
