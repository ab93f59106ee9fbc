"""Names that others have written, as they can stand in a terminal and on a page: short, and nothing but letters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping

LONGEST = 24  # letters
STACKED = 2  # accents upon one letter; Vietnamese has two, and more climb over the lines above


def readable(name: str) -> str:
    """``name`` on one line, without control characters, turned directions and piles of accents."""
    kept, accents = "", 0
    for letter in unicodedata.normalize("NFC", name):
        accents = accents + 1 if unicodedata.combining(letter) else 0
        if accents <= STACKED:
            kept += letter if letter.isprintable() else " "
    kept = " ".join(kept.split())
    return kept if len(kept) <= LONGEST else f"{kept[: LONGEST - 1].rstrip()}…"


def shown_names(names: Mapping[str, str], class_name: str) -> dict[str, str]:
    """What learners are called, by role: the name they were given, or that of their role where there is none.

    Two who are called the same are told apart by their roles.
    """
    own = {role: readable(role.removeprefix(f"{class_name}_")) or "…" for role in names}
    given = {role: readable(name) or own[role] for role, name in names.items()}
    often = Counter(given.values())
    return {
        role: name if often[name] == 1 or name == own[role] else f"{name} ({own[role]})" for role, name in given.items()
    }
