"""SQL taken apart as far as changing it needs: tokens with their depth in brackets, clauses, lists.

Works on the text between the quotes of a literal, escapes and ``{holes}`` of f-strings included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]*)
  | (?P<text>'(?:[^']|'')*'|"[^"]*")
  | (?P<hole>\{\{|\}\}|\{[^{}]*\})
  | (?P<bind>(?<![:\w]):[A-Za-z_]\w*|\$\d+|%\(\w+\)s)
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign><=>|<->|<\#>|<\+>|->>|->|\|\||::|@@|@>|<=|>=|<>|!=|[-+*/%<>=])
  | (?P<mark>[(),;.\[\]])
    """,
    re.VERBOSE,
)
LOOKS_LIKE_SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|FROM|JOIN|ORDER BY|GROUP BY|LIMIT|RETURNING|CREATE|ALTER|SET"
    r"|SAVEPOINT|LOCK|EXISTS|AND|OR|BY|DESC|INTERVAL)\b|::\w|current_setting"
)
AFTER_CONDITIONS = frozenset(
    {
        *("GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING", "UNION", "INTERSECT", "EXCEPT"),
        *("WINDOW", "WHERE", "JOIN", "LEFT", "INNER", "RIGHT", "FULL", "CROSS", "WITH", "THEN", ";"),
    }
)


@dataclass(frozen=True)
class Token:
    """A piece of SQL from ``start`` to ``end``, within ``depth`` pairs of round brackets."""

    kind: str
    text: str
    start: int
    end: int
    depth: int

    @property
    def word(self) -> str:
        """A word in capitals, a mark as it is; nothing for literals and names in quotes."""
        return self.text.upper() if self.kind in ("word", "mark") else ""


def looks_like_sql(text: str) -> bool:
    """Whether the text of a literal is SQL or a part of it: keywords in capitals tell."""
    return bool(LOOKS_LIKE_SQL.search(text))


def tokens_of(sql: str) -> list[Token]:
    """All tokens but comments; what is no token is passed over."""
    found, depth = [], 0
    for match in TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "comment":
            continue
        depth -= text == ")"
        found.append(Token(kind, text, match.start(), match.end(), depth))
        depth += text == "("
    return found


def clause_end(tokens: list[Token], first: int, stops: frozenset[str]) -> int:
    """The index behind the clause whose first token is at ``first``: where its brackets or a next clause end it."""
    if first >= len(tokens):
        return first
    depth = tokens[first].depth
    for index in range(first, len(tokens)):
        token = tokens[index]
        if token.depth < depth or (token.depth == depth and token.word in stops):
            return index
    return len(tokens)


def pieces(tokens: list[Token], first: int, end: int, separator: str) -> list[tuple[int, int]]:
    """``tokens[first:end]`` divided at the separators of its own depth; the AND of a BETWEEN is none."""
    if first >= end:
        return []
    depth, start, between, found = tokens[first].depth, first, False, []
    for index in range(first, end):
        token = tokens[index]
        if token.depth != depth:
            continue
        between = between or token.word == "BETWEEN"
        if token.word != separator:
            continue
        if separator == "AND" and between:
            between = False
            continue
        found.append((start, index))
        start = index + 1
    return [*found, (start, end)]


def without_piece(sql: str, tokens: list[Token], parts: list[tuple[int, int]], number: int) -> str:
    """``sql`` without one piece and the separator beside it."""
    if number == 0:
        start, end = tokens[parts[0][0]].start, tokens[parts[1][0]].start
    else:
        start, end = tokens[parts[number - 1][1] - 1].end, tokens[parts[number][1] - 1].end
    return sql[:start] + sql[end:]


def regions(tokens: list[Token], keywords: set[str], stops: frozenset[str]) -> Iterator[tuple[int, int, int]]:
    """(keyword, first, end) of each clause that one of the keywords begins."""
    for index, token in enumerate(tokens):
        if token.word in keywords and index + 1 < len(tokens) and tokens[index + 1].text != ")":
            end = clause_end(tokens, index + 1, stops)
            if end > index + 1:
                yield index, index + 1, end
