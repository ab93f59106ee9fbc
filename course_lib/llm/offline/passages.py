"""Finding, in a prompt, the retrieved passages and the question.

The form the lessons use: each passage begins a line with its number in square brackets, passages stand
last in their message or are followed by a line that begins with ``Question:``.

    Answer from these passages only.

    [1] The causeway can be walked from two hours before low water.
    [2] The ferry leaves at nine.

    Question: When can I walk over?

Also understood: ``[passage 1]``, ``[1 | title]``, ``Passage 1:`` (or source, document, chunk, excerpt),
``<passage id="1">…</passage>``, the same with a mark that no text in it knows,
``<passage-3fa1 id="1">…</passage-3fa1>``, and paragraphs without numbers under a line ``Context:``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .conversation import Message

NOUN = r"(?:passage|source|document|doc|chunk|excerpt|context)"
MARKER = re.compile(
    rf"^\s*(?:\[\s*(?:{NOUN}\s*)?\#?(\d+)\b[^\]\n]{{0,120}}\]|{NOUN}\s+\#?(\d+)\s*:)[:.]?\s*", re.IGNORECASE
)
TAGGED = re.compile(
    r"<((?:passage|source|document|doc|chunk|excerpt)(?:-\w+)?)(?![\w-])([^>]*)>(.*?)</\1>", re.DOTALL | re.IGNORECASE
)
QUESTION = re.compile(r"^\s*(?:the\s+|user(?:'s)?\s+)?(?:question|query|q)\s*:\s*", re.IGNORECASE)
HEADER = re.compile(r"^\s*(?:context|passages|sources|documents|chunks|excerpts)\s*:\s*$", re.IGNORECASE)
CLOSING_TAG = re.compile(r"^\s*</\w+>\s*$")
OPENING_TAG = re.compile(r"^\s*<\w+>\s*$")


@dataclass(frozen=True)
class Passage:
    """A retrieved text and the number it is cited by."""

    number: int
    text: str


@dataclass(frozen=True)
class Prompt:
    """What an answerer needs: the question, and the passages to answer it from."""

    question: str
    passages: list[Passage]


def read_prompt(messages: Sequence[Message]) -> Prompt:
    """The last user message is asked; passages are its own, or the latest others not the assistant's."""
    asked = max((i for i, m in enumerate(messages) if m.role == "user"), default=len(messages) - 1)
    passages, question = split(messages[asked].text)
    if passages:
        return Prompt(question, passages)
    for other in reversed([m for i, m in enumerate(messages) if i != asked and m.role != "assistant"]):
        passages, _ = split(other.text)
        if passages:
            break
    return Prompt(question, passages)


def split(text: str) -> tuple[list[Passage], str]:
    """The passages of one message, and the rest of it that is the question."""
    tagged = list(TAGGED.finditer(text))
    if tagged:
        rest = after_label(TAGGED.sub("\n", text))
        return [from_tag(match, place) for place, match in enumerate(tagged, start=1)], rest
    passages, before, after = numbered(text.splitlines())
    if not passages:
        passages, before, after = unnumbered(text.splitlines())
    if not passages:
        return [], after_label(text)
    if after:
        return passages, after
    *kept, last = passages
    body, _, tail = last.text.rpartition("\n\n")
    if body and tail.rstrip().endswith("?"):  # the question follows the last passage without a label
        return [*kept, Passage(last.number, body)], tail.strip()
    return passages, before


def from_tag(match: re.Match[str], place: int) -> Passage:
    number = re.search(r"""\b(?:id|index|number|n)\s*=\s*["']?(\d+)""", match[2])
    return Passage(int(number[1]) if number else place, match[3].strip())


def numbered(lines: Sequence[str]) -> tuple[list[Passage], str, str]:
    """Passages that begin with a number; the text before them; the text after them."""
    found: dict[int, list[str]] = {}
    before: list[str] = []
    current = before
    for position, line in enumerate(lines):
        marker = MARKER.match(line)
        number = int(marker[1] or marker[2]) if marker else None
        if marker and number is not None and number not in found:  # seen twice, it is a footnote
            current = found.setdefault(number, [])
            current.append(line[marker.end() :])
        elif found and (QUESTION.match(line) or CLOSING_TAG.match(line)):
            return passages_of(found), tidy(before), after_label("\n".join(lines[position:]))
        else:
            current.append(line)
    return passages_of(found), tidy(before), ""


def unnumbered(lines: Sequence[str]) -> tuple[list[Passage], str, str]:
    """Paragraphs under a line such as ``Context:``, numbered in their order."""
    start = next((i for i, line in enumerate(lines) if HEADER.match(line)), None)
    if start is None:
        return [], "", ""
    end = next((i for i in range(start + 1, len(lines)) if QUESTION.match(lines[i])), len(lines))
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines[start + 1 : end]).strip())
    passages = [Passage(place, text.strip()) for place, text in enumerate(paragraphs, start=1) if text.strip()]
    return passages, tidy(lines[:start]), after_label("\n".join(lines[end:]))


def passages_of(found: dict[int, list[str]]) -> list[Passage]:
    return [Passage(number, "\n".join(lines).strip()) for number, lines in found.items()]


def after_label(text: str) -> str:
    """The text from its last ``Question:`` on, or all of it."""
    lines = text.splitlines()
    for position in range(len(lines) - 1, -1, -1):
        label = QUESTION.match(lines[position])
        if label:
            return tidy([lines[position][label.end() :], *lines[position + 1 :]])
    return tidy(lines)


def tidy(lines: Sequence[str]) -> str:
    kept = [line for line in lines if not (HEADER.match(line) or OPENING_TAG.match(line) or CLOSING_TAG.match(line))]
    return "\n".join(kept).strip()
