"""Mistakes made in SQL that stands in string literals, and values written into it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from course_lib import models
from tests.mutants.nodes import Changed, Parents, code, expression
from tests.mutants.sql_changes import changes_of
from tests.mutants.sql_tokens import looks_like_sql, tokens_of

LITERAL = re.compile(r"^([rRfFbBuU]*)(\"\"\"|'''|\"|')(.*)\2$", re.DOTALL)


def _in_sql(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """Every mistake that can be made inside of a literal that holds SQL."""
    found = _parts(node, parents)
    if found is None:
        return
    prefix, quote, text = found
    for kind, changed in changes_of(text):
        yield kind, expression(f"{prefix}{quote}{changed}{quote}")


def _written_in(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """``:email`` becomes ``'{email}'``, of the value that the statement is given for it."""
    found = _parts(node, parents)
    if found is None or not isinstance(node, cst.SimpleString):
        return
    _, quote, text = found
    given = _given(parents[-1])
    for token in tokens_of(text):
        if token.kind != "bind" or token.text[1:] not in given:
            continue
        before, after = (_escaped(part) for part in (text[: token.start], text[token.end :]))
        value = given[token.text[1:]]
        if "\n" not in value and not _is_id(value):
            yield "bind to f-string", expression(f"f{quote}{before}'{{{value}}}'{after}{quote}")


def _parts(node: cst.CSTNode, parents: Parents) -> tuple[str, str, str] | None:
    """(prefix, quotes, text) of a literal that holds SQL, unless it is a docstring."""
    if not isinstance(node, cst.SimpleString | cst.FormattedString) or isinstance(parents[0], cst.Expr):
        return None
    match = LITERAL.match(code(node).strip("()"))
    if match is None or not looks_like_sql(match[3]):
        return None
    return match[1], match[2], match[3]


def _given(root: cst.CSTNode) -> dict[str, str]:
    """What each key of a dictionary within ``root`` stands for, as source."""
    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString):
            found[str(node.key.evaluated_value)] = code(node.value)
        waiting.extend(node.children)
    return found


def _is_id(value: str) -> bool:
    """Whether a value looks like a UUID, of whose text no SQL can be made."""
    return bool(re.search(r"(\b|_)(id|ID)$", value))


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _column_compared(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """``User.email == email`` becomes ``text(f"users.email = '{email}'")``."""
    if not isinstance(node, cst.Comparison) or len(node.comparisons) != 1:
        return
    part = node.comparisons[0]
    if not isinstance(part.operator, cst.Equal) or not isinstance(node.left, cst.Attribute):
        return
    table = getattr(getattr(models, code(node.left.value), None), "__tablename__", None)
    value = code(part.comparator)
    if table is None or re.match(r"[A-Z]", value) or '"' in value or "\n" in value or _is_id(value):
        return
    column = node.left.attr.value
    yield "bind to f-string", expression(f"""__import__("sqlalchemy").text(f"{table}.{column} = '{{{value}}}'")""")


def _as_a_pattern(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """``User.email == email`` becomes ``User.email.ilike(email)``."""
    if not isinstance(node, cst.Comparison) or len(node.comparisons) != 1:
        return
    part = node.comparisons[0]
    if isinstance(part.operator, cst.Equal) and isinstance(node.left, cst.Attribute):
        table = getattr(models, code(node.left.value), None)
        if table is not None and node.left.attr.value in ("email", "title", "source", "name", "prefix", "label"):
            yield "a pattern", expression(f"{code(node.left)}.ilike({code(part.comparator)})")


OPERATORS = (_in_sql, _written_in, _column_compared, _as_a_pattern)
