"""The authored corpus: eight users, forty documents, 240 questions with known answers.

Written for this course. People, places, codes and figures in it are invented.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent / "corpus"
FIRST = 60  # questions that the seeded conversations ask


@dataclass(frozen=True)
class CorpusUser:
    """A customer of the product; ``slug`` names the folder with the user's documents."""

    slug: str
    name: str
    email: str
    tier: str
    token_limit: int
    about: str

    @property
    def demonstration_key(self) -> str:
        """The API key that the user is seeded with: no secret, since it is everybody's."""
        return f"{self.slug}-demonstration-key"


@dataclass(frozen=True)
class CorpusDocument:
    """A document of one user. ``source`` is ``user/name``; ``chunks`` are its paragraphs, in order."""

    source: str
    title: str
    chunks: tuple[str, ...]

    @property
    def user(self) -> str:
        return self.source.partition("/")[0]


@dataclass(frozen=True)
class GoldenQuestion:
    """A question, the passages that answer it, and a right answer.

    ``kind`` is ``paraphrase`` (few words in common with the passage) or ``identifier`` (hinges on a code, a number or
    a name). ``passages`` are a document's source and the index of a chunk in it, ``quotes`` words of each that hold
    the answer. ``fresh`` questions were set aside when they were written: what reached its goal on the other questions
    has to reach it on these.
    """

    id: str
    user: str
    text: str
    passages: tuple[tuple[str, int], ...]
    quotes: tuple[str, ...]
    answer: str
    kind: str
    half: str
    fresh: bool = False

    @property
    def documents(self) -> tuple[str, ...]:
        """The sources of the documents that answer it."""
        return tuple(dict.fromkeys(source for source, _ in self.passages))


@cache
def users() -> tuple[CorpusUser, ...]:
    """The eight users, by slug."""
    return tuple(CorpusUser(**entry) for entry in _read_toml("users"))


@cache
def documents() -> tuple[CorpusDocument, ...]:
    """The forty documents, by source."""
    return tuple(_read_document(path) for path in sorted(FOLDER.glob("*/*.md")))


@cache
def golden_questions(half: Literal["tuning", "test"] | None = None) -> tuple[GoldenQuestion, ...]:
    """The first sixty questions, by id; or one half of all 240, of 120 each with as many of each kind and user.

    Weights and other knobs are chosen on the tuning half, which the sixty belong to; the test half then says how good
    the choice is. Five texts of the sixty are asked by two users who must get different answers.
    """
    questions = [_golden_question(entry) for entry in _read_toml("questions", file="golden")]
    if half is None:
        return tuple(questions[:FIRST])
    return tuple(question for question in questions if question.half == half)


def _golden_question(entry: dict[str, Any]) -> GoldenQuestion:
    places = [place.split("#") for place in entry["passages"]]
    passages = tuple((source, int(index)) for source, index in places)
    return GoldenQuestion(**entry | {"passages": passages, "quotes": tuple(entry["passages"].values())})


def _read_toml(table: str, file: str | None = None) -> list[dict[str, Any]]:
    content = tomllib.loads((FOLDER / f"{file or table}.toml").read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = content[table]
    return entries


def _read_document(path: Path) -> CorpusDocument:
    title, *paragraphs = path.read_text(encoding="utf-8").strip().split("\n\n")
    source = f"{path.parent.name}/{path.stem}"
    return CorpusDocument(source, title.removeprefix("# "), tuple(" ".join(text.split()) for text in paragraphs))
