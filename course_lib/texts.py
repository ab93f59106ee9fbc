"""Texts that a caller hands in: a list of them and not a single one, made of what can be sent, stored and shown."""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.errors import CourseError

LITERAL = 'class="mathjax_ignore tex2jax_ignore"'
"""For an element of a notebook's HTML. Without it ``$1`` and all up to ``$2`` is set as a formula: JupyterLab's MathJax
knows the first name, the one in exported pages the second. What stands in ``pre`` or ``code`` has no need of it."""


def check_list(texts: object, name: str) -> None:
    """Refuse one text in place of a list: Python would go through it letter by letter, and each would be stored."""
    if isinstance(texts, str | bytes):
        raise CourseError(
            f"{name} takes a list, and was given one text, which it would take letter by letter.",
            f"Write it in brackets: {name}=[text]",
        )


def check_sendable(text: str, name: str) -> None:
    """Refuse what has no bytes in UTF-8: a surrogate alone, as left where a text was cut between its two halves.

    ``name`` says what ``text`` is, as the subject of a sentence.
    """
    if not isinstance(text, str):
        raise CourseError(f"{name} is of type {type(text).__name__}, and a text is wanted.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CourseError(
            f"{name} has half a surrogate pair, {text[error.start]!a}, at position {error.start}.",
            'Join or replace it: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")',
        ) from None


def check_storable(text: str, name: str) -> None:
    """Refuse what PostgreSQL's ``text`` cannot hold: what ``check_sendable`` refuses, and the character NUL."""
    check_sendable(text, name)
    if (place := text.find("\0")) >= 0:
        raise CourseError(
            f"{name} has a NUL at position {place}, which PostgreSQL cannot store in a text.",
            r'Take it out: text.replace("\0", "")',
        )


def check_all_sendable(texts: Sequence[str], name: str) -> None:
    """``check_list`` and ``check_sendable`` for each."""
    check_list(texts, name)
    for position, text in enumerate(texts):
        check_sendable(text, f"{name}[{position}]")


def printable(text: str) -> str:
    """``text`` as it can stand in a terminal: a question mark for what moves a cursor or colours what follows."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
