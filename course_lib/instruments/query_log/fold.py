"""Fold an SQL statement into one short line, and into the shape by which repeats are recognised.

The line is for reading: one line, placeholders without their casts, long column lists counted instead of listed.
The shape goes further: constants count as placeholders and lists of any length are alike, so that the statements of
a loop are equal whatever their parameters, as in PostgreSQL's own ``pg_stat_statements``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LISTED = 3  # so many values of an IN list are shown
NAMED = 4  # so many neighbouring columns are shown
LONGEST_CONSTANT = 40  # characters

TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<string> (?:[eEbBxX]|[uU]&)?'(?:[^']|'')*' | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$ )
    | (?P<placeholder> \$\d+ | %\(\w+\)s | %s )
      (?: :: (?:TIMESTAMP|TIME)(?:\(\d\))?\ WITH(?:OUT)?\ TIME\ ZONE (?:\[\])*
        | :: (?:DOUBLE\ PRECISION|CHARACTER\ VARYING|[A-Za-z_]\w*) (?:\([\d,\s]+\))? (?:\[\])* )?
    | (?P<number> \d+ (?:\.\d+)? (?:[eE][+-]?\d+)? )
    | (?P<word> (?:[^\W\d][\w$]*|"(?:[^"]|"")+") (?:\.(?:[^\W\d][\w$]*|"(?:[^"]|"")+"|\*))* )
    | (?P<sign> :: | (?: [<>=!~@\#^&|?*/+-] | %(?!\(\w+\)s|s\b) )+ | . )  # psycopg's placeholders stand close: a=%(b)s
    """,
    re.VERBOSE | re.DOTALL,
)

# SQLAlchemy's INSERT of many objects reads VALUES through a numbered subquery, to match the returned keys to objects
NUMBERED_VALUES = re.compile(r"SELECT p0.*? FROM \(VALUES (.*)\) AS imp_sen\(.*?\) ORDER BY sen_counter", re.DOTALL)
SAVEPOINT_NAME = re.compile(r" sa_savepoint_\d+$")
SENTINEL_COLUMN = re.compile(r", \S+ AS \w+__\d+$")


class Token(NamedTuple):
    kind: str
    text: str
    spaced: bool = False

    @property
    def keyword(self) -> str:
        return self.text.upper() if self.kind == "word" else ""


@lru_cache(maxsize=1024)
def line_of(sql: str) -> str:
    """The statement in one line, for reading."""
    return _Fold(shape=False).statement(sql)


@lru_cache(maxsize=1024)
def shape_of(sql: str) -> str:
    """The statement with everything folded in which the repeats of a loop differ."""
    return _Fold(shape=True).statement(sql)


@lru_cache(maxsize=1024)
def is_bulk(sql: str) -> bool:
    """True when one statement asks for many keys at once, or writes many rows."""
    return "×" in _Fold(shape=False, listed=1).statement(sql)


def tokens_of(sql: str) -> list[Token]:
    found, spaced = [], False
    for match in TOKEN.finditer(sql):
        kind = match.lastgroup if match.lastgroup != "tag" else "string"
        if kind == "space":
            spaced = True
            continue
        assert kind is not None
        found.append(Token(kind, match[kind], spaced))
        spaced = False
    return found


class _Fold:
    """One folding of one statement: it numbers the placeholders in reading order."""

    def __init__(self, *, shape: bool, listed: int = LISTED) -> None:
        self.shape = shape
        self.listed = listed
        self.numbers: dict[str, int] = {}

    def statement(self, sql: str) -> str:
        if NUMBERED_VALUES.search(sql):
            sql = SENTINEL_COLUMN.sub("", NUMBERED_VALUES.sub(r"VALUES \1", sql))
        return joined(self.fold(tokens_of(SAVEPOINT_NAME.sub("", sql))))

    def fold(self, tokens: list[Token]) -> list[Token]:
        folded: list[Token] = []
        at = 0
        while at < len(tokens):
            token, following = tokens[at], tokens[at + 1 : at + 2]
            opens = bool(following) and following[0].text in "(["
            if token.keyword in ("IN", "ARRAY") and opens:
                end = closing(tokens, at + 1)
                folded += [token, *self.values(tokens[at + 1 : end])]
            elif token.keyword == "VALUES" and opens:
                end = end_of_rows(tokens, at + 1)
                folded += [token, *self.rows(tokens[at + 1 : end])]
            elif token.keyword in ("SELECT", "RETURNING"):
                end = end_of_columns(tokens, at + 1)
                folded += [token, *self.columns(tokens[at + 1 : end])]
            elif token.keyword == "INTO" and [t.text for t in tokens[at + 2 : at + 3]] == ["("]:
                end = closing(tokens, at + 2)
                folded += [token, tokens[at + 1], *self.column_names(tokens[at + 2 : end])]
            else:
                end = at + 1
                folded.append(self.single(token))
            at = end
        return folded

    def single(self, token: Token) -> Token:
        if token.kind == "placeholder" or (self.shape and token.kind in ("string", "number")):
            key = token.text if token.text != "%s" and token.kind == "placeholder" else f"#{len(self.numbers)}"
            number = self.numbers.setdefault(key, len(self.numbers) + 1)
            return token._replace(text=f"${number}")
        if token.kind == "string" and len(token.text) > LONGEST_CONSTANT:
            return token._replace(text=token.text[: LONGEST_CONSTANT - 2] + "…'")
        return token._replace(text="%") if token.text == "%%" else token

    def values(self, group: list[Token]) -> list[Token]:
        """``(…)`` or ``[…]`` after IN and ARRAY; a subquery or an expression in it is folded as such."""
        inside = items(group[1:-1])
        if not inside or not all(is_constant(item) for item in inside):
            return [group[0], *self.fold(group[1:-1]), group[-1]]
        if not self.shape and len(inside) <= self.listed:
            return [self.single(token) for token in group]
        return [group[0], self.many(len(inside)), group[-1]]

    def rows(self, groups: list[Token]) -> list[Token]:
        rows = items(groups)
        if len(rows) == 1 and not self.shape and len(items(groups[1:-1])) <= NAMED:
            return self.fold(groups)
        first = groups[0]
        return [first, self.many(len(rows)), Token("sign", ")")]

    def many(self, count: int) -> Token:
        return Token("word", "…" if self.shape or count == 1 else f"… ×{count}")

    def columns(self, listed: list[Token]) -> list[Token]:
        """A SELECT or RETURNING list. Runs of plain columns are counted, expressions are shown."""
        folded: list[Token] = []
        run: list[list[Token]] = []
        for item in [*items(listed), []]:
            if is_column(item):
                run.append(item)
                continue
            if run:
                folded += [*separator(folded), *counted(run)]
                run = []
            if item:
                folded += [*separator(folded), *without_automatic_label(self.fold(item))]
        return folded

    def column_names(self, group: list[Token]) -> list[Token]:
        names = items(group[1:-1])
        if len(names) <= NAMED:
            return group
        return [group[0], Token("word", f"… {len(names)} columns"), group[-1]]


def closing(tokens: list[Token], opening: int) -> int:
    """The position after the bracket that closes the one at ``opening``."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += (tokens[at].text in ("(", "[")) - (tokens[at].text in (")", "]"))
        if depth == 0:
            return at + 1
    return len(tokens)


def end_of_rows(tokens: list[Token], at: int) -> int:
    end = closing(tokens, at)
    while [token.text for token in tokens[end : end + 2]] == [",", "("]:
        end = closing(tokens, end + 1)
    return end


def end_of_columns(tokens: list[Token], at: int) -> int:
    """The position of the FROM that ends a SELECT list, or of whatever else ends it."""
    while at < len(tokens) and tokens[at].text not in (")", "]", ";"):
        if tokens[at].text in ("(", "["):
            at = closing(tokens, at)
            continue
        keyword, before = tokens[at].keyword, tokens[at - 1].keyword
        if keyword in ("UNION", "INTERSECT", "EXCEPT", "WHERE", "LIMIT") or (
            keyword == "FROM" and before != "DISTINCT"
        ):
            break
        at += 1
    return at


def items(tokens: list[Token]) -> list[list[Token]]:
    """What the commas of the outermost level separate."""
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if depth == 0 and token.text == ",":
            found.append([])
        else:
            found[-1].append(token)
    return [item for item in found if item]


def is_constant(item: list[Token]) -> bool:
    """A value, or a row of values."""
    return all(
        token.kind in ("placeholder", "string", "number") or token.text in "(,)-" or token.keyword == "NULL"
        for token in item
    )


def is_column(item: list[Token]) -> bool:
    """``users.id`` or ``users.id AS id_1``; ``*`` is none, since it hides how many there are."""
    named = len(item) == 1 or (len(item) == 3 and item[1].keyword == "AS")
    return named and item[0].kind == "word" and not item[0].text.endswith("*")


def counted(run: list[list[Token]]) -> list[Token]:
    if len(run) > NAMED:
        return [Token("word", f"… {len(run)} columns …", spaced=True)]
    shown: list[Token] = []
    for item in run:
        shown += [*separator(shown), *without_automatic_label(item)]
    return shown


def without_automatic_label(item: list[Token]) -> list[Token]:
    """Drop a label that SQLAlchemy made up: ``users.id AS users_id``, ``count(*) AS count_1``."""
    if len(item) < 3 or item[-2].keyword != "AS":
        return item
    label, first = item[-1].text, item[0].text
    made_up = label == first.replace(".", "_") or re.fullmatch(re.escape(first.split(".")[-1]) + r"_+\d+", label)
    return item[:-2] if made_up else item


def separator(before: list[Token]) -> list[Token]:
    return [Token("sign", ",")] if before else []


def joined(tokens: list[Token]) -> str:
    text = ""
    for token in tokens:
        tight = not text or text.endswith(("(", "[")) or token.text in (")", "]", ",")
        text += token.text if tight or not token.spaced else f" {token.text}"
    return text.strip()
