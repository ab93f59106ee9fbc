"""Mistakes made with values: bounds, operands, comparisons, numbers, moments, and types."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from tests.mutants.nodes import HARMLESS, Changed, Parents, bracketed, code, expression, function, method

TURNED: dict[type[cst.BaseCompOp], tuple[type[cst.BaseCompOp], str]] = {
    cst.LessThan: (cst.GreaterThan, "turn a comparison"),
    cst.GreaterThan: (cst.LessThan, "turn a comparison"),
    cst.LessThanEqual: (cst.GreaterThanEqual, "turn a comparison"),
    cst.GreaterThanEqual: (cst.LessThanEqual, "turn a comparison"),
    cst.Equal: (cst.NotEqual, "turn a comparison"),
    cst.NotEqual: (cst.Equal, "turn a comparison"),
    cst.In: (cst.NotIn, "turn a comparison"),
    cst.NotIn: (cst.In, "turn a comparison"),
    cst.Is: (cst.IsNot, "turn a comparison"),
    cst.IsNot: (cst.Is, "turn a comparison"),
}
BOUNDS: dict[type[cst.BaseCompOp], type[cst.BaseCompOp]] = {
    cst.LessThan: cst.LessThanEqual,
    cst.LessThanEqual: cst.LessThan,
    cst.GreaterThan: cst.GreaterThanEqual,
    cst.GreaterThanEqual: cst.GreaterThan,
}
SWAPPED = (cst.Subtract, cst.Divide, cst.FloorDivide, cst.Modulo)
CONVERSIONS = ("str", "int", "float", "bool", "list", "tuple", "set", "dict", "sorted", "reversed", "round", "abs")


def _comparisons(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if not isinstance(node, cst.Comparison) or len(node.comparisons) != 1:
        return
    part = node.comparisons[0]
    sign = type(part.operator)
    if sign in BOUNDS:
        other = part.with_changes(operator=BOUNDS[sign]())
        yield "shift a bound", node.with_changes(comparisons=[other])
    if sign in TURNED:
        kind, name = TURNED[sign]
        yield name, node.with_changes(comparisons=[part.with_changes(operator=kind())])
    if code(part.comparator) == "None" and sign in (cst.Is, cst.IsNot):
        tested = bracketed(node.left)
        yield "truth for None", expression(f"(not {tested})" if sign is cst.Is else f"bool({tested})")


def _booleans(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.BooleanOperation):
        conjunction = isinstance(node.operator, cst.And)
        yield "and/or", node.with_changes(operator=cst.Or() if conjunction else cst.And())
        for side in (node.left, node.right):
            yield "drop a condition", side
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Not | cst.BitInvert):
        yield "turn a comparison", expression(f"({code(node.expression)})")
    if isinstance(node, cst.Name) and node.value in ("True", "False") and not _is_harmless(parents[0]):
        yield "true/false", cst.Name("False" if node.value == "True" else "True")


def _is_harmless(parent: cst.CSTNode) -> bool:
    return isinstance(parent, cst.Arg) and parent.keyword is not None and parent.keyword.value in HARMLESS


def _arithmetic(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.BinaryOperation):
        if isinstance(node.operator, SWAPPED) and not isinstance(node.left, cst.SimpleString):
            swapped = f"{bracketed(node.right)} {code(node.operator).strip()} {bracketed(node.left)}"
            yield "swap operands", expression(f"({swapped})")
        if isinstance(node.operator, cst.Add) and not _is_text(node):
            yield "swap operands", node.with_changes(operator=cst.Subtract())
        if isinstance(node.operator, cst.Multiply | cst.Divide):
            other = cst.Divide() if isinstance(node.operator, cst.Multiply) else cst.Multiply()
            yield "swap operands", node.with_changes(operator=other)
    if isinstance(node, cst.AugAssign) and isinstance(node.operator, cst.AddAssign | cst.SubtractAssign):
        other_sign = cst.SubtractAssign() if isinstance(node.operator, cst.AddAssign) else cst.AddAssign()
        yield "swap operands", node.with_changes(operator=other_sign)
        yield "drop an operand", cst.Assign([cst.AssignTarget(node.target)], node.value)


def _is_text(node: cst.BinaryOperation) -> bool:
    return any(isinstance(side, cst.SimpleString | cst.FormattedString | cst.List) for side in (node.left, node.right))


def _numbers(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.Integer):
        number = int(node.value.replace("_", ""), 0)
        for other in (number + 1, number - 1):
            if other >= 0:
                yield "shift a bound", cst.Integer(str(other))
        if number >= 10 or _is_option(parents):
            yield "scale an option", cst.Integer(str(number * 10))
            if number >= 10:
                yield "scale an option", cst.Integer(str(number // 10))
    if isinstance(node, cst.Float):
        yield "scale an option", cst.Float(repr(float(node.value) * 10))
        yield "scale an option", cst.Float(repr(float(node.value) / 10))
    if isinstance(node, cst.SimpleString) and re.fullmatch(r"[\"']\d+(ms|s|min)?[\"']", node.value):
        number = int(re.sub(r"\D", "", node.value))
        for other in (number * 10, number // 10, number + 1, number - 1):
            yield "scale an option", cst.SimpleString(re.sub(r"\d+", str(max(other, 0)), node.value))


def _is_option(parents: Parents) -> bool:
    return isinstance(parents[0], cst.Arg) and parents[0].keyword is not None


def _slices(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.Slice):
        for name in ("lower", "upper"):
            bound = getattr(node, name)
            if bound is not None and not isinstance(bound, cst.Integer):
                for sign in "+-":
                    yield "shift a bound", node.with_changes(**{name: expression(f"{bracketed(bound)} {sign} 1")})
        for name in ("lower", "upper"):
            if getattr(node, name) is not None:
                yield "shift a bound", node.with_changes(**{name: None}, step=None)
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        yield "swap operands", expression(bracketed(node.expression))
    if function(node) == "range" and isinstance(node, cst.Call) and not isinstance(node.args[-1].value, cst.Integer):
        last = node.args[-1]
        for sign in "+-":
            other = last.with_changes(value=expression(f"{bracketed(last.value)} {sign} 1"))
            yield "shift a bound", node.with_changes(args=[*node.args[:-1], other])
    if function(node) in ("min", "max") and isinstance(node, cst.Call):
        yield "swap operands", node.with_changes(func=cst.Name("max" if function(node) == "min" else "min"))


def _moments(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if not isinstance(node, cst.Call):
        return
    whole = code(node)
    if whole in ("datetime.now(UTC)", "datetime.now(timezone.utc)", "datetime.now(tz=UTC)"):
        yield "aware to naive", expression("datetime.now()")
        yield "aware to naive", expression("datetime.utcnow()")
    if whole == "func.now()":
        yield "aware to naive", expression("__import__('datetime').datetime.utcnow()")
    if method(node) == "astimezone" or (method(node) == "replace" and "tzinfo" in whole):
        assert isinstance(node.func, cst.Attribute)
        yield "aware to naive", node.func.value


def _conversions(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """What a value was made into or picked from is left out: ``float(d)``, ``email.lower()``, ``result.all()``."""
    if not isinstance(node, cst.Call):
        return
    if function(node) in CONVERSIONS and node.args and not node.args[0].star:
        inner = node.args[0].value
        yield "relax a type", expression(f"({code(inner)})")
    if method(node) and not node.args and not isinstance(parents[0], cst.Await | cst.WithItem | cst.Expr):
        assert isinstance(node.func, cst.Attribute)
        target = node.func.value
        if method(node) not in ("desc", "asc", "with_for_update") and code(target) not in ("func", "secrets", "uuid"):
            yield "drop a call", target
    if function(node) in ("zip", "sorted", "sum", "any", "all", "len") and len(node.args) == 1:
        others = {"any": "all", "all": "any"}
        if function(node) in others:
            yield "and/or", node.with_changes(func=cst.Name(others[function(node)]))


OPERATORS = (_comparisons, _booleans, _arithmetic, _numbers, _slices, _moments, _conversions)
