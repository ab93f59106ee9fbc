"""Cutting passages into sentences and ranking them against a question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .embedding_model import load_model
from .passages import Passage

ENDING = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]?[A-Z0-9])""")
ABBREVIATIONS = ("e.g.", "i.e.", "approx.", "dr.", "mr.", "mrs.", "ms.", "st.", "no.", "fig.", "vs.")
BULLET = re.compile(r"^\s*(?:[-*+]\s+|\d+[.)]\s+|>\s*)")
WORD = re.compile(r"[^\W_]+(?:[-_./'][^\W_]+)*")
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be been but by can could did do does for from had has have how i if in is it "
        "its me my of on or our should so that the their them then there they this to was we were what when "
        "where which who whom whose why will with would you your",
    )
)
CODE_WEIGHT = 3.0
"""A code or a number says more than a word, and the embedding cannot tell two codes apart."""


@dataclass(frozen=True)
class Sentence:
    """A sentence, the number of its passage, and its place among all sentences."""

    text: str
    passage: int
    place: int


PASSAGE_WEIGHT = 0.5
"""Share of its passage's cosine that a sentence is credited with: "It does." is only near in context."""


@dataclass(frozen=True)
class Scored:
    """How near a sentence and its passage are to the question.

    cosine and passage_cosine: -1 to 1; overlap: 0 to 1, the weighted share of the question's words.
    """

    sentence: Sentence
    cosine: float
    overlap: float
    passage_cosine: float

    @property
    def nearness(self) -> float:
        """Of the sentence alone."""
        return self.cosine + self.overlap

    @property
    def score(self) -> float:
        # rounded, because the last bits of a product differ between processors
        return round(self.nearness + PASSAGE_WEIGHT * self.passage_cosine, 4)


def sentences_of(passages: Sequence[Passage]) -> list[Sentence]:
    """All sentences that say something; headings are left out."""
    texts = [
        (text, passage.number)
        for passage in passages
        for block in blocks(passage.text)
        for text in cut(block)
        if len(WORD.findall(text)) > 2
    ]
    return [Sentence(text, number, place) for place, (text, number) in enumerate(texts)]


def blocks(text: str) -> list[str]:
    """Paragraphs and list items, their wrapped lines joined, without headings."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            found.append([])
        elif BULLET.match(line) or line.lstrip().startswith("|"):
            found.append([BULLET.sub("", line).strip()])
        else:
            found[-1].append(line.strip())
    return [" ".join(lines) for lines in found if lines]


def cut(block: str) -> list[str]:
    """The sentences of a paragraph; an abbreviation does not end one."""
    found: list[str] = []
    for piece in ENDING.split(block):
        if found and found[-1].lower().endswith(ABBREVIATIONS):
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found


def words(text: str) -> set[str]:
    """What a text is about: lower case, a plural s taken off, small words left out."""
    found = {word.lower().removesuffix("'s") for word in WORD.findall(text)}
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found - STOP_WORDS}


def rank(question: str, passages: Sequence[Passage]) -> list[Scored]:
    """Every sentence, best first; equal ones in the order they were given."""
    sentences = sentences_of(passages)
    near_passage = dict(zip((p.number for p in passages), cosines(question, [p.text for p in passages]), strict=True))
    near = cosines(question, [sentence.text for sentence in sentences])
    shares = overlaps(question, [sentence.text for sentence in sentences])
    scored = [
        Scored(sentence, cosine, share, near_passage[sentence.passage])
        for sentence, cosine, share in zip(sentences, near, shares, strict=True)
    ]
    return sorted(scored, key=lambda item: (-item.score, item.sentence.place))


def cosines(question: str, texts: Sequence[str]) -> list[float]:
    """Cosine of each text with the question."""
    vectors = load_model().embed([question, *texts])
    return [float(cosine) for cosine in vectors[1:] @ vectors[0]]


def overlaps(question: str, texts: Sequence[str]) -> list[float]:
    """Weighted share of the question's words that each text holds."""
    asked = words(question)
    own = [words(text) for text in texts]
    frequency = Counter(word for found in own for word in found)
    weights = {word: weight(word, frequency[word], len(texts)) for word in asked}
    total = math.fsum(weights.values()) or 1.0
    # fsum, because a set's order differs from process to process and a plain sum's last bits with it
    return [math.fsum(weights[word] for word in asked & found) / total for found in own]


def weight(word: str, sentences_with_it: int, sentences: int) -> float:
    """Rare words count more, words with a digit most."""
    rarity = math.log(1 + sentences / max(1, sentences_with_it))
    return rarity * (CODE_WEIGHT if any(sign.isdigit() for sign in word) else 1.0)
