"""Conditions as PostgreSQL writes them, made short enough to read and the same in every run."""

from __future__ import annotations

import re

LONGEST = 120  # characters
LONGEST_CONSTANT = 40

VECTOR = re.compile(r"'\[[^']*\]'::((?:half|sparse)?vec(?:tor)?)(?:\(\d+\))?")
OPAQUE = re.compile(r"'[^']*'::(uuid|bytea|timestamp with time zone|timestamp without time zone|date)\b(?!\[)")
ARRAY = re.compile(r"'\{([^']*)\}'::([\w ]+?)\[\]")
STRING = re.compile(r"'((?:[^']|'')*)'::(?:text|character varying|bpchar)\b(?!\[)")
SHORTER = {"timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp"}


def readable(expression: str) -> str:
    """Vectors, ids, times and long lists are left out, since they say nothing here and differ from run to run."""
    text = VECTOR.sub(r"'[…]'::\1", expression)
    text = OPAQUE.sub(lambda match: f"'…'::{SHORTER.get(match[1], match[1])}", text)
    text = ARRAY.sub(lambda match: f"'{{… ×{match[1].count(',') + 1}}}'::{match[2]}[]", text)
    text = without_outer_brackets(STRING.sub(_short_string, text))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _short_string(match: re.Match[str]) -> str:
    constant = match[1]
    return f"'{constant}'" if len(constant) <= LONGEST_CONSTANT else f"'{constant[: LONGEST_CONSTANT - 1]}…'"


def without_outer_brackets(text: str) -> str:
    """``(a = 1)`` becomes ``a = 1``; ``(a = 1) AND (b = 2)`` stays."""
    while text.startswith("(") and _closing(text) == len(text) - 1:
        text = text[1:-1]
    return text


def _closing(text: str) -> int:
    """The position of the bracket that closes the first one; those inside quotes do not count."""
    depth, quoted = 0, False
    for at, sign in enumerate(text):
        quoted ^= sign == "'"
        if not quoted:
            depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return at
    return -1
