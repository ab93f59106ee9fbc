"""A file's bytes read as a text: Markdown, plain text, HTML and PDF."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadDocument:
    """What a file says: its title, its text with headings as Markdown writes them, and what kind of file it was."""

    title: str
    text: str
    kind: str


def read_document(data: bytes, name: str, content_type: str | None = None) -> ReadDocument:
    """Read a file as a text that can be cut, embedded and stored.

    Args:
        name: the file's name; its ending says what it is, where ``content_type`` does not.

    Raises:
        CourseError: it cannot be read, or holds nothing to store.
    """
    raise NotImplementedError
