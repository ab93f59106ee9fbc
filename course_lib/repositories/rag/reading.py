"""A file's bytes read as a text: Markdown, plain text, HTML and PDF.

Files come from people: mislabelled, encrypted, scanned, cut off in the middle, or made to do harm. What cannot be read
gets one sentence, before a model is asked or a row is written. Nothing in a file is executed or fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from course_lib.errors import CourseError
from course_lib.repositories.rag.reading_html import html_text
from course_lib.repositories.rag.reading_pdf import pdf_text

LARGEST_FILE = 20_000_000
"""Bytes of a file."""

LARGEST_TEXT = 5_000_000
"""Characters of a text, or of an HTML file with its tags: some 10,000 passages, and seconds to cut."""

TITLE = 200
"""Characters of a title at most."""

TOP = 10_000
"""Characters in which the first heading is the title."""

_KINDS = {
    ".md": "markdown", ".markdown": "markdown", ".txt": "text", ".text": "text",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf",
}  # fmt: skip
_TYPES = {
    "text/markdown": "markdown", "text/plain": "text", "text/html": "html", "application/xhtml+xml": "html",
    "application/pdf": "pdf",
}  # fmt: skip
_CALLED = {"markdown": "Markdown", "text": "plain text", "html": "HTML", "pdf": "a PDF"}
_PDF = b"%PDF-"
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.*?)[ \t\r#]*$", re.MULTILINE)


@dataclass(frozen=True)
class ReadDocument:
    """What a file says: its title, its text with headings as Markdown has them, and the kind of file it was."""

    title: str
    text: str
    kind: str


def read_document(data: bytes, name: str, content_type: str | None = None) -> ReadDocument:
    """Read a file as a text that can be cut, embedded and stored. ``kind``: markdown, text, html or pdf.

    Takes up to some seconds of this process's time, so a server has it done elsewhere.

    Args:
        name: the file's name; its ending says what the file is.
        content_type: says it where the name has no ending.

    Raises:
        CourseError: it is too large, of no kind that is read, not what its name says, encrypted, broken, or holds no
            text; or its text has a NUL, which PostgreSQL does not store.
    """
    shown = PurePath(name.replace("\\", "/")).name[:TITLE] or "the file"
    if len(data) > LARGEST_FILE:
        raise CourseError(
            f"{shown} has {len(data):,} bytes, and up to {LARGEST_FILE:,} are taken (LARGEST_FILE).",
            "Divide it into several files.",
        )
    kind = _kind(data, shown, content_type)
    title, text = _READ[kind](data, shown)
    _check(text, shown)
    return ReadDocument(_title(title, text, shown), text, kind)


def _kind(data: bytes, name: str, content_type: str | None) -> str:
    declared = (content_type or "").partition(";")[0].strip().lower()
    suffix = PurePath(name).suffix.lower()
    kind = _KINDS.get(suffix) or ("" if suffix else _TYPES.get(declared, ""))
    if not kind:
        raise CourseError(
            f"{name} is of no kind that is read here.", "Markdown, plain text, HTML and PDF are: .md .txt .html .pdf"
        )
    if (kind == "pdf") != (_PDF in data[:1024]):
        holds = "does not hold one" if kind == "pdf" else "holds a PDF"
        raise CourseError(f"{name} is named as {_CALLED[kind]} and {holds}.", "Name it as what it is.")
    return kind


def _check(text: str, name: str) -> None:
    if len(text) > LARGEST_TEXT:
        raise _too_long(len(text), name)
    if (place := text.find("\0")) >= 0:
        raise CourseError(
            f"The text of {name} has a NUL after {place:,} characters, which PostgreSQL cannot store.",
            "Save it again as text in UTF-8; a PDF, print it to a new one.",
        )
    if not text.strip():
        raise CourseError(f"{name} holds no text.", "Of a scanned page, make text with OCR first.")


def _too_long(length: int, name: str) -> CourseError:
    return CourseError(
        f"{name} has a text of {length:,} characters or more, and up to {LARGEST_TEXT:,} are taken (LARGEST_TEXT).",
        "Divide it into several files.",
    )


def _title(given: str, text: str, name: str) -> str:
    """Its own title, else its first heading, else the file's name without the ending."""
    heading = _HEADING.search(text[:TOP])
    for title in (given, heading[1] if heading else "", PurePath(name).stem):
        found = " ".join(title.replace("\0", " ").split())
        if found:
            return found[:TITLE]
    return name


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CourseError(f"{name} is in UTF-16 or UTF-32, and UTF-8 is read.", "Save it again, with encoding UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CourseError(
            f"{name} is no text in UTF-8: byte {error.start:,} does not belong there.",
            "Save it again, with encoding UTF-8.",
        ) from None


def _read_text(data: bytes, name: str) -> tuple[str, str]:
    return "", _decode(data, name)


def _read_html(data: bytes, name: str) -> tuple[str, str]:
    source = _decode(data, name)
    if len(source) > LARGEST_TEXT:
        raise _too_long(len(source), name)
    return html_text(source, name)


def _read_pdf(data: bytes, name: str) -> tuple[str, str]:
    title, text = pdf_text(data, name, LARGEST_TEXT)
    if len(text) > LARGEST_TEXT:
        raise _too_long(len(text), name)
    return title, text


_READ: dict[str, Callable[[bytes, str], tuple[str, str]]] = {
    "markdown": _read_text, "text": _read_text, "html": _read_html, "pdf": _read_pdf,
}  # fmt: skip
