"""Small questions about nodes of libcst that several kinds of mistakes ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

Changed = tuple[str, cst.CSTNode]
"""What kind of mistake, and what stands in the node's place."""
Parents = tuple[cst.CSTNode, ...]
"""From the node's own parent outwards."""
HARMLESS = ("strict", "name")
"""Arguments that change nothing of a right answer: of a zip of equals, of a task."""


def code(node: cst.CSTNode) -> str:
    """The node as source."""
    return cst.Module(body=[]).code_for_node(node)


def expression(text: str) -> cst.BaseExpression:
    """Source as an expression, over several lines too where it is in brackets."""
    return cst.parse_expression(text)


def bracketed(node: cst.CSTNode) -> str:
    """The node as source that binds as one: in brackets, unless it is a name, a call or a literal."""
    text = code(node)
    simple = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Integer | cst.Subscript) and "\n" not in text
    return text if simple or getattr(node, "lpar", ()) else f"({text})"


def method(node: cst.CSTNode) -> str:
    """``"where"`` for ``statement.where(…)``; empty for anything else."""
    return node.func.attr.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) else ""


def function(node: cst.CSTNode) -> str:
    """``"and_"`` for ``and_(…)``; empty for anything else."""
    return node.func.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) else ""


def before_the_dot(node: cst.CSTNode) -> cst.BaseExpression:
    """``statement`` of ``statement.where(…)``."""
    assert isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)
    return node.func.value


def renamed(node: cst.Call, name: str) -> cst.Call:
    """The call, of another method or function."""
    target = node.func
    changed = target.with_changes(attr=cst.Name(name)) if isinstance(target, cst.Attribute) else cst.Name(name)
    return node.with_changes(func=changed)


def without(items: Sequence[cst.CSTNode], number: int) -> list[cst.CSTNode]:
    """Arguments or elements without one; the last one keeps no comma."""
    kept = [item for place, item in enumerate(items) if place != number]
    if kept and number == len(items) - 1:
        kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return kept


def positional(call: cst.Call) -> list[cst.Arg]:
    """The arguments that have no name."""
    return [argument for argument in call.args if argument.keyword is None and not argument.star]


def awaited(node: cst.CSTNode, parents: Parents) -> bool:
    """Whether the call itself is awaited, or entered by ``async with``."""
    return isinstance(parents[0], cst.Await | cst.WithItem)


def functions_around(parents: Parents) -> Iterator[cst.FunctionDef]:
    """The functions that the node is in, the innermost first."""
    for parent in parents:
        if isinstance(parent, cst.FunctionDef):
            yield parent


def is_docstring(node: cst.CSTNode) -> bool:
    """Whether a statement is nothing but a string."""
    return (
        isinstance(node, cst.SimpleStatementLine)
        and len(node.body) == 1
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, cst.SimpleString | cst.ConcatenatedString)
    )
