"""Mistakes made in SQL: from the text of a statement to (kind of mistake, changed text)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.mutants.sql_tokens import (
    AFTER_CONDITIONS,
    Token,
    clause_end,
    pieces,
    regions,
    tokens_of,
    without_piece,
)

Changed = tuple[str, str]
OWNER = re.compile(r"\buser_id\b|\bowner|\btenant|\bemail\b|User\.id\b|app\.user", re.IGNORECASE)
TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "<>", "<>": "=", "!=": "="}
BOUNDS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
DISTANCES = {"<=>": "<->", "<->": "<=>", "<#>": "<=>"}
AFTER_ORDER = AFTER_CONDITIONS | {"ROWS", "RANGE"}
LITERALS = {"TRUE": "false", "FALSE": "true"}


def changes_of(sql: str) -> Iterator[Changed]:
    """Every single mistake that can be made in this SQL."""
    tokens = tokens_of(sql)
    for made in (_conditions, _order, _locks, _limits, _distinct, _joins, _words, _signs, _operands):
        yield from made(sql, tokens)


def drops_owner(text: str) -> bool:
    """Whether a condition is about whose rows they are."""
    return bool(OWNER.search(text))


def _cut(sql: str, tokens: list[Token], first: int, end: int) -> str:
    return sql[: tokens[first].start] + sql[tokens[end - 1].end :]


def _put(sql: str, token: Token, text: str) -> str:
    return sql[: token.start] + text + sql[token.end :]


def _conditions(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    for keyword, first, end in regions(tokens, {"WHERE", "HAVING"}, AFTER_CONDITIONS):
        text = sql[tokens[first].start : tokens[end - 1].end]
        alone = len(pieces(tokens, first, end, "AND")) == len(pieces(tokens, first, end, "OR")) == 1
        yield "drop the owner" if alone and drops_owner(text) else "drop WHERE", _cut(sql, tokens, keyword, end)
    for _, first, end in regions(tokens, {"WHERE", "HAVING", "ON", "(", "USING"}, AFTER_CONDITIONS):
        alternatives = pieces(tokens, first, end, "OR")
        for parts in (alternatives, *(pieces(tokens, *one, "AND") for one in alternatives)):
            for number in range(len(parts) if len(parts) > 1 else 0):
                a, b = parts[number]
                if a >= b:
                    continue
                piece = sql[tokens[a].start : tokens[b - 1].end]
                kind = "drop the owner" if drops_owner(piece) else "drop a condition"
                yield kind, without_piece(sql, tokens, parts, number)


def _order(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    for by, first, end in regions(tokens, {"BY"}, AFTER_ORDER):
        if tokens[by - 1].word != "ORDER":
            continue
        yield "drop ORDER BY", _cut(sql, tokens, by - 1, end)
        keys = pieces(tokens, first, end, ",")
        for number, (a, b) in enumerate(keys):
            if len(keys) > 1:
                yield "drop a key of ORDER BY", without_piece(sql, tokens, keys, number)
            direction = next((token for token in tokens[a:b] if token.word in ("ASC", "DESC")), None)
            if direction is None:
                last = next((token for token in tokens[a:b] if token.word == "NULLS"), None)
                place = last.start - 1 if last else tokens[b - 1].end
                yield "asc/desc", sql[:place] + " DESC" + sql[place:]
            else:
                yield "asc/desc", _put(sql, direction, "ASC" if direction.word == "DESC" else "DESC")


def _locks(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    words = [token.word for token in tokens]
    for index, token in enumerate(tokens):
        following = words[index + 1 : index + 3]
        if token.word == "FOR" and following[:1] in (["UPDATE"], ["SHARE"], ["NO"], ["KEY"]):
            yield "drop a lock", _cut(sql, tokens, index, clause_end(tokens, index, frozenset({";", "RETURNING"})))
            if following[:1] == ["UPDATE"]:
                yield "weaken a lock", _put(sql, tokens[index + 1], "SHARE")
        if token.word == "SKIP" and following[:1] == ["LOCKED"]:
            yield "weaken a lock", _cut(sql, tokens, index, index + 2)
            yield "weaken a lock", sql[: token.start] + "NOWAIT" + sql[tokens[index + 1].end :]
        if token.word == "NOWAIT":
            yield "weaken a lock", _put(sql, token, "")
        if re.match(r"pg_(try_)?advisory", token.text) and following[:1] == ["("]:
            closing = clause_end(tokens, index + 2, frozenset())
            yield "drop a lock", sql[: token.start] + "1" + sql[tokens[min(closing, len(tokens) - 1)].end :]


def _limits(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    for keyword, first, end in regions(tokens, {"LIMIT", "OFFSET"}, AFTER_CONDITIONS):
        yield "drop LIMIT", _cut(sql, tokens, keyword, end)
        if tokens[first].kind != "number":
            for sign in "+-":
                place = tokens[end - 1].end
                yield "shift a bound", f"{sql[:place]} {sign} 1{sql[place:]}"


def _distinct(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    for index, token in enumerate(tokens[:-1]):
        following = tokens[index + 1]
        if token.word == "DISTINCT" and following.word not in ("ON", "FROM"):
            yield "distinct", sql[: token.start] + sql[following.start :]
        if token.word == "SELECT" and following.word not in ("DISTINCT", "FROM", "1", "EXISTS", "COUNT"):
            yield "distinct", f"{sql[: token.end]} DISTINCT{sql[token.end :]}"
        if token.word == "COUNT" and following.text == "(" and tokens[index + 2].kind == "word":
            if tokens[index + 2].word != "DISTINCT":
                yield "distinct", f"{sql[: following.end]}DISTINCT {sql[following.end :]}"
            end = clause_end(tokens, index + 2, frozenset())
            yield "count rows", sql[: following.end] + "*" + sql[tokens[end - 1].end :]


def _joins(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        if token.word == "JOIN" and before is not None:
            if before.word in ("LEFT", "FULL", "RIGHT", "OUTER"):
                first = tokens[index - 2] if before.word == "OUTER" else before
                yield "inner/outer join", sql[: first.start] + sql[token.start :]
                if first.word == "FULL":
                    yield "inner/outer join", _put(sql, first, "LEFT")
            elif before.word != "CROSS":
                yield "inner/outer join", _put(sql, token, "LEFT JOIN")
        if token.word == "UNION":
            following = tokens[index + 1] if index + 1 < len(tokens) else token
            every = following.word == "ALL"
            yield "union", _put(sql, following, "") if every else _put(sql, token, "UNION ALL")


def _words(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    between = False
    for index, token in enumerate(tokens):
        before = tokens[index - 1].word if index else ""
        following = tokens[index + 1] if index + 1 < len(tokens) else token
        if token.word == "AND" and not between:
            yield "and/or", _put(sql, token, "OR")
        between = token.word == "BETWEEN" or (between and token.word != "AND")
        if token.word == "OR" and following.word != "REPLACE":
            yield "and/or", _put(sql, token, "AND")
        if token.word in LITERALS:
            yield "true/false", _put(sql, token, LITERALS[token.word])
        if token.word == "IS" and following.word == "NULL":
            yield "turn a comparison", _put(sql, token, "IS NOT")
        if token.word == "IS" and following.word == "NOT":
            yield "turn a comparison", _put(sql, following, "")
        if token.word in ("EXISTS", "IN") and before == "NOT":
            yield "turn a comparison", _put(sql, tokens[index - 1], "")
        if token.kind == "number" and token.text.isdigit() and before not in ("VECTOR", "HALFVEC"):
            yield "shift a bound", _put(sql, token, str(int(token.text) + 1))
            if int(token.text) > 0:
                yield "shift a bound", _put(sql, token, str(int(token.text) - 1))


def _signs(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    setting = False
    for token in tokens:
        setting = (setting or token.word == "SET") and token.word not in ("WHERE", "FROM", "RETURNING", ";")
        if token.kind != "sign":
            if token.text.endswith("_cosine_ops"):
                yield "another distance", _put(sql, token, token.text.replace("cosine", "l2"))
            continue
        if token.text in BOUNDS:
            yield "shift a bound", _put(sql, token, BOUNDS[token.text])
        if token.text in TURNED and not (setting and token.text == "="):
            yield "turn a comparison", _put(sql, token, TURNED[token.text])
        if token.text in DISTANCES:
            yield "another distance", _put(sql, token, DISTANCES[token.text])


def _operands(sql: str, tokens: list[Token]) -> Iterator[Changed]:
    for index, token in enumerate(tokens[1:-1], start=1):
        if token.kind != "sign" or token.text not in "-/+":
            continue
        left, right = tokens[index - 1], tokens[index + 1]
        if not all(side.kind in ("word", "number", "bind", "hole", "mark") for side in (left, right)):
            continue
        if left.text in ("(", ",") or right.text in (")", ","):
            continue
        if token.text == "+":
            yield "swap operands", _put(sql, token, "-")
        elif left.kind != "mark" and right.kind != "mark" and (index < 2 or tokens[index - 2].text != "."):
            swapped = f"{right.text} {token.text} {left.text}"
            yield "swap operands", sql[: left.start] + swapped + sql[right.end :]
        else:
            yield "swap operands", _put(sql, token, "+" if token.text == "-" else "*")
