"""The authored corpus: eight users, forty documents, sixty questions with known answers.

Written for this course. People, places, codes and figures in it are invented.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class CorpusUser:
    """A customer of the product; ``slug`` names the folder with the user's documents."""

    slug: str
    name: str
    email: str
    tier: str
    token_limit: int
    about: str


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
    """A question, the sources of the documents that answer it, and a right answer.

    ``kind`` is ``paraphrase`` (few words in common with the passage) or ``identifier`` (hinges on a code or number).
    """

    id: str
    user: str
    text: str
    documents: tuple[str, ...]
    answer: str
    kind: str


@cache
def users() -> tuple[CorpusUser, ...]:
    """The eight users, by slug."""
    return tuple(CorpusUser(**entry) for entry in _read_toml("users"))


@cache
def documents() -> tuple[CorpusDocument, ...]:
    """The forty documents, by source."""
    return tuple(_read_document(path) for path in sorted(FOLDER.glob("*/*.md")))


@cache
def golden_questions() -> tuple[GoldenQuestion, ...]:
    """The sixty questions, by id. Five texts are asked by two users who must get different answers."""
    entries = _read_toml("questions", file="golden")
    return tuple(GoldenQuestion(**{**entry, "documents": tuple(entry["documents"])}) for entry in entries)


def _read_toml(table: str, file: str | None = None) -> list[dict[str, Any]]:
    content = tomllib.loads((FOLDER / f"{file or table}.toml").read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = content[table]
    return entries


def _read_document(path: Path) -> CorpusDocument:
    title, *paragraphs = path.read_text(encoding="utf-8").strip().split("\n\n")
    source = f"{path.parent.name}/{path.stem}"
    return CorpusDocument(source, title.removeprefix("# "), tuple(" ".join(text.split()) for text in paragraphs))
