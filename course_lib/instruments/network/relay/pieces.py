"""The little of SQL that the relay has to understand: where one text holds several statements."""

from __future__ import annotations

import re

TOKEN = re.compile(
    rb"""[eE]'(?:[^'\\]|\\.|'')*' | '[^']*' | "[^"]*" | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*.*?\*/ | ;""",
    re.DOTALL | re.VERBOSE,
)
NOTHING = re.compile(rb"(?:\s+|--[^\n]*|/\*.*?\*/)*\Z", re.DOTALL)
TO_A_SAVEPOINT = re.compile(rb"\bTO\b", re.IGNORECASE)


def pieces_of(text: bytes) -> list[bytes]:
    """The statements in ``text``, one for each command that the server will complete."""
    if b";" not in text:
        return [text]
    ends = [match.start() for match in TOKEN.finditer(text) if match[0] == b";"]
    starts = [0, *(end + 1 for end in ends)]
    pieces = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    pieces = [piece.strip() for piece in pieces if not NOTHING.match(piece)]
    return pieces if len(pieces) > 1 else [text]


def is_begin(tag: bytes) -> bool:
    """True for the command tag of what opens a transaction."""
    return tag in (b"BEGIN", b"START TRANSACTION")


def is_end(tag: bytes, sql: bytes) -> bool:
    """True for the command tag of what ends one. Going back to a savepoint has the same tag as going back wholly."""
    return tag in (b"COMMIT", b"PREPARE TRANSACTION") or (tag == b"ROLLBACK" and not TO_A_SAVEPOINT.search(sql))
