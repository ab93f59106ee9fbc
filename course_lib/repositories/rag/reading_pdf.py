"""The text of a PDF, page by page, as far as it holds any, within bounds on what it unpacks to."""

from __future__ import annotations

import logging
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

LARGEST_PAGE = 5_000_000
"""Bytes that draw one page, unpacked: a few KB become gigabytes where somebody means harm."""

MOST_PAGES = 5_000
MOST_SECONDS = 120.0

_BROKEN = "{name} is a broken PDF, or one that cannot be read: {why}."
_PRINT = "Open it in a viewer, and print it to a new PDF."

logging.getLogger("pypdf").addHandler(logging.NullHandler())  # else what it mends on the way is written to stderr


def pdf_text(data: bytes, name: str, most: int) -> tuple[str, str]:
    """The document's title and the text of its pages, a blank line between them; little more than ``most`` characters.

    Raises:
        CourseError: it is encrypted or broken, or takes too long.
    """
    from pypdf import PdfReader
    from pypdf.errors import LimitReachedError, PyPdfError

    try:
        return _read(PdfReader(BytesIO(data)), name, most)
    except CourseError:
        raise
    except LimitReachedError as error:
        raise CourseError(f"{name} unpacks to more than is taken for one page.", _PRINT) from error
    except MemoryError:
        raise
    except (PyPdfError, Exception) as error:  # a parser of broken files raises whatever it stumbles over
        why = type(error).__name__ if not str(error) else " ".join(str(error).split())[:120].rstrip(".")
        raise CourseError(_BROKEN.format(name=name, why=why), _PRINT) from error


def _read(reader: PdfReader, name: str, most: int) -> tuple[str, str]:
    if reader.is_encrypted:
        raise CourseError(f"{name} is encrypted.", "Open it with its password, and print it to a new PDF.")
    if (pages := len(reader.pages)) > MOST_PAGES:
        raise CourseError(f"{name} has {pages:,} pages, and up to {MOST_PAGES:,} are taken (MOST_PAGES).", "Divide it.")
    began, length = monotonic(), 0
    texts: list[str] = []
    for page in reader.pages:
        if monotonic() - began > MOST_SECONDS:
            raise CourseError(f"{name} took longer than {MOST_SECONDS:.0f} s to read (MOST_SECONDS).", "Divide it.")
        texts.append(_page(page, name))
        length += len(texts[-1])
        if length > most:
            break
    title = reader.metadata.title if reader.metadata else None
    return title or "", "\n\n".join(text for text in texts if text)


def _page(page: PageObject, name: str) -> str:
    drawn = page.get_contents()
    if drawn is not None and len(drawn.get_data()) > LARGEST_PAGE:
        raise CourseError(f"A page of {name} unpacks to more than {LARGEST_PAGE:,} bytes (LARGEST_PAGE).", _PRINT)
    return "\n".join(line.rstrip() for line in page.extract_text().split("\n")).strip("\n")
