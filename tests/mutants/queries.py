"""Mistakes made in statements of SQLAlchemy: conditions, order, limits, joins, locks and commits."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from tests.mutants.nodes import (
    Changed,
    Parents,
    awaited,
    before_the_dot,
    bracketed,
    code,
    expression,
    function,
    method,
    positional,
    renamed,
    without,
)
from tests.mutants.sql_changes import drops_owner

CONDITIONS = ("where", "filter", "filter_by", "having")
OTHER_JOIN = {"join": "outerjoin", "outerjoin": "join"}
OTHER_UNION = {"union": "union_all", "union_all": "union"}
OTHER_DISTANCE = {
    "cosine_distance": "l2_distance",
    "l2_distance": "cosine_distance",
    "max_inner_product": "l2_distance",
}
CHAIN = ("options", "group_by", "execution_options", "on_conflict_do_nothing", "on_conflict_do_update", "correlate")
FETCHING = {"scalars": "execute", "execute": "scalars", "stream_scalars": "stream"}


def _call(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if not isinstance(node, cst.Call):
        return
    name = method(node) or function(node)
    for made in (_conditions, _order, _limits, _locks, _joins, _transactions, _fetching):
        yield from made(node, name, parents)


def _conditions(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    if name in CONDITIONS and method(node):
        alone = len(node.args) == 1 and drops_owner(code(node.args[0]))
        yield "drop the owner" if alone else "drop WHERE", before_the_dot(node)
    if name in (*CONDITIONS, "and_", "or_", "all_", "any_") and len(node.args) > 1:
        for number, argument in enumerate(node.args):
            kind = "drop the owner" if drops_owner(code(argument)) else "drop a condition"
            yield kind, node.with_changes(args=without(node.args, number))
    if name == "and_" or name == "or_":
        yield "and/or", renamed(node, "or_" if name == "and_" else "and_")
    if name in ("is_", "is_not"):
        yield "turn a comparison", renamed(node, "is_not" if name == "is_" else "is_")
    if name in ("in_", "not_in"):
        yield "turn a comparison", renamed(node, "not_in" if name == "in_" else "in_")


def _order(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    if name in ("desc", "asc") and method(node) and not node.args:
        yield "asc/desc", before_the_dot(node) if name == "desc" else renamed(node, "desc")
    if name in ("desc", "asc") and function(node) and len(node.args) == 1:
        yield "asc/desc", renamed(node, "asc" if name == "desc" else "desc")
    if name != "order_by":
        return
    if method(node):
        yield "drop ORDER BY", before_the_dot(node)
    keys = positional(node)
    for number, key in enumerate(keys):
        if len(keys) > 1 and len(keys) == len(node.args):
            yield "drop a key of ORDER BY", node.with_changes(args=without(node.args, number))
        upwards = method(key.value) not in ("desc", "asc") and function(key.value) not in ("desc", "asc")
        if upwards and not isinstance(key.value, cst.SimpleString):
            down = key.with_changes(value=expression(f"{bracketed(key.value)}.desc()"))
            yield "asc/desc", node.deep_replace(key, down)


def _limits(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    if name in ("limit", "offset") and method(node) and node.args:
        yield "drop LIMIT", before_the_dot(node)
        amount = node.args[0]
        if not isinstance(amount.value, cst.Integer | cst.BinaryOperation):  # whose own numbers are changed
            for sign in "+-":
                other = amount.with_changes(value=expression(f"{bracketed(amount.value)} {sign} 1"))
                yield "shift a bound", node.deep_replace(amount, other)
    if name == "distinct" and method(node):
        yield "distinct", before_the_dot(node)
    if name == "select" and function(node) and node.args and "func." not in code(node):
        yield "distinct", expression(f"{code(node)}.distinct()")
    if name in ("count", "sum", "array_agg") and method(node) and len(node.args) == 1 and not node.args[0].star:
        counted = bracketed(node.args[0].value)
        yield "distinct", node.with_changes(args=[cst.Arg(expression(f"{counted}.distinct()"))])
        if name == "count" and "." in counted:
            yield "count rows", node.with_changes(args=[])


def _locks(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    if name == "with_for_update" and method(node):
        yield "drop a lock", before_the_dot(node)
        yield "weaken a lock", node.with_changes(args=[*node.args, cst.parse_expression("f(read=True)").args[0]])
        if "skip_locked" in code(node):
            yield "weaken a lock", expression(code(node).replace("skip_locked", "nowait"))
    if "advisory" in name and method(node) and code(node).startswith("func."):
        yield "drop a lock", expression("func.now()")


def _joins(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    if not method(node) or isinstance(before_the_dot(node), cst.SimpleString | cst.FormattedString):
        return
    if name in OTHER_JOIN:
        yield "inner/outer join", renamed(node, OTHER_JOIN[name])
        if len(node.args) == 1:
            yield "drop a join", before_the_dot(node)
    if name in OTHER_UNION:
        yield "union", renamed(node, OTHER_UNION[name])
    if name in OTHER_DISTANCE:
        yield "another distance", renamed(node, OTHER_DISTANCE[name])
    if name in CHAIN:
        yield f"drop {name}", before_the_dot(node)
    if name == "on_conflict_do_update":
        yield "drop a keyword", renamed(node, "on_conflict_do_nothing").with_changes(args=[])


def _transactions(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    if name == "begin" and method(node) and isinstance(parents[0], cst.WithItem):
        target = before_the_dot(node)
        if code(target).endswith("sessions"):
            yield "drop a commit", node.with_changes(func=target)
    if name == "commit" and method(node) and awaited(node, parents):
        yield "drop a commit", renamed(node, "flush")
        yield "drop a commit", renamed(node, "rollback")
    if name == "flush" and method(node) and awaited(node, parents):
        yield "commit too early", renamed(node, "commit")
    if name == "begin_nested" and method(node):
        yield "drop a savepoint", renamed(node, "begin")


def _fetching(node: cst.Call, name: str, parents: Parents) -> Iterator[Changed]:
    used = not isinstance(parents[1], cst.Expr) if len(parents) > 1 else True
    if name in FETCHING and method(node) and awaited(node, parents) and used:
        yield "rows for values", renamed(node, FETCHING[name])


def _tuple_of_conditions(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """``mine = (Job.id == id, Job.worker == worker)``, which a WHERE takes apart later."""
    if not isinstance(node, cst.Tuple) or len(node.elements) < 2:
        return
    values = [element.value for element in node.elements]
    if not all(isinstance(v, cst.Comparison) or method(v) in ("is_", "is_not", "in_", "not_in") for v in values):
        return
    for number, value in enumerate(values):
        kind = "drop the owner" if drops_owner(code(value)) else "drop a condition"
        kept = [element.with_changes(comma=cst.Comma()) for element in without(node.elements, number)]
        yield kind, node.with_changes(elements=kept)


OPERATORS = (_call, _tuple_of_conditions)
