"""Owners of documents: a plain address, some that a careless comparison takes for it, one with a quotation mark."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_hex
from typing import Any
from uuid import UUID

from course_lib.judging.asking import ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.quoting import article, quoted


@dataclass(frozen=True)
class Owner:
    """A user who may have documents."""

    id: UUID
    email: str


@dataclass(frozen=True)
class Owners:
    """To a pattern, or by their beginnings, ``lookalikes`` are ``plain``; ``quoted`` breaks SQL made by hand."""

    plain: Owner
    quoted: Owner
    lookalikes: list[Owner]


def expect_texts(attempt: Attempt, found: Any, other_items: str) -> list[str]:
    """``found``, if the answer returned a list of texts.

    Raises:
        Wrong: "nothing returned", "not a list", or ``other_items``: the exercise's name for a list of something else.
    """
    attempt.expect(found is not None, "nothing returned")
    attempt.expect(isinstance(found, list | tuple), "not a list", kind=article(found))
    odd = next((text for text in found if not isinstance(text, str)), "")
    attempt.expect(isinstance(odd, str), other_items, kind=article(odd))
    return list(found)


async def expect_nothing(attempt: Attempt, mistake: str, email: str, *arguments: Any) -> None:
    """Ask for somebody who has nothing: an empty list is the answer.

    Raises:
        Wrong: ``mistake``, with the numbers ``email`` and ``did``.
    """
    with calling_it(attempt, mistake, email=email, did="raised an error"):
        said = await ask(attempt, email, *arguments)
    empty = isinstance(said, list | tuple) and not said
    attempt.expect(empty, mistake, email=email, did=f"returned {quoted(said)}")


async def add_owners(attempt: Attempt) -> Owners:
    """Users without documents."""
    mark = token_hex(3)
    plain, quoted = f"m_ra.{mark}@example.org", f"o'hara.{mark}:x@example.org"
    emails = [plain, quoted, f"mara.{mark}@example.org", f"{plain}.uk", plain.removesuffix("rg"), f"a{plain}"]
    rows = await attempt.sql(
        "INSERT INTO users (email, name) SELECT unnest(CAST(:emails AS text[])), 'Mara' RETURNING id, email",
        emails=emails,
    )
    ids = {email: id for id, email in rows}
    first, second, *others = (Owner(ids[email], email) for email in emails)
    return Owners(first, second, others)
